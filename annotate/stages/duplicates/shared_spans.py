"""Documents that share a long exact span of text, which puts them into one split group.

A document's fingerprints are hashes of some of its runs of tokens, chosen so that documents with a long run in common
have a fingerprint in common. A document is sent to the partitions of its fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import AGAINST, Documents, Map, Partitions, Received, Shuffle, Stage, Tables
from annotate.minhash.reference import Tokens
from annotate.stages.duplicates.candidates import unique_pairs
from annotate.stages.duplicates.documents import UInt64, copies_of, numbered, row_of, starts_of, unit_of, unlisted
from annotate.stages.duplicates.similarity import Similarity
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.text.arrays import one_array

COMMON = 50
"""A span in more documents joins none of them: it is boilerplate, such as a licence or a notice."""


@dataclass(frozen=True)
class Fingerprints(Map):
    """Fingerprints of documents. Two documents that share `span` tokens in a row share a fingerprint.

    Some that share half as many do too.

    Attributes:
        corpus: the documents.
        span: number of tokens, at least 2.
        tokens: what a token is, as in `Signatures`.
    """

    corpus: Documents
    span: int = 100
    tokens: Tokens = "words"

    name: ClassVar[str] = "fingerprints"
    schema: ClassVar[str] = "fingerprints"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    def settings(self) -> Mapping[str, Any]:
        """The length of a run, and what tokens are."""
        return {"span": self.span, "tokens": self.tokens}

    def unit(self, tables: Tables) -> UnitOutput:
        """Take the fingerprints of the documents of a unit."""
        from annotate.minhash.fingerprints import fingerprints

        documents = tables["corpus"]
        found, ends = once_each(*fingerprints(documents["text"], self.span, self.tokens))
        lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(found))
        return UnitOutput(pa.table([documents["row"], lists], schema=contract(self.schema).schema))


def once_each(found: UInt64, ends: npt.NDArray[np.int64]) -> tuple[UInt64, npt.NDArray[np.int64]]:
    """The fingerprints of each document, each once: a text that repeats itself has few."""
    document = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    order = np.lexsort((found, document))
    first = order[starts_of(document[order], found[order])]
    return found[first], np.append(0, np.cumsum(np.bincount(document[first], minlength=len(ends) - 1)))


@dataclass(frozen=True)
class KeptFingerprints(Map):
    """The fingerprints of documents that are kept: near-duplicates are in their keeper's group anyway.

    Attributes:
        fingerprints: of all documents.
        kept: each document of a cluster with its keeper.
    """

    fingerprints: Fingerprints
    kept: Similarity

    name: ClassVar[str] = "kept-fingerprints"
    schema: ClassVar[str] = "fingerprints"

    @property
    def corpus(self) -> Documents:
        """The corpus of the documents."""
        return self.fingerprints.corpus

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The fingerprints, the keepers, and the signatures, which say what is a copy."""
        signed = self.kept.documents.signatures
        return {"fingerprints": self.fingerprints, "kept": self.kept, "signatures": signed}

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def unit(self, tables: Tables) -> UnitOutput:
        """Leave out the fingerprints of near-duplicates."""
        table, kept = tables["fingerprints"], tables["kept"]
        member, keeper = kept["b"].to_numpy(), kept["a"].to_numpy()
        own = unit_of(member) == tables.number
        listed, near = row_of(member[own]), (member != keeper)[own]
        first = copies_of(tables["signatures"])
        copies, _ = unlisted(first, listed, near)
        left = np.ones(table.num_rows, bool)
        left[listed[near]] = left[copies] = False
        # Of copies in a unit, whose fingerprints are equal, the first stands for the one that is kept: the others are
        # in no pair, so a span that they share would join nothing.
        gone = np.ones(table.num_rows, bool)
        gone[first[left]] = False
        lists = pc.if_else(
            pa.array(gone), pa.scalar([], table.schema.field("fingerprints").type), table["fingerprints"]
        )
        return UnitOutput(pa.table([table["row"], lists], schema=contract(self.schema).schema))


@dataclass(frozen=True)
class SharedSpans(Shuffle):
    """Pairs of the earliest document with a fingerprint and each other one, if at most `COMMON` documents have it.

    Attributes:
        fingerprints: of the documents.
        against: of the documents of another corpus, whose units come after those of the first.
    """

    fingerprints: KeptFingerprints
    against: Fingerprints | None = None

    name: ClassVar[str] = "shared-spans"
    schema: ClassVar[str] = "pairs"
    sent_schema: ClassVar[str] = "sent-fingerprints"
    version: ClassVar[int] = 2

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The fingerprints."""
        behind = {f"{AGAINST}fingerprints": self.against} if self.against is not None else {}
        return {"fingerprints": self.fingerprints, **behind}

    def settings(self) -> Mapping[str, Any]:
        """In how many documents a span is common."""
        return {"common": COMMON}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each document to the partitions of its fingerprints; of a fingerprint, enough to show it is common."""
        lists = one_array(tables.sent["fingerprints"])
        key = lists.flatten().to_numpy()
        rows = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy())
        order = np.argsort(key, kind="stable")
        starts = starts_of(key[order])
        nth = np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))
        sent = np.sort(order[nth <= COMMON])
        key, rows = key[sent], rows[sent]
        columns = [(key % np.uint64(partitions.number)).astype(np.int32), key, numbered(tables.number, rows)]
        yield UnitOutput(pa.table([pa.array(column) for column in columns], schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Pair the documents of each fingerprint."""
        key, document = (received.sent[name].to_numpy() for name in ("key", "document"))
        order = np.lexsort((document, key))
        key, document = key[order], document[order]
        once = starts_of(key, document)
        key, document = key[once], document[once]
        starts = starts_of(key)
        sizes = np.diff(starts, append=len(key))
        first, size = np.repeat(document[starts], sizes), np.repeat(sizes, sizes)
        joined = (size <= COMMON) & (first != document)
        a, b = unique_pairs(first[joined], document[joined])
        table = pa.table([pa.array(a), pa.array(b)], schema=contract(self.schema).schema)
        yield UnitOutput(table, counts={"common_spans": int((sizes > COMMON).sum())})
