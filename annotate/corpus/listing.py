"""The list of a corpus's units, from the footers of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Protocol

import pyarrow as pa

from annotate.corpus.column_types import ColumnTypes
from annotate.corpus.footers import Footer
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import InputError
from annotate.graph import Listing
from annotate.storage.manifests import Unit
from annotate.storage.store import Directory

UNREADABLE, SAID = "unreadable: ", "said: "  # how notes of the manifest begin


class ParquetFiles(Protocol):
    """What a listing knows of a corpus."""

    @property
    def path(self) -> str | PathLike[str]:
        """Where it is."""
        ...

    @property
    def directory(self) -> Directory:
        """The fixed part of the path, below which shards are named."""
        ...

    def footers(
        self, files: Sequence[SourceFile], types: ColumnTypes | None = None, readers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[SourceFile, Footer | UnreadableFile]]:
        """Stream the footers of files in order."""
        ...

    def units(
        self, file: SourceFile, footer: Footer, widened: Mapping[str, pa.DataType] | None = None
    ) -> Iterator[Unit]:
        """Cut one file into units."""
        ...

    def notes(self, file: SourceFile, footer: Footer) -> list[str]:
        """What is to be said of the columns of a file, as notes of the manifest."""
        ...


@dataclass
class _Selection:
    """Chooses units of a corpus: all; or the first of each shard in turn, until a number of documents is reached."""

    limit: int | None
    shards: list[list[Unit]] = field(default_factory=list)

    def chosen(self) -> Iterator[Unit]:
        reached, counts = 0, [0] * len(self.shards)
        for turn in range(max((len(units) for units in self.shards), default=0)):
            for i, units in enumerate(self.shards):
                if turn < len(units) and (self.limit is None or reached < self.limit):
                    reached += units[turn].stop - units[turn].start
                    counts[i] += 1
        for units, count in zip(self.shards, counts, strict=True):
            yield from units[:count]


def list_units(
    corpus: ParquetFiles,
    new: Callable[[], Listing],
    files: Sequence[SourceFile],
    unreadable: Mapping[str, UnreadableFile],
    *,
    limit: int | None,
    readers: Mapping[str, str],
) -> Listing:
    """Read the footers of a corpus and list its units.

    Args:
        corpus: the corpus.
        new: makes an empty listing.
        files: its Parquet files, sorted by shard name.
        unreadable: files that are passed over already, by shard name. Those whose footers can't be read come to them.
        limit: documents to reach; None for all.
        readers: the columns that stages read, each with the label of one that does.

    Raises:
        InputError: a file can't be read, or has no column that a stage reads; or the corpus has no rows.
    """
    footers = _Footers(corpus, files, limit, readers, dict(unreadable))
    listing = footers.listed(new(), {})
    if widened := footers.types.widened:
        # The units were listed before the types of later files were known. They are listed again, with the types.
        footers = _Footers(corpus, files, limit, readers, dict(unreadable))
        listing = footers.listed(new(), widened)
        if footers.types.widened != widened:
            raise InputError(f"files of {corpus.path} changed while they were being read", hint="Run again.")
    if footers.documents == 0:
        passed_over = sorted(footers.passed_over.items())
        raise InputError(
            f"{corpus.path} has no rows in {len(files)} file{'s' if len(files) != 1 else ''}, "
            f"{len(passed_over)} of them unreadable"
            + "".join(f"; {shard}: {error.reason(corpus.directory, shard)}" for shard, error in passed_over[:3]),
            hint="Check the corpus path, and what is in the files.",
        )
    types = {"types": {name: str(kind) for name, kind in sorted(widened.items())}} if widened else {}
    listing.known_by = [footers.documents, sorted(footers.passed_over), *types.items()]
    return listing


@dataclass
class _Footers:
    """The facts in the footers of a corpus: units, documents, files that are passed over, types of columns."""

    corpus: ParquetFiles
    files: Sequence[SourceFile]
    limit: int | None
    readers: Mapping[str, str]
    passed_over: dict[str, UnreadableFile]
    documents: int = 0
    types: ColumnTypes = field(default_factory=ColumnTypes)

    def listed(self, listing: Listing, widened: Mapping[str, pa.DataType]) -> Listing:
        """List the units. A unit records the `widened` type of each column that has another type in its file."""
        corpus = self.corpus
        notes: dict[str, None] = {}
        selection = _Selection(self.limit)
        for file, footer in corpus.footers(self.files, self.types, self.readers):
            if isinstance(footer, UnreadableFile):
                self.passed_over[file.shard] = footer
                continue
            notes |= dict.fromkeys(corpus.notes(file, footer))
            self.documents += footer.rows
            units = corpus.units(file, footer, widened)
            if self.limit is None:
                listing.add(units)
            else:
                selection.shards.append(list(units))
        listing.add(selection.chosen())
        for shard, error in sorted(self.passed_over.items()):
            listing.writer.count("unreadable_files", 1)
            listing.writer.note(f"{UNREADABLE}{shard}: {error.reason(corpus.directory, shard)}")
        for note in [*notes, *(SAID + said for said in self.types.said)]:
            listing.writer.note(note)
        listing.writer.count("documents", self.documents)
        return listing
