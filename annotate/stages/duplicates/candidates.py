"""Candidate pairs, by locality-sensitive hashing: documents that agree in a whole band of their signatures.

Each band of a document has a hash, and the document is sent to the partition of each hash. There, documents with the
same hash are a bucket. A document is paired with the first of its bucket and with the `NEIGHBOURS` before it, so the
work is linear in the size of the bucket. If several documents have the same signature, each is paired only with the
first of them. Exact copies, also those too short for a shingle, share a band of their own.

Of copies in one unit only the first is sent to all its partitions, and the second to that of the exact copies. The
others are the same to every comparison. So a page that a large part of a corpus consists of is at most two rows of each
unit, wherever it goes; `Members` counts its copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.graph import PARTITION_UNITS, Partitions, Received, Shuffle, Stage, Tables, partitions_of
from annotate.randomness import keyed_hash
from annotate.stages.duplicates.documents import SignedDocuments, UInt64, copies_of, matrix, numbered, starts_of
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput

NEIGHBOURS = 8
AT_ONCE = 1 << 18
"""Most documents that share something whose pairs are made at a time, and are one part: up to nine pairs for each."""
RECORD_BYTES = 28  # of a sent row
_EXACT, _TWIN = -1, -2  # seeds of the hash of an exact copy, and of a whole signature; no band has these seeds


@dataclass(frozen=True)
class Candidates(Shuffle):
    """Pairs of documents that may be near-duplicates.

    Attributes:
        documents: with their signatures.
        bands: numbers of bands and of rows in one, for each way of cutting the signatures.
    """

    documents: SignedDocuments
    bands: tuple[tuple[int, int], ...]

    name: ClassVar[str] = "candidates"
    schema: ClassVar[str] = "pairs"
    sent_schema: ClassVar[str] = "sent-band-hashes"
    version: ClassVar[int] = 2

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The signatures."""
        return self.documents.inputs()

    def settings(self) -> Mapping[str, Any]:
        """How signatures are cut."""
        return {"bands": self.bands, "neighbours": NEIGHBOURS, "partition_units": PARTITION_UNITS}

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """Enough partitions that each receives about `PARTITION_UNITS` times the bytes of a work unit."""
        del whole
        rows = sum(manifest.rows for manifest in manifests.values())
        sent = rows * (1 + sum(bands for bands, _ in self.bands)) * RECORD_BYTES
        return partitions_of(sent, self.documents.signatures.corpus.unit_size)

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each usable document to the partitions of its bands; of copies of it, one to that of exact copies."""
        from annotate.minhash.band_hashes import band_hashes

        table = tables.sent
        first = copies_of(table)
        leads = np.flatnonzero(table["usable"].to_numpy() & (first == np.arange(len(first))))
        copies = np.flatnonzero(first != np.arange(len(first)))
        seconds = copies[np.unique(first[copies], return_index=True)[1]]
        chosen = np.concatenate([leads, seconds])
        documents = numbered(tables.number, chosen)
        table = table.take(pa.array(chosen)) if len(seconds) or len(leads) < table.num_rows else table
        exact = keyed_hash(_EXACT, table["exact_high"].to_numpy(), table["exact_low"].to_numpy())
        has, values = matrix(table, self.documents.signatures.permutations)
        twin = exact.copy()
        twin[has] = band_hashes(values, 1, self.documents.signatures.permutations, _TWIN)[:, 0]
        keys, owners = [exact], [np.arange(len(documents))]
        has = has[has < len(leads)]
        values = values[: len(has)]
        for way, (bands, rows) in enumerate(self.bands):
            keys.append(band_hashes(values, bands, rows, way).ravel())
            owners.append(np.repeat(has, bands))
        key, owner = np.concatenate(keys), np.concatenate(owners)
        columns = [
            pa.array((key % np.uint64(partitions.number)).astype(np.int32)),
            pa.array(key),
            pa.array(documents[owner]),
            pa.array(twin[owner]),
        ]
        yield UnitOutput(pa.table(columns, schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Pair the documents of each bucket."""
        from annotate.minhash.shared_keys import maybe_shared

        key, document, twin = (received.sent[name].to_numpy() for name in ("key", "document", "twin"))
        shared = maybe_shared(key)
        order = shared[np.lexsort((document[shared], twin[shared], key[shared]))]
        key, document, twin = key[order], document[order], twin[order]
        heads = starts_of(key, twin)
        head = np.repeat(heads, np.diff(heads, append=len(key)))
        twins = np.delete(np.arange(len(key)), heads)
        by_bucket = in_buckets(key[heads], document[heads])
        # A page of millions of documents, or millions that share a band, give pairs in proportion: some at a time.
        for first in range(0, max(1, len(heads), len(twins)), AT_ONCE):
            some = twins[first : first + AT_ONCE]
            pairs = [(document[head[some]], document[some]), *bucket_pairs(*by_bucket, first, first + AT_ONCE)]
            a, b = unique_pairs(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
            yield UnitOutput(pa.table([pa.array(a), pa.array(b)], schema=contract(self.schema).schema))


def in_buckets(key: UInt64, document: UInt64) -> tuple[UInt64, UInt64]:
    """Keys of buckets and documents, in the order of both."""
    order = np.lexsort((document, key))
    return key[order], document[order]


def bucket_pairs(key: UInt64, document: UInt64, first: int = 0, stop: int | None = None) -> list[tuple[UInt64, UInt64]]:
    """Pairs of each document with the first of its bucket and the `NEIGHBOURS` before it.

    Args:
        key: of the buckets, sorted.
        document: sorted within each bucket.
        first: the first document whose pairs are given.
        stop: the one after the last; None for all.
    """
    start = np.searchsorted(key, key[first:stop])
    own = np.arange(first, first + len(start))
    far = own - start > NEIGHBOURS
    pairs = [(document[start[far]], document[own[far]])]
    for distance in range(1, NEIGHBOURS + 1):
        near = own[own - start >= distance]
        if not len(near):
            break
        pairs.append((document[near - distance], document[near]))
    return pairs


def unique_pairs(a: UInt64, b: UInt64) -> tuple[UInt64, UInt64]:
    """Each pair once, the smaller document first, in order."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    first = starts_of(a, b)
    return a[first], b[first]
