"""Refusals: notes of documents that end the workers of a stage, beside the dataset of their corpus.

A note is written once, by conditional create, and names the stage. A run reads those of the stages that it has: so a
stage whose settings have changed tries all documents again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
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
        stage: the dataset of the stage, whose name has the hash of the stage's settings.
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
    """Read the refusals of a corpus by some stages, which are given by their datasets.

    Raises:
        StorageError: one is damaged.
    """
    for path, _ in sorted(dataset.sizes(f"{layout.REFUSALS}/")):
        if layout.parse(path) is None:
            continue
        try:
            refusal = Refusal(**json.loads(dataset.get(path)))
        except (ValueError, TypeError) as error:
            raise StorageError(
                f"{dataset.url}/{path} is damaged: {error}",
                hint="Delete it: if its document still ends its worker, a run finds it again.",
            ) from error
        if refusal.stage in stages:
            yield refusal
