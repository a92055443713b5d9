"""Checks where a work directory lies, before anything is written there.

It lies not in the folder of a corpus, not over files that no run wrote, and not where only one node or job sees it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from annotate.corpus.written_by_runs import dataset_around
from annotate.engine import nodes
from annotate.engine.provenance import JOB
from annotate.errors import ConfigError, StorageError
from annotate.graph import Source, Stage
from annotate.storage.latest import read_latest
from annotate.storage.layout import FOLDERS, LATEST, LEDGER
from annotate.storage.marker import check_folder, datasets_in
from annotate.storage.store import Directory

_FILES = {LATEST: {"dataset", "fingerprint"}, LEDGER: {"documents", "states"}}

_ELSEWHERE = "Give a URL such as s3://bucket/out, or an absolute path on a disk that all nodes share."


def check_place(location: str) -> None:
    """Check that a work directory would outlive the Ray job that this process is the driver of, if it is.

    Ray starts the driver of a job in a temporary folder of the job, which it removes.

    Raises:
        ConfigError: the work directory is a relative path, or lies in a temporary folder of Ray.
    """
    local = Directory.at(location).local
    if JOB not in os.environ or local is None:
        return
    relative = "://" not in location and not Path(location).expanduser().is_absolute()
    if relative or "runtime_resources" in local.parts:
        raise ConfigError(
            f"the work directory {location!r} of this Ray job would be {local}, a temporary folder of Ray: it would be "
            "lost with the job",
            hint=_ELSEWHERE,
        )


def check_shared(workdir: Directory) -> None:
    """Check that the workers of all nodes see a local work directory, which has been made.

    Raises:
        ConfigError: a node does not see it.
    """
    if workdir.local is None or len(alive := nodes.alive()) < 2:
        return
    name = f".seen-{uuid.uuid4().hex}"  # removed below, so nobody else may have a file of this name
    path = workdir.local / name
    workdir.put(name, b"")

    def sees() -> bool:
        return path.is_file()

    try:
        blind = [alive[node] for node, found in nodes.on_each_node(sees).items() if not found]
    finally:
        workdir.delete([name])
    if blind:
        raise ConfigError(
            f"the work directory {workdir.url} is on the disk of one node: {len(blind)} of {len(alive)} nodes do "
            f"not see what this process writes there, such as {min(blind)}",
            hint=_ELSEWHERE,
        )


def check_workdir(workdir: Directory, stages: Iterable[Stage]) -> None:
    """Check what is in a work directory, before anything is written there.

    Raises:
        ConfigError: it is the folder of a corpus, or lies in a dataset of ours; or a corpus is where a run writes.
        StorageError: datasets or `latest.json` are of another version of annotate; or a file that no run wrote has a
            name that runs use.
    """
    if (around := dataset_around(workdir)) is not None:
        raise ConfigError(
            f"the work directory {workdir.url} lies in the dataset {around}", hint="Choose a folder outside of it."
        )
    marked = {name for name, marker in datasets_in(workdir).items() if marker is not None}
    for stage in stages:
        if stage.dataset not in marked:
            check_folder(workdir.child(stage.dataset))
        if isinstance(stage, Source) and stage.outside is not None:
            _check_corpus(workdir, stage.outside)
    for name, keys in _FILES.items():
        _check_file(workdir, name, keys)
    read_latest(workdir)


def _check_corpus(workdir: Directory, corpus: Directory) -> None:
    if corpus.url == workdir.url:
        raise ConfigError(
            f"the work directory {workdir.url} is the folder of a corpus",
            hint="Choose another folder: a corpus is read, and nothing is written beside it.",
        )
    for name in FOLDERS:
        if f"{corpus.url}/".startswith(f"{workdir.child(name).url}/"):
            raise ConfigError(
                f"the corpus {corpus.url} lies where a run in {workdir.url} writes files of its own",
                hint=f"Choose another work directory, or give the folder {name!r} another name.",
            )


def _check_file(workdir: Directory, name: str, keys: set[str]) -> None:
    """Refuse a file that a run would overwrite, if no run wrote it."""
    try:
        found = json.loads(workdir.get(name))
    except FileNotFoundError:
        return
    except ValueError:
        found = []
    # A dictionary by label or output. In older versions, the ledger is that of the only output.
    items = [found] if not isinstance(found, dict) or keys <= found.keys() else found.values()
    if not all(isinstance(item, dict) and keys <= item.keys() for item in items):
        raise StorageError(
            f"{workdir.url}/{name} is not what a run writes there, and a run would overwrite it",
            hint="Move it away, or choose another work directory. If a run wrote it and it is damaged, delete it.",
        )
