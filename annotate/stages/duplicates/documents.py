"""The documents that the filter compares. Each has a number: the position of its unit, and its row in the unit.

Numbers are in corpus order, so the smallest of a cluster is its earliest. The units of a second corpus, which this one
is filtered against, have higher numbers.
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
"""Prefix for the shards of the second corpus: both may have a shard of the same name."""
COMPARED = 4 << 20
"""Values of signatures that are compared at a time."""
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
    """The identity of a cluster or a split group: a hash of the shard and row of its earliest document only."""
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
        """The signatures, and with `corpus` also the corpora, by the names that `beside` has."""
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
    """Name of the input that is sent, and of the attribute that holds its stage."""

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The input that is sent; the signatures; and the corpus, if it is read."""
        sent: Stage = getattr(self, self.source)
        return {self.source: sent, **self.documents.inputs(corpus=self.reads_corpus)}

    @property
    def reads_corpus(self) -> bool:
        """Whether the corpus is read beside the signatures."""
        return False

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The signatures, and those of the other corpus."""
        names = ("signatures", "corpus") if self.reads_corpus else ("signatures",)
        return (names,) if self.documents.against is None else (names, tuple(AGAINST + name for name in names))


def copies_of(signatures: pa.Table) -> npt.NDArray[np.int64]:
    """For each document of a unit, the first one there that has the same exact hash and the same signature.

    A document that has no copy before it, or can't be used, is its own.

    Args:
        signatures: of a unit.

    Returns:
        Positions in the unit, int64 `[n]`.
    """
    high, low = (signatures[name].to_numpy() for name in ("exact_high", "exact_low"))
    order = np.lexsort((high, low))
    starts = starts_of(low[order], high[order])
    first = np.arange(len(order))
    first[order] = order[np.repeat(starts, np.diff(starts, append=len(order)))]
    first = np.where(signatures["usable"].to_numpy(), first, np.arange(len(first)))
    # Crafted texts can share the exact hash, which is no cryptographic one; their signatures would have to agree too.
    lists = one_array(signatures["signature"])
    ends, values = lists.offsets.to_numpy(), lists.values.to_numpy()
    sizes = np.diff(ends)
    copies = np.flatnonzero(first != np.arange(len(first)))
    length = int(sizes.max(initial=0))
    for some in np.array_split(copies, 1 + len(copies) * length // COMPARED):
        same = sizes[some] == sizes[first[some]]
        signed = np.flatnonzero(same & (sizes[some] > 0))
        within = np.arange(length)
        left, right = (values[ends[at[signed]][:, None] + within] for at in (some, first[some]))
        same[signed] = (left == right).all(axis=1)
        first[some[~same]] = some[~same]
    return first


def unlisted(
    first: npt.NDArray[np.int64], listed: npt.NDArray[np.int64], near: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The copies in a unit that `Members` did not list, each with a near-duplicate that has the same verdict.

    If some copies of a document are not listed, there is a near-duplicate among those that are.

    Args:
        first: what `copies_of` gives.
        listed: positions of the documents that are listed, int64 `[n]`.
        near: which of these are near-duplicates, bool `[n]`.

    Returns:
        Two arrays of positions, int64 `[m]`.
    """
    like = np.full(len(first), -1)
    like[first[listed[near]]] = listed[near]
    missing = like[first] >= 0
    missing[listed] = False
    return np.flatnonzero(missing), like[first[missing]]


def with_partition(table: pa.Table, to: npt.NDArray[np.int32]) -> pa.Table:
    """A table with the column `to`."""
    return table.add_column(0, pa.field("to", pa.int32(), nullable=False), pa.array(to))


def starts_of(*columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The start of each run of equal rows of sorted columns: int64."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def matrix(table: pa.Table, permutations: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """The rows that have a signature, int64 `[n]`, and their signatures, uint32 `[n, permutations]`."""
    signatures = one_array(table["signature"])
    has = np.flatnonzero(pc.list_value_length(signatures).to_numpy(zero_copy_only=False))
    return has, signatures.flatten().to_numpy().reshape(-1, permutations)
