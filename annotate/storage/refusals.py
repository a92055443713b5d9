"""Refusals: notes of documents that end the workers of a stage, beside the dataset of their corpus.

A note is written once, by conditional create, and names the stage. A run reads those of the stages that it has: so if
the settings of a stage change, or of one that it reads, it tries all documents again. A note that names the source
itself says that the unit with this row can't be read: reading it ends the process.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.manifests import FileRows
from annotate.storage.store import Directory, checksum

REASON = "a process that worked on this document, and on no other, ended or took too long, twice"
"""The problem of a refused document. It has no stage, since it must not matter which of several came first."""


@dataclass(frozen=True, order=True)
class Refusal:
    """A document that ends the workers of a stage.

    Attributes:
        shard: its shard.
        row: its row.
        file: what tells the shard's file from others, as `file_identity` gives it.
        stage: a hash of the settings of the stage, and of all stages that its inputs come from.
    """

    shard: str
    row: int
    file: str
    stage: str


def file_identity(source: FileRows) -> str:
    """What tells the file of a unit from others, however it is cut into units."""
    return checksum(json.dumps([source.size, source.checksum, source.content]).encode())


def put_refusal(dataset: Directory, refusal: Refusal) -> None:
    """Write a refusal, unless it is there."""
    data = json.dumps(vars(refusal), sort_keys=True).encode()
    dataset.put_new(layout.refusal(checksum(data)[:24]), data)


def read_refusals(dataset: Directory, stages: Collection[str]) -> Iterator[Refusal]:
    """Read the refusals of a corpus by some stages, which are given by the hashes of their settings.

    Raises:
        StorageError: one is damaged, or is not what was written under its name.
    """
    paths = [path for path, _ in sorted(dataset.sizes(f"{layout.REFUSALS}/")) if layout.parse(path) is not None]
    with ThreadPoolExecutor(16) as pool:
        for path, data in zip(paths, pool.map(dataset.get, paths), strict=True):
            if (refusal := _read(dataset, path, data)).stage in stages:
                yield refusal


def _read(dataset: Directory, path: str, data: bytes) -> Refusal:
    try:
        if path != layout.refusal(checksum(data)[:24]):
            raise ValueError("its name is not the checksum of what it has")
        refusal = Refusal(**json.loads(data))
        if type(refusal.row) is not int or {type(refusal.shard), type(refusal.file), type(refusal.stage)} != {str}:
            raise ValueError("a field has a wrong type")
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"{dataset.url}/{path} is damaged: {error}",
            hint="Delete it: if its document still ends its worker, a run finds it again.",
        ) from error
    return refusal
