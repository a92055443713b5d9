"""The similarity of pairs, in two shuffles: one adds the signature of the first document, the other compares the two.

A pair is sent to the range of its first document, where the signatures of that range are read, and then to the range of
its second. So a process holds the signatures of one unit at a time, and no pair needs a lookup. If several pairs of one
document go to the same range, only the first of them carries its signature. For exact similarity, hashes of the
document's shingles take the place of the signature.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import Partitions, Received, Stage, Tables
from annotate.stages.duplicates.documents import (
    OLDER,
    DocumentShuffle,
    SignedDocuments,
    range_of,
    row_of,
    starts_of,
    unit_of,
    with_partition,
)
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.text.arrays import one_array

AT_ONCE = 16 << 20  # bytes of signatures or sets that are compared at a time
Numbers = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]
"""Numbers of rows, one after the other, and how many each row has."""


@dataclass(frozen=True)
class FirstSigned(DocumentShuffle):
    """Pairs, each with the signature and the place of its first document.

    Attributes:
        documents: with their signatures.
        pairs: a stage whose rows have documents `a` and `b`, and perhaps a `cluster`, which is passed on.
        exact: whether the set of a document's shingles takes the place of its signature.
    """

    documents: SignedDocuments
    pairs: Stage
    exact: bool = False

    name: ClassVar[str] = "signed-pairs"
    schema: ClassVar[str] = "signed-pairs"
    sent_schema: ClassVar[str] = "sent-pairs"
    source: ClassVar[str] = "pairs"
    version: ClassVar[int] = 2

    @property
    def reads_corpus(self) -> bool:
        """Whether texts are read."""
        return self.exact

    def settings(self) -> Mapping[str, Any]:
        """Which pairs, and what they carry."""
        return {"pairs": self.pairs.name, "exact": self.exact}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a pair to the range of its first document."""
        del partitions
        table = tables.sent
        cluster = table["cluster"] if "cluster" in table.column_names else pa.nulls(table.num_rows, pa.uint64())
        columns = [pa.array(range_of(table["a"].to_numpy())), table["a"], table["b"], cluster]
        yield UnitOutput(pa.table(columns, schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Add signatures to the pairs, and drop repeats: one pair may come from many partitions."""
        a, b, cluster = (one_array(received.sent[name]) for name in ("a", "b", "cluster"))
        first, second = a.to_numpy(), b.to_numpy()
        order = np.lexsort((second, first))
        chosen = order[starts_of(first[order], second[order])]
        a, b, cluster = (column.take(pa.array(chosen)) for column in (a, b, cluster))
        documents = a.to_numpy()
        first_of_range = np.zeros(len(documents), bool)
        first_of_range[starts_of(documents, range_of(b.to_numpy()))] = True
        units = unit_of(documents)
        schema = contract(self.schema).schema
        tables = [schema.empty_table()]
        for unit in received.beside:
            start, stop = np.searchsorted(units, [unit.number, unit.number + 1]).tolist()
            if start == stop:
                continue
            rows, carries = row_of(documents[start:stop]), first_of_range[start:stop]
            signed = unit["signatures"].select(["row", "exact_high", "exact_low"]).take(pa.array(rows))
            values = compared(unit, rows[carries], self.documents, exact=self.exact)
            n = stop - start
            shard = unit.shard if unit.number < received.units else OLDER + unit.shard
            columns = [
                a.slice(start, n),
                b.slice(start, n),
                cluster.slice(start, n),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([shard])).cast(pa.string()),
                signed["row"],
                signed["exact_high"],
                signed["exact_low"],
                values.take(pa.array(np.cumsum(carries) - 1, mask=~carries)),
            ]
            tables.append(pa.table(columns, schema=schema))
        yield UnitOutput(pa.concat_tables(tables))


@dataclass(frozen=True)
class Similarity(DocumentShuffle):
    """Pairs with the Jaccard similarity of their shingles: the share of signature values that agree, or the exact one.

    Attributes:
        documents: with their signatures.
        pairs: with the signatures of their first documents.
        least: pairs with a lower similarity are left out.
    """

    documents: SignedDocuments
    pairs: FirstSigned
    least: float

    name: ClassVar[str] = "similarity"
    schema: ClassVar[str] = "similarity"
    sent_schema: ClassVar[str] = "sent-signed-pairs"
    source: ClassVar[str] = "pairs"
    version: ClassVar[int] = 3

    @property
    def reads_corpus(self) -> bool:
        """Whether texts are read."""
        return self.pairs.exact

    def settings(self) -> Mapping[str, Any]:
        """The least similarity."""
        return {"least": self.least, **self.pairs.settings()}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a pair to the range of its second document."""
        del partitions
        yield UnitOutput(with_partition(tables.sent, range_of(tables.sent["b"].to_numpy())))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Compare signatures. Exact copies have similarity 1, even if they are shorter than a shingle."""
        sent = received.sent
        carries = np.flatnonzero(sent["compared"].is_valid().to_numpy())
        carried = one_array(sent["compared"].take(pa.array(carries)))
        carriers = sent["a"].to_numpy()[carries]
        by_carrier = np.argsort(carriers)
        sent = sent.drop_columns(["compared"])
        order = np.lexsort((sent["a"].to_numpy(), sent["b"].to_numpy()))
        units = unit_of(sent["b"].to_numpy())[order]
        tables = [contract(self.schema).schema.empty_table()]
        for unit in received.beside:
            start, stop = np.searchsorted(units, [unit.number, unit.number + 1]).tolist()
            if start == stop:
                continue
            pairs = sent.take(pa.array(order[start:stop]))
            own = by_carrier[np.searchsorted(carriers, pairs["a"].to_numpy(), sorter=by_carrier)]
            similarity, same = self._compared(pairs, unit, carried, own)
            columns = [pairs["a"], pairs["b"], pa.array(similarity), *(pairs[n] for n in ("cluster", "shard", "row"))]
            columns.append(pa.array(same))
            near = pa.array(similarity >= np.float32(self.least))
            tables.append(pa.table(columns, schema=contract(self.schema).schema).filter(near))
        yield UnitOutput(pa.concat_tables(tables))

    def _compared(
        self, pairs: pa.Table, unit: Tables, carried: pa.LargeBinaryArray, own: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The similarity of pairs with documents of a unit, and which are exact copies; `[n]` each.

        Few pairs are compared at a time. `own` is the place in `carried` of each pair's first document.
        """
        distinct, places = np.unique(row_of(pairs["b"].to_numpy()), return_inverse=True)
        others = compared(unit, distinct, self.documents, exact=self.pairs.exact)
        hashes = unit["signatures"].select(["exact_high", "exact_low"]).take(pa.array(distinct[places]))
        copies = same_hashes(pairs, hashes)
        sizes = pc.binary_length(carried).to_numpy()[own] + pc.binary_length(others).to_numpy()[places]
        cuts = [*np.flatnonzero(np.diff(np.cumsum(sizes) // AT_ONCE, prepend=-1)).tolist(), len(own)]
        found = [
            jaccard(
                carried.take(pa.array(own[a:b])),
                others.take(pa.array(places[a:b])),
                copies[a:b],
                exact=self.pairs.exact,
            )
            for a, b in itertools.pairwise(cuts)
        ]
        similarity = np.concatenate(found)
        return similarity, copies & (similarity == 1)


def compared(
    unit: Tables, rows: npt.NDArray[np.int64], documents: SignedDocuments, *, exact: bool
) -> pa.LargeBinaryArray:
    """The bytes to compare, of documents of a unit: those of their signatures, or with `exact` of their sets.

    Lists of numbers would take ten times the memory on their way through Parquet, which keeps levels for each.

    Args:
        unit: with its signatures, and its corpus where that is read.
        rows: int64 `[n]`, counted from the start of the unit, rising; with repeats only for signatures.
        documents: with the settings of the signatures.
        exact: whether to compare sets of shingles.

    Returns:
        large_binary `[n]`.
    """
    if not exact:
        return _bytes(one_array(unit["signatures"]["signature"])).take(pa.array(rows))
    from annotate.minhash.documents import hash_texts

    distinct, places = np.unique(rows, return_inverse=True)
    texts = unit["corpus"]["text"].take(pa.array(distinct))
    settings = documents.signatures
    sets = _bytes(_sets(*hash_texts(texts, settings.shingle, tokens=settings.tokens)))
    return sets if len(distinct) == len(rows) else sets.take(pa.array(places))


def _bytes(lists: pa.ListArray) -> pa.LargeBinaryArray:
    """Lists of uint32 as bytes, without a copy."""
    values = lists.values
    offsets = (lists.offsets.to_numpy().astype(np.int64) + values.offset) * 4
    data = values.buffers()[1] or pa.py_buffer(b"")
    return pa.Array.from_buffers(pa.large_binary(), len(lists), [None, pa.py_buffer(offsets), data])


def _numbers(array: pa.LargeBinaryArray) -> Numbers:
    """The numbers behind bytes."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view(np.uint32), np.diff(ends) // 4


def _sets(hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64]) -> pa.ListArray:
    """The different hashes of each text, the upper halves in order: list<uint32>."""
    text = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
    different = np.unique(text << np.uint64(32) | hashes >> np.uint64(32))
    ends = np.searchsorted(different >> np.uint64(32), np.arange(len(offsets)))
    values = (different & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values))


def jaccard(
    left: pa.LargeBinaryArray, right: pa.LargeBinaryArray, copies: npt.NDArray[np.bool_], *, exact: bool
) -> npt.NDArray[np.float32]:
    """The similarity of documents side by side, as `compared` gives them; 1 for exact copies: float32 `[n]`.

    Signatures estimate it, with a standard deviation of sqrt(J (1 - J) / permutations). Sets of 32-bit hashes give it
    exactly but for collisions: of pairs of documents with 1,000 shingles each, one in 4,000 shares a hash by chance.

    Args:
        left: large_binary `[n]`.
        right: large_binary `[n]`.
        copies: bool `[n]`, which have the same exact hash.
        exact: whether sets are compared.
    """
    has, others = (pc.binary_length(each).to_numpy(zero_copy_only=False) > 0 for each in (left, right))
    share = np.zeros(len(has), np.float32)
    both = np.flatnonzero(has & others)
    if len(both):
        numbers = (_numbers(each.take(pa.array(both))) for each in (left, right))
        share[both] = (_exact if exact else _estimated)(*numbers)
    # Crafted texts can share the exact hash, which is no cryptographic one; their signatures would have to agree too.
    share[copies & (has == others) & (~has | (share == 1))] = 1
    return share


def same_hashes(left: pa.Table, right: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether documents side by side have the same exact hash: bool `[n]`."""
    high, low = (left[name].to_numpy() == right[name].to_numpy() for name in ("exact_high", "exact_low"))
    both: npt.NDArray[np.bool_] = high & low
    return both


def _estimated(left: Numbers, right: Numbers) -> npt.NDArray[np.float32]:
    """The share of equal values of signatures, all of one length."""
    values, other = (numbers.reshape(len(sizes), -1) for numbers, sizes in (left, right))
    share: npt.NDArray[np.float32] = (values == other).mean(axis=1, dtype=np.float32)
    return share


def _exact(left: Numbers, right: Numbers) -> npt.NDArray[np.float32]:
    """The size of the intersection of sets over that of their union."""
    a, b = (
        np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes) << np.uint64(32) | numbers.astype(np.uint64)
        for numbers, sizes in (left, right)
    )
    shared = np.intersect1d(a, b, assume_unique=True) >> np.uint64(32)
    common = np.bincount(shared.astype(np.int64), minlength=len(left[1]))
    return (common / (left[1] + right[1] - common)).astype(np.float32)
