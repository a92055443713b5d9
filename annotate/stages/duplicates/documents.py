"""The documents that the filter compares, and their numbers while it works: the place of their unit, their row in it.

The order of numbers is that of the corpus, so the smallest of a cluster is its earliest. The units of another corpus
that this one is compared against stand behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import AGAINST, RANGE_UNITS, Received, Shuffle, Stage
from annotate.randomness import keyed_hash, name_key
from annotate.stages.signatures import Signatures
from annotate.text.arrays import one_array

UInt64 = npt.NDArray[np.uint64]
OLDER = "against:"
"""What stands before the name of a shard of the other corpus: each may have a shard of one name."""
_ROW_BITS = np.uint64(32)


def numbered(unit: int, rows: npt.NDArray[np.integer]) -> UInt64:
    """Documents at these rows of a unit, counted from its start: uint64 `[n]`."""
    return rows.astype(np.uint64) | np.uint64(unit) << _ROW_BITS


def unit_of(documents: UInt64) -> npt.NDArray[np.int64]:
    """The number of each document's unit: int64 `[n]`."""
    return (documents >> _ROW_BITS).astype(np.int64)


def row_of(documents: UInt64) -> npt.NDArray[np.int64]:
    """The row of each document, counted from the start of its unit: int64 `[n]`."""
    return (documents & np.uint64(0xFFFFFFFF)).astype(np.int64)


def range_of(documents: UInt64) -> npt.NDArray[np.int32]:
    """The range that each document is in: int32 `[n]`."""
    return (unit_of(documents) // RANGE_UNITS).astype(np.int32)


def identity(shard: str, rows: npt.NDArray[np.int64]) -> UInt64:
    """What a cluster or a split group is known by: a hash of where its earliest document is, and of nothing else."""
    return keyed_hash(name_key(shard), rows)


def identities(documents: UInt64, received: Received) -> UInt64:
    """The identity of each of some documents of the partition: uint64 `[n]`."""
    found = np.zeros(len(documents), np.uint64)
    units = unit_of(documents)
    for unit in received.beside:
        mine = np.flatnonzero(units == unit.number)
        if len(mine):
            found[mine] = identity(unit.shard, row_of(documents[mine]) + unit.rows.start)
    return found


@dataclass(frozen=True)
class SignedDocuments:
    """The documents of a corpus and their signatures.

    Attributes:
        signatures: of the corpus.
        against: of another, whose documents win and get no verdicts.
    """

    signatures: Signatures
    against: Signatures | None = None

    def inputs(self, *, corpus: bool = False) -> Mapping[str, Stage]:
        """The signatures, and the corpora where their text or columns are read, by the names of `beside`."""
        stages: dict[str, Stage] = {
            "signatures": self.signatures,
            **({"corpus": self.signatures.corpus} if corpus else {}),
        }
        if self.against is None:
            return stages
        return {**stages, **SignedDocuments(self.against)._behind(corpus=corpus)}

    def _behind(self, *, corpus: bool) -> Mapping[str, Stage]:
        return {AGAINST + name: stage for name, stage in self.inputs(corpus=corpus).items()}


class DocumentShuffle(Shuffle):
    """A shuffle whose partitions are ranges of documents, with their signatures beside."""

    documents: SignedDocuments
    source: ClassVar[str] = ""
    """The input that is sent, and the attribute that holds its stage."""

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """What is sent; the signatures, and the corpus where it is read."""
        sent: Stage = getattr(self, self.source)
        return {self.source: sent, **self.documents.inputs(corpus=self.reads_corpus)}

    @property
    def reads_corpus(self) -> bool:
        """Whether the corpus is read beside the signatures."""
        return False

    @property
    def sources(self) -> tuple[tuple[str, ...], ...]:
        """One input, whatever it is called."""
        return ((self.source,),)

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The signatures, and those of the other corpus."""
        names = ("signatures", "corpus") if self.reads_corpus else ("signatures",)
        return (names,) if self.documents.against is None else (names, tuple(AGAINST + name for name in names))


def with_partition(table: pa.Table, to: npt.NDArray[np.int32]) -> pa.Table:
    """A table to be sent."""
    return table.add_column(0, pa.field("to", pa.int32(), nullable=False), pa.array(to))


def starts_of(*columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each run of equal rows begins, of sorted columns: int64."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def matrix(table: pa.Table, permutations: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """The rows that have a signature, int64 `[n]`, and these, uint32 `[n, permutations]`."""
    signatures = one_array(table["signature"])
    has = np.flatnonzero(pc.list_value_length(signatures).to_numpy(zero_copy_only=False))
    return has, signatures.flatten().to_numpy().reshape(-1, permutations)
