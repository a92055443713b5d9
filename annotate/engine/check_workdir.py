"""Checks where a work directory lies: not in the folder of a corpus, and not over files that no run wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable

from annotate.corpus.written_by_runs import dataset_around
from annotate.errors import ConfigError, StorageError
from annotate.graph import Source, Stage
from annotate.storage.latest import read_latest
from annotate.storage.layout import FOLDERS, LATEST, LEDGER
from annotate.storage.marker import check_folder, datasets_in
from annotate.storage.store import Directory

_FILES = {LATEST: {"dataset", "fingerprint"}, LEDGER: {"documents", "states"}}


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
