"""`latest.json`: which datasets of a work directory the last run left, by the label of their stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from annotate.errors import StorageError
from annotate.storage.manifests import Manifest, read_manifest, read_units
from annotate.storage.parts import read_part
from annotate.storage.store import Directory

LATEST = "latest.json"
BY_UNIT = {
    **{name: name for name in ("verdicts", "signatures", "spans", "annotations", "placements", "repeated-spans")},
    "nested-placements": "placements",
}
"""Contracts of the datasets that have the work units of the corpus, by the stage that made them."""

SHARDS = ("training-shards", "token-shards")


@dataclass(frozen=True)
class Latest:
    """One dataset that the last run left.

    `location` says where a corpus was read: the only place that does, since a recipe does not change with it.
    """

    label: str
    stage: str
    dataset: str
    recipe: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    location: str | None = None

    def manifest(self, workdir: Directory) -> Manifest:
        """Read its manifest.

        Raises:
            StorageError: it is gone.
        """
        manifest = read_manifest(workdir.child(self.dataset), self.fingerprint)
        if manifest is None:
            raise StorageError(f"{workdir.url}/{self.dataset} lost its manifest", hint="Run the pipeline again.")
        return manifest


def write_latest(workdir: Directory, datasets: list[Latest]) -> None:
    """Point at the datasets of a run."""
    data = {item.label: {k: v for k, v in vars(item).items() if k != "label" and v is not None} for item in datasets}
    workdir.put(LATEST, json.dumps(data, indent=1, sort_keys=True).encode())


def read_latest(workdir: Directory) -> list[Latest]:
    """What the last run left; nothing where there was none.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        data = workdir.get(LATEST)
    except FileNotFoundError:
        return []
    try:
        return [Latest(label=label, **fields) for label, fields in json.loads(data).items()]
    except (ValueError, TypeError) as error:
        raise StorageError(f"{workdir.url}/{LATEST} is damaged: {error}", hint="Run the pipeline again.") from error


def shards(workdir: str | Path, label: str | None = None) -> list[str]:
    """Paths, or URLs, of the training shards that the last run wrote, in the order in which they are trained on.

    This is what a trainer should read: a work directory may hold shards of earlier runs too.

    Args:
        workdir: the work directory.
        label: which shards, for a pipeline that renders several, as `annotate status` names them.

    Raises:
        StorageError: there are none, or several and no label says which.
    """
    directory = Directory.at(workdir)
    return list(_parts(directory, _shards(directory, label)))


def shard_tables(workdir: str | Path, label: str | None = None) -> Iterator[pa.Table]:
    """The tables of the training shards that the last run wrote, checked; in the order of `shards`."""
    directory = Directory.at(workdir)
    item = _shards(directory, label)
    dataset = directory.child(item.dataset)
    for unit in read_units(dataset, item.manifest(directory)):
        for entry in unit.entries:
            yield read_part(dataset, entry.part, schema=item.stage)


def shard_files(workdir: str | Path, label: str | None = None) -> str:
    """Path, or URL, of what lies beside token shards: `tokenizer`, which knows the tags, `tags.json` and `README.md`.

    Args:
        workdir: the work directory.
        label: which shards, as for `shards`.

    Raises:
        StorageError: there are none, or several and no label says which.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, label)
    return f"{directory.child(item.dataset).url}/{files_of(item.fingerprint)}"


def read_tags(files: str | Path) -> dict[str, Any]:
    """Read the `tags.json` of token shards.

    Args:
        files: what `shard_files` gives: a folder, or a URL.

    Raises:
        StorageError: there is none.
    """
    directory = Directory.at(files)
    try:
        card: dict[str, Any] = json.loads(directory.get("tags.json"))
    except FileNotFoundError:
        raise StorageError(
            f"{directory.url} has no tags.json: these are no token shards, or it was removed",
            hint="Run the pipeline with TokenShards, in the shipped one by --set tokenizer=...; the same run of token "
            "shards writes the file again.",
        ) from None
    return card


def files_of(fingerprint: str) -> str:
    """Where in a dataset's directory lies what goes with the dataset of a fingerprint."""
    return f"files/{fingerprint[:8]}"


def _shards(directory: Directory, label: str | None) -> Latest:
    found = [item for item in read_latest(directory) if item.stage in SHARDS and label in (None, item.label)]
    if not found:
        raise StorageError(f"there are no training shards in {directory.url}", hint="Run a pipeline to its end first.")
    if len(found) > 1:
        names = ", ".join(repr(item.label) for item in found)
        raise StorageError(f"{directory.url} has several training shards: {names}", hint="Name one of them.")
    return found[0]


def tables(workdir: str | Path, dataset: str) -> Iterator[pa.Table]:
    """The tables of a dataset that the last run left, a work unit at a time, in corpus order.

    Args:
        workdir: the work directory.
        dataset: its label, as `annotate status` names it: "verdicts", "signatures", "spans", "annotations (...)",
            "placements", "nested-placements", "repeated-spans".

    Returns:
        Tables as `schemas/` says, each with a column `shard` in front.

    Raises:
        StorageError: the last run left no such dataset, or a part is damaged.
    """
    directory = Directory.at(workdir)
    left = {item.label: item for item in read_latest(directory) if item.stage in BY_UNIT}
    if dataset not in left:
        known = ", ".join(left) or "none"
        raise StorageError(f"the last run in {directory.url} left no dataset {dataset!r}", hint=f"It left: {known}.")
    item = left[dataset]
    folder = directory.child(item.dataset)
    for unit in read_units(folder, item.manifest(directory)):
        for entry in unit.entries:
            table = read_part(folder, entry.part, schema=BY_UNIT[item.stage])
            yield table.add_column(0, "shard", pa.array([unit.shard] * table.num_rows, pa.string()))


def _parts(workdir: Directory, item: Latest) -> Iterator[str]:
    dataset = workdir.child(item.dataset)
    for unit in read_units(dataset, item.manifest(workdir)):
        yield from (f"{dataset.url}/{entry.part.path}" for entry in unit.entries)
