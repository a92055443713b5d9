"""The similarity of pairs, in two exchanges: the signature of the first document is put to a pair, then compared.

A pair goes to the range of its first document, where the signatures of that range are read, and then to the range of
its second. So no process needs signatures beyond those of one unit at a time, and no pair needs a lookup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.stages.base import Received, Stage
from annotate.stages.duplicates.documents import (
    DocumentExchange,
    Documents,
    matrix,
    range_of,
    row_of,
    starts_of,
    unit_of,
    with_partition,
)
from annotate.stages.tables import one_array
from annotate.storage.contracts import contract
from annotate.storage.parts import Output


@dataclass(frozen=True)
class FirstSigned(DocumentExchange):
    """Pairs, each with the signature and the place of its first document.

    Attributes:
        documents: with their signatures.
        pairs: a stage whose rows have documents `a` and `b`, and perhaps a `cluster`, which travels.
    """

    documents: Documents
    pairs: Stage

    name: ClassVar[str] = "signed-pairs"
    schema: ClassVar[str] = "signed-pairs"
    sent_schema: ClassVar[str] = "sent-pairs"
    source: ClassVar[str] = "pairs"

    def settings(self) -> Mapping[str, Any]:
        """Which pairs."""
        return {"pairs": self.pairs.name}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send a pair to the range of its first document."""
        del number, partitions
        cluster = table["cluster"] if "cluster" in table.column_names else pa.nulls(table.num_rows, pa.uint64())
        columns = [pa.array(range_of(table["a"].to_numpy())), table["a"], table["b"], cluster]
        return pa.table(columns, schema=contract(self.sent_schema).schema)

    def receive(self, received: Received) -> Output:
        """Put signatures to the pairs, and drop repeats: one pair may come from many partitions."""
        a, b, cluster = (one_array(received.sent[name]) for name in ("a", "b", "cluster"))
        first, second = a.to_numpy(), b.to_numpy()
        order = np.lexsort((second, first))
        chosen = order[starts_of(first[order], second[order])]
        a, b, cluster = (column.take(pa.array(chosen)) for column in (a, b, cluster))
        documents = a.to_numpy()
        units = unit_of(documents)
        schema = contract(self.schema).schema
        tables = [schema.empty_table()]
        for unit in received.beside:
            start, stop = np.searchsorted(units, [unit.number, unit.number + 1]).tolist()
            if start == stop:
                continue
            rows = pa.array(row_of(documents[start:stop]))
            signed = unit["signatures"].take(rows)
            n = stop - start
            columns = [
                a.slice(start, n),
                b.slice(start, n),
                cluster.slice(start, n),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([unit.shard])).cast(
                    pa.string()
                ),
                signed["row"],
                signed["exact_high"],
                signed["exact_low"],
                signed["signature"],
            ]
            tables.append(pa.table(columns, schema=schema))
        return Output(pa.concat_tables(tables))


@dataclass(frozen=True)
class Similarity(DocumentExchange):
    """Pairs with the estimated Jaccard similarity of their shingles: the share of signature values that agree.

    Attributes:
        documents: with their signatures.
        pairs: with the signatures of their first documents.
        least: pairs below are left out.
    """

    documents: Documents
    pairs: FirstSigned
    least: float

    name: ClassVar[str] = "similarity"
    schema: ClassVar[str] = "similarity"
    sent_schema: ClassVar[str] = "sent-signed-pairs"
    source: ClassVar[str] = "pairs"

    def settings(self) -> Mapping[str, Any]:
        """The least similarity."""
        return {"least": self.least, "pairs": self.pairs.pairs.name}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send a pair to the range of its second document."""
        del number, partitions
        return with_partition(table, range_of(table["b"].to_numpy()))

    def receive(self, received: Received) -> Output:
        """Compare signatures; exact copies have similarity 1, also where they are shorter than a shingle."""
        sent = received.sent
        documents = sent["b"].to_numpy()
        order = np.lexsort((sent["a"].to_numpy(), documents))
        units = unit_of(documents)[order]
        schema = contract(self.schema).schema
        tables = [schema.empty_table()]
        for unit in received.beside:
            start, stop = np.searchsorted(units, [unit.number, unit.number + 1]).tolist()
            if start == stop:
                continue
            pairs = sent.take(pa.array(order[start:stop]))
            signed = unit["signatures"].take(pa.array(row_of(pairs["b"].to_numpy())))
            similarity = estimated(pairs, signed, self.documents.signatures.permutations)
            near = pa.array(similarity >= np.float32(self.least))
            columns = [pairs[name] for name in ("a", "b")] + [pa.array(similarity)]
            columns += [pairs[name] for name in ("cluster", "shard", "row")]
            tables.append(pa.table(columns, schema=schema).filter(near))
        return Output(pa.concat_tables(tables))


def estimated(left: pa.Table, right: pa.Table, permutations: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Estimated Jaccard similarity of documents side by side: float32 `[n]`."""
    sides = []
    for table in (left, right):
        rows, signatures = matrix(table, permutations)
        has = np.zeros(table.num_rows, bool)
        has[rows] = True
        values = np.zeros((table.num_rows, permutations), np.uint32)
        values[rows] = signatures
        sides.append((has, values))
    (has, values), (others, other) = sides
    share = (values == other).mean(axis=1, dtype=np.float32) if len(has) else np.empty(0, np.float32)
    share[~(has & others)] = 0
    same = np.ones(len(has), bool)
    for name in ("exact_high", "exact_low"):
        same &= left[name].to_numpy() == right[name].to_numpy()
    # Crafted texts can share the exact hash, which is no cryptographic one; their signatures would have to agree too.
    same &= (has == others) & (~has | (share == 1))
    share[same] = 1
    return share
