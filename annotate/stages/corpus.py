"""The corpus: a source of documents in sharded Parquet files (or JSON lines, imported first)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Any, ClassVar, Literal

import pyarrow as pa

from annotate.amounts import counted, size
from annotate.arguments import as_location, as_tuple
from annotate.corpus.column_types import ColumnTypes
from annotate.corpus.columns import Columns
from annotate.corpus.documents import DocumentReader
from annotate.corpus.files import corpus_directory, find_files, is_jsonl
from annotate.corpus.footers import Footer
from annotate.corpus.imports import find_imported, import_lines
from annotate.corpus.listing import SAID, UNREADABLE, list_units
from annotate.corpus.source_files import PASS_OVER, SourceFile, UnreadableFile
from annotate.corpus.units import read_footers, units_of
from annotate.errors import ConfigError, InputError
from annotate.graph import Documents, Imports, Listing, Source, Stage
from annotate.graph.source import REFUSED, crash
from annotate.storage.manifests import OTHER_BYTES, Manifest, Unit, file_rows
from annotate.storage.store import Directory

UNIT_BYTES = 8 << 20
"""Bytes of text in a unit of a corpus that is read without a run."""
ONE_PATH = "Give one. Several files are a folder, or a glob: 'data/*.parquet'."


@dataclass(frozen=True)
class Corpus(Documents, Source):
    """Documents of a corpus.

        Corpus("data/*.parquet", text="content", id="url")

    Attributes:
        path: a file, a directory or a glob, local or a URL such as `s3://bucket/corpus/*.parquet`. Parquet, or JSON
            lines (`.jsonl`, `.ndjson`, `.json`, also with `.zst` or `.gz`), which a run imports first, whatever its
            limit.
        text: name of the text column.
        id: name of the id column (strings or integers), or None to name documents by shard and row.
        ids: "any" warns of repeated ids, "unique" makes them an error.
        columns: the other columns that travel to the shards; None for all. A column with a name that annotate uses
            (`row`, `id`, `text`, `problem`, `placements`, `gaps`, `phase`) is renamed to `corpus_row` and so on.
        unit_bytes: bytes of text that one work unit aims at. None to let the first run in a work directory choose, by
            the size of the files: 1/4,096 of it, as a power of 2, but 256 KiB at least and 64 MiB at most. The work
            directory keeps that size while the corpus grows.
        unreadable: what to do about a file that can't be read: stop with an "error", or "quarantine" it. If its footer
            can be read, but a page can't, the documents of that page's unit go to quarantine. If the page is of a
            column that only travels, the documents from there to the end of the unit do, in text shards only.
    """

    path: str | PathLike[str]
    _: KW_ONLY
    text: str = "text"
    id: str | None = "id"
    ids: Literal["any", "unique"] = "any"
    columns: Sequence[str] | None = None
    unit_bytes: int | None = None
    unreadable: Literal["error", "quarantine"] = "error"

    name: ClassVar[str] = "corpus"
    schema: ClassVar[str] = "corpus"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_location(self.path, "path", hint=ONE_PATH))  # not in the recipe
        if self.columns is not None:
            object.__setattr__(self, "columns", as_tuple(self.columns, "columns"))
        if self.unit_bytes is not None and self.unit_bytes < 1:
            raise ConfigError(f"unit_bytes must be at least 1, or None, got {self.unit_bytes}")
        if self.ids not in ("any", "unique"):
            raise ConfigError(f'ids must be "any" or "unique", got {self.ids!r}')
        if self.unreadable not in ("error", "quarantine"):
            raise ConfigError(f'unreadable must be "error" or "quarantine", got {self.unreadable!r}')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """A corpus is a source."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """The columns, and how units are cut. The path is not among them, so a corpus can be moved.

        Nor is a size of units that a run has chosen: it stays the same in a work directory.
        """
        return {
            "text": self.text,
            "id": self.id,
            "columns": list(self.columns) if self.columns is not None else None,
            "unit_bytes": self.unit_bytes,
            "unreadable": self.unreadable,
        }

    @functools.cached_property
    def directory(self) -> Directory:
        """The fixed part of the path, below which shards are named."""
        return corpus_directory(str(self.path))

    @property
    def outside(self) -> Directory:
        """The folder that a run must not write in: `directory`."""
        return self.directory

    def first_file(self) -> tuple[str, str, int]:
        """The first of its files."""
        file = self.files()[0]
        return file.directory.url, file.path, file.size

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def about(self) -> Mapping[str, str]:
        """The path where it was read."""
        return {"location": str(self.path)}

    def imports(self, directory: Directory) -> Imports:
        """JSON lines are imported; gives the Parquet files, and those that are passed over."""
        files = self.files()
        if not is_jsonl(files[0].shard):
            return files, {}
        return (yield from import_lines(self, directory, files))

    def imported(self, directory: Directory) -> tuple[list[SourceFile], dict[str, UnreadableFile]]:
        """The Parquet files.

        Raises:
            ConfigError: they are JSON lines that are not imported yet.
        """
        files = self.files()
        if not is_jsonl(files[0].shard):
            return files, {}
        found = find_imported(self, directory, files)
        if found is None:
            whole, n = size(sum(file.size for file in files)), len(files)
            raise ConfigError(
                f"{self.path} is JSON lines, {whole} in {counted(n, 'file')}: they must be imported first",
                hint="Run with --limit 1, which imports them all into a work directory; then plan, or tune with that "
                "--workdir.",
            )
        return found, {}

    def listing(
        self,
        new: Callable[[], Listing],
        found: tuple[list[SourceFile], dict[str, UnreadableFile]],
        inputs: Mapping[str, Iterator[Unit]],
        *,
        limit: int | None,
        readers: Mapping[str, str],
    ) -> Listing:
        """Read the footers of the files, and list the units."""
        del inputs
        return list_units(self, new, *found, limit=limit, readers=readers)

    def files(self) -> list[SourceFile]:
        """Find the corpus files, sorted by shard name."""
        return find_files(str(self.path))

    @functools.cached_property
    def _columns(self) -> Columns:
        return Columns(self.text, self.id, None if self.columns is None else tuple(self.columns))

    @functools.cached_property
    def reader(self) -> DocumentReader:
        """Reads the documents of a unit."""
        return DocumentReader(self._columns, self.directory, self.unit_size, self.unreadable == "quarantine")

    @property
    def unit_size(self) -> int:
        """Bytes of text that one work unit aims at: those that are set, else those that a run chose."""
        return self.unit_bytes if self.unit_bytes is not None else vars(self).get("_chosen", UNIT_BYTES)

    def measured(self, found: tuple[list[SourceFile], dict[str, UnreadableFile]]) -> int | None:
        """The size of its Parquet files, unless `unit_bytes` is set."""
        files, _ = found
        return sum(file.size for file in files) if self.unit_bytes is None else None

    def choose_unit_size(self, size: int) -> None:
        """Take the size that a run has chosen, and workers get it with the stage. It is no setting."""
        object.__setattr__(self, "_chosen", size)
        vars(self).pop("reader", None)  # it has the size

    def sizes(self, unit: Unit) -> tuple[int, int]:
        """The bytes that the footer of the unit's file states."""
        return unit.text_bytes, file_rows(unit).other_bytes

    def total(self, manifest: Manifest) -> tuple[int, int]:
        """The bytes that the footers of all files state."""
        return manifest.size, manifest.counts.get(OTHER_BYTES, 0)

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read the documents of a unit: row, id, text (null where there is a problem), problem."""
        return self.reader.documents(directory, unit, extra=())

    def read_all(self, directory: Directory, unit: Unit) -> None:
        """Read the documents of a unit, and the columns that travel."""
        self.read(directory, unit)
        for _ in self.reader.slices(directory, unit):
            pass

    def crashed(self, unit: Unit) -> InputError | None:
        """None with `unreadable="quarantine"`, else the error that names the file and the rows."""
        where = f"{self.directory.url}/{unit.shard}, rows {unit.start} to {unit.stop - 1}"
        hint = f"Write the file again, or {PASS_OVER}"
        return None if self.unreadable == "quarantine" else crash(where, hint)

    def footers(
        self,
        files: Sequence[SourceFile],
        types: ColumnTypes | None = None,
        readers: Mapping[str, str] | None = None,
        threads: int = 16,
    ) -> Iterator[tuple[SourceFile, Footer | UnreadableFile]]:
        """Stream the footers of its Parquet files, as `read_footers` does.

        Raises:
            InputError: a file can't be read, or is not like the others.
        """
        pass_over = self.unreadable == "quarantine"
        return read_footers(self._columns, files, types, readers, pass_over=pass_over, threads=threads)

    def units(
        self, file: SourceFile, footer: Footer, widened: Mapping[str, pa.DataType] | None = None
    ) -> Iterator[Unit]:
        """Cut one file into units, as `units_of` does."""
        return units_of(self._columns, file, footer, self.unit_size, widened)

    def notes(self, file: SourceFile, footer: Footer) -> list[str]:
        """Warnings about the columns of a file, as notes of the manifest."""
        return [SAID + said for said in self._columns.remarks(file, footer)]

    def described(self, manifest: Manifest) -> str:
        """How large it is."""
        units = "1 unit" if manifest.units == 1 else f"{manifest.units:,} units"
        return f"{counted(manifest.counts['documents'], 'document')}, {size(manifest.size)} of text, {units}"

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say which files were passed over, which columns are changed in the shards, and what a limit left."""
        unreadable = sorted(note for note in manifest.notes if note.startswith(UNREADABLE))
        remarks = sorted(note.removeprefix(SAID) for note in manifest.notes if note.startswith(SAID))
        if unreadable:
            files = "1 file" if len(unreadable) == 1 else f"{len(unreadable):,} files"
            was = "was" if len(unreadable) == 1 else "were"
            example = unreadable[0].removeprefix(UNREADABLE)
            remarks.append(f"{files} can't be read and {was} passed over, e.g. {example}")
        if refused := manifest.counts.get(REFUSED, 0):
            documents = "1 document" if refused == 1 else f"{refused:,} documents"
            remarks.append(
                f"{documents} of {self.path} in quarantine: a stage's worker ended when it worked on them alone"
            )
        if left := manifest.counts["documents"] - manifest.rows:
            remarks.append(
                f"--limit left {left:,} of {manifest.counts['documents']:,} documents of {self.path}: verdicts, "
                "calibration and thresholds are of the others"
            )
        return remarks
