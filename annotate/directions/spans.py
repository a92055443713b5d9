"""Texts whose spans have tags, from a run: what directions are found in, and measured on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.reports import scored_documents
from annotate.storage.results import shard_tables

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

MOST = 1_000_000
"""Documents whose ids are held in memory at most."""


@dataclass(frozen=True, kw_only=True)
class TaggedSpans:
    """The spans of some documents, with their tags.

    Attributes:
        spans: by document, the text of each span. Together they are the document, or its beginning.
        tags: by document, the names of the tags of each span.
    """

    spans: Sequence[Sequence[str]]
    tags: Sequence[Sequence[Sequence[str]]]

    @staticmethod
    def of_run(workdir: str | PathLike[str], *, documents: int, output: str | None = None) -> TaggedSpans:
        """The first documents of a run that have scores.

        Args:
            workdir: of a finished run.
            documents: how many.
            output: token shards; only documents that are in them, of the first million. None: all.

        Raises:
            ConfigError: none of them has a tag.
            StorageError: the run has no scores, or no token shards of that name.
        """
        wanted = None if output is None else _documents_of(workdir, output)
        scored = (
            document
            for document in scored_documents(workdir, output=output)
            if document.spans and not document.note and (wanted is None or document.id in wanted)
        )
        found = list(itertools.islice(scored, documents))
        if not any(tags for document in found for tags in document.tags):
            raise ConfigError(
                f"none of the first {documents} documents of {workdir} has a tag",
                hint="Name a run that places tags, or look at more: --documents.",
            )
        return TaggedSpans(spans=[each.spans for each in found], tags=[each.tags for each in found])

    @property
    def texts(self) -> list[str]:
        """The documents."""
        return ["".join(spans) for spans in self.spans]

    @property
    def documents(self) -> Int64:
        """The document of each span: int64 `[n_spans]`."""
        return np.repeat(np.arange(len(self.spans)), [len(spans) for spans in self.spans])

    @property
    def table(self) -> pa.Table:
        """Where the spans are: `row` (the document), `byte_start` and `byte_end` in UTF-8, int64."""
        sizes = np.array([len(span.encode()) for spans in self.spans for span in spans], np.int64)
        ends, row = np.cumsum(sizes), self.documents
        starts = ends - sizes
        first = np.append(True, row[1:] != row[:-1])[: len(row)]
        of_document = np.repeat(starts[first], np.bincount(row, minlength=len(self.spans)))
        return pa.table({"row": row, "byte_start": starts - of_document, "byte_end": ends - of_document})

    def having(self, names: Sequence[str]) -> Bool:
        """Which spans have all of some tags: bool `[n_spans]`. None are asked for: which have no tag at all."""
        wanted = set(names)
        return np.array(
            [wanted <= set(tags) if wanted else not tags for document in self.tags for tags in document], bool
        )

    def sides(self, own: Sequence[str], against: Sequence[str]) -> tuple[Bool, Bool]:
        """Which spans have some tags, and which are set against them: bool `[n_spans]` each.

        These are the spans that have the opposite tags; if none are given, all that lack the tags.
        """
        having = self.having(own)
        return having, self.having(against) & ~having if against else ~having

    def where(self, chosen: Sequence[bool]) -> TaggedSpans:
        """The chosen documents; `chosen` has a value for each."""
        return TaggedSpans(
            spans=[spans for spans, kept in zip(self.spans, chosen, strict=True) if kept],
            tags=[tags for tags, kept in zip(self.tags, chosen, strict=True) if kept],
        )

    def cut(self, kept: Sequence[int]) -> TaggedSpans:
        """The first spans of each document; documents of which none is kept are left out."""
        return TaggedSpans(
            spans=[spans[:n] for spans, n in zip(self.spans, kept, strict=True) if n],
            tags=[tags[:n] for tags, n in zip(self.tags, kept, strict=True) if n],
        )


def _documents_of(workdir: str | PathLike[str], output: str) -> set[str]:
    """The ids of documents of token shards, of the first `MOST`."""
    ids: set[str] = set()
    for table in shard_tables(workdir, output):
        ids.update(pc.unique(pc.list_flatten(table["document_ids"])).cast(pa.string()).to_pylist())
        if len(ids) >= MOST:
            break
    return ids
