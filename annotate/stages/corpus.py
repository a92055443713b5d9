"""The corpus: a source of documents in sharded Parquet files (or JSON lines, imported first)."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.corpus.column_types import ColumnTypes, Types, carried, travelling_type, types_note, types_told
from annotate.corpus.columns import id_type
from annotate.corpus.files import corpus_directory, find_files
from annotate.corpus.footers import Footer, cut, read_footer
from annotate.corpus.jsonl import PROBLEM
from annotate.corpus.rows import RowReader
from annotate.corpus.source_files import SourceFile, UnreadableFile, unsupported
from annotate.errors import ConfigError, InputError
from annotate.graph import Source, Stage
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Entry, Part
from annotate.storage.store import Directory
from annotate.text.arrays import beside, large_string, one_array
from annotate.text.utf8 import invalid_utf8

READ = ("row", "id", "text", "problem")
OURS = (*READ, "placements", "gaps", "phase")
PREFIX = "corpus_"
UNREADABLE, SAID = "unreadable: ", "said: "  # how notes of the manifest begin
FOOTERS = 1024  # read ahead at most


NO_ID = "the id is null"  # an integer column has no value that could name the document
OTHER_BYTES = "other_bytes"
"""What a unit counts: bytes of the columns that travel beside the text, as the footer states them."""
SLICES = 4  # of what travels, in the size of a unit's text


@dataclass(frozen=True)
class Slice:
    """The columns that travel, of some rows of a shard, and what is wrong with each row, null if nothing is."""

    rows: range
    table: pa.Table
    problem: pa.Array


@dataclass(frozen=True)
class Corpus(Source):
    """Documents of a corpus.

    Attributes:
        path: a file, a directory or a glob, local or a URL such as `s3://bucket/corpus/*.parquet`. Parquet, or JSON
            lines (`.jsonl`, `.ndjson`, `.json`, also with `.zst` or `.gz`), which a run imports first, whatever its
            limit.
        text: name of the text column.
        id: name of the id column (strings or integers), or None to name documents by shard and row.
        ids: "any" warns of repeated ids, "unique" makes them an error.
        columns: the other columns that travel to the shards; None for all. One that has a name of ours (`row`, `id`,
            `text`, `problem`, `placements`) travels as `corpus_row` and so on.
        unit_bytes: bytes of text that one work unit aims at; 8 MB suits one machine, 64 MB a cluster.
        unreadable: what to do about a file that can't be read: stop with an "error", or "quarantine" it. Of one whose
            footer can be read, but not its pages, the documents go to quarantine, by units; where only columns that
            travel are damaged, those of the unit from there on do, in text shards, which alone read them.
    """

    path: str
    text: str = "text"
    id: str | None = "id"
    ids: Literal["any", "unique"] = "any"
    columns: tuple[str, ...] | None = None
    unit_bytes: int = 8 << 20
    unreadable: Literal["error", "quarantine"] = "error"

    name: ClassVar[str] = "corpus"
    schema: ClassVar[str] = "corpus"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if "://" not in self.path:
            # Workers have another working directory than the driver; the path is not in the recipe.
            object.__setattr__(self, "path", str(Path(self.path).expanduser().absolute()))
        if self.unit_bytes < 1:
            raise ConfigError(f"unit_bytes must be at least 1, got {self.unit_bytes}")
        if self.ids not in ("any", "unique"):
            raise ConfigError(f'ids must be "any" or "unique", got {self.ids!r}')
        if self.unreadable not in ("error", "quarantine"):
            raise ConfigError(f'unreadable must be "error" or "quarantine", got {self.unreadable!r}')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """A corpus is a source."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """The columns and how units are cut; the path is not in it, so that a corpus can be moved."""
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
        return corpus_directory(self.path)

    def files(self) -> list[SourceFile]:
        """Find the corpus files, sorted by shard name."""
        return find_files(self.path)

    def footers(
        self,
        files: Sequence[SourceFile],
        types: ColumnTypes | None = None,
        readers: Mapping[str, str] | None = None,
        threads: int = 16,
    ) -> Iterator[tuple[SourceFile, Footer | UnreadableFile]]:
        """Stream the footers of Parquet files in order; the error stands for a file that is to be quarantined.

        Args:
            files: sorted by shard name.
            types: is told the types of each file's columns.
            readers: columns that stages read, each with the stage that does.
            threads: that read footers.

        Raises:
            InputError: a file can't be read, lacks a column, or has one that can't travel; or two files have different
                columns.
        """
        types = types if types is not None else ColumnTypes()
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(files), FOOTERS):
                some = files[start : start + FOOTERS]
                for file, footer in zip(some, pool.map(self._footer, some), strict=True):
                    if isinstance(footer, Footer):
                        self._check(file, footer)
                        self._check_read(file, footer, readers or {})
                        types.add(file, self._types(file, footer.schema, readers or {}))
                    yield file, footer

    def units(
        self, file: SourceFile, footer: Footer, widened: Mapping[str, pa.DataType] | None = None
    ) -> Iterator[Unit]:
        """Cut one file into units, which are told the types of those `widened` columns that the file has as others."""
        notes = {"imported": "yes"} if file.imported else {}
        if widened:
            notes |= types_note(self._types(file, footer.schema, widened), widened)
        for rows in cut(footer, self.unit_bytes):
            # There is no unit entry to name: the key says which units are best read together.
            key = "" if rows.row_group is None else f"{file.shard}#{rows.row_group}"
            part = Part(file.path, rows.stop - rows.start, rows.text_bytes, f"{footer.checksum}-{self.text}")
            counts = {OTHER_BYTES: rows.other_bytes} if rows.other_bytes else {}
            entry = Entry(key, part, counts=counts, notes=notes)
            yield Unit(file.shard, rows.start, rows.stop, rows.text_bytes, (entry,))

    def _footer(self, file: SourceFile) -> Footer | UnreadableFile:
        try:
            footer = read_footer(file, self.text, functools.partial(self._extra, file))
            for name in (self.id or self.text, *self._extra(file, footer.schema)):
                if name in footer.codecs:
                    raise unsupported(file, f"column {name!r} is compressed with {footer.codecs[name]}")
            return footer
        except UnreadableFile as error:
            if self.unreadable == "quarantine":
                return error
            raise

    def _check(self, file: SourceFile, footer: Footer) -> None:
        there = [name for name in footer.schema.names if not (file.imported and name == PROBLEM)]
        for column in [*([self.id] if self.id else []), *(self.columns or ())]:
            if column not in there:
                raise InputError(
                    f"{file} has no column {column!r}; it has: {', '.join(there)}",
                    hint="For documents without ids: --set id=none, or `annotate duplicates` without --id."
                    if column == self.id
                    else "Choose among these the columns that travel, as in --set columns=a,b.",
                )
        if self.id:
            kind = footer.schema.field(self.id).type
            if id_type(kind) is None:
                raise InputError(f"{file}: id column {self.id!r} has type {kind}, expected a string or an integer")
        extra = self._extra(file, footer.schema)
        clash = next((name for name in self._renamed(file, footer) if PREFIX + name in extra), None)
        if clash:
            raise InputError(
                f"{file}: the extra column {clash!r} has a name that this project uses, and there is a column "
                f"{PREFIX + clash!r} too, as which it would travel",
                hint="Choose the columns that travel with Corpus(columns=(...)).",
            )

    def _check_read(self, file: SourceFile, footer: Footer, readers: Mapping[str, str]) -> None:
        """Check that a file has the columns that stages read."""
        there = [name for name in footer.schema.names if not (file.imported and name == PROBLEM)]
        travelling = {PREFIX + name for name in self._renamed(file, footer)}
        for name, reader in readers.items():
            if name not in there and name not in travelling:
                near = difflib.get_close_matches(name, there, 1)
                raise InputError(
                    f"{file} has no column {name!r}, which the stage {reader!r} reads; it has: {', '.join(there)}",
                    hint=f"Did you mean {near[0]!r}?" if near else None,
                )

    def remarkable(self, file: SourceFile, footer: Footer) -> list[str]:
        """What is to be said of the columns of a file, as notes of the manifest."""
        extra = self._extra(file, footer.schema)
        said = [
            f"the column {name!r} travels as {PREFIX + name!r}: it has a name that this project uses"
            for name in self._renamed(file, footer)
        ]
        said += [
            f"the column {name!r} has timestamps of the type INT96: they travel in microseconds, what is finer is cut"
            for name in footer.int96
            if name in extra
        ]
        return [SAID + line for line in said]

    def _renamed(self, file: SourceFile, footer: Footer) -> list[str]:
        """The columns that travel under another name, as theirs is one of ours."""
        return [name for name in self._extra(file, footer.schema) if name in OURS]

    def _types(self, file: SourceFile, schema: pa.Schema, read: Iterable[str]) -> dict[str, Types]:
        """The types of the columns that travel or are read, by the names they travel by, and those of ids."""
        sources = {**self._sources(file, schema, None), **self._sources(file, schema, tuple(read))}
        own = {name: schema.field(source).type for name, source in sources.items() if source in schema.names}
        types = {name: (kind, travelling_type(file, sources[name], kind)) for name, kind in own.items()}
        if self.id:
            types["id"] = (schema.field(self.id).type, id_type(schema.field(self.id).type))
        return types

    def _extra(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The other columns that travel; all in order of name, as files may have them in different orders."""
        ours = (self.text, self.id, *([PROBLEM] if file.imported else []))
        names = sorted(schema.names) if self.columns is None else self.columns
        return [name for name in names if name not in ours]

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read the documents of a unit: row, id, text (null where there is a problem), problem."""
        return self.documents(directory, unit, extra=())

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Read the documents of a unit, with extra columns under the names they travel by.

        With `unreadable="quarantine"`, damage in the file is the problem of all documents of the unit. If only extra
        columns are damaged, these are null and the text is there: other stages could read it.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit)
        sources = self._wanted(file, reader.schema, extra)
        ours = [self.text, *([self.id] if self.id else []), *([PROBLEM] if file.imported else [])]
        table, errors = self._read(reader, unit, ours, [name for name in sources.values() if name not in ours])
        others, fault = _carried(file, unit, table, sources)
        text = large_string(table[self.text])
        problem = _problems(text)
        if file.imported:
            problem = pc.coalesce(table[PROBLEM].combine_chunks(), problem)
        ids, problem = self._ids(file, table, unit, problem)
        if problem.null_count < len(problem):
            text = pc.if_else(problem.is_null(), text, pa.scalar(None, text.type))
        if errors:
            reason = pa.scalar(_unread(file, errors[-1]))
            problem = pc.fill_null(problem, reason) if len(errors) == 1 else pa.repeat(reason, len(text))
        problem = pc.coalesce(problem, fault)  # other stages read no such column: the text stays
        rows = pa.array(np.arange(unit.start, unit.stop, dtype=np.int64))
        return beside(pa.table({"row": rows, "id": ids, "text": text, "problem": problem}), others)

    def _sources(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str] | None) -> dict[str, str]:
        """The columns of the file that are wanted, None for all that travel, by the names they travel by."""
        if extra is None:
            return {PREFIX + name if name in OURS else name: name for name in self._extra(file, schema)}
        plain = {PREFIX + name: name for name in OURS if PREFIX + name not in schema.names}
        return {name: plain.get(name, name) for name in extra if name not in OURS}

    def _wanted(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str]) -> dict[str, str]:
        """The columns of the file that are wanted, by the names they travel by.

        Raises:
            InputError: there is none of such a name.
        """
        sources = self._sources(file, schema, extra)
        renamed = next((name for name in extra if name in OURS and name not in READ), None)
        if renamed is not None:
            raise InputError(
                f"a column of {file} can't be read as {renamed!r}, a name that this project uses",
                hint=f"Read it as {PREFIX + renamed!r}, the name that it travels by.",
            )
        lost = [name for name in sources.values() if name not in schema.names]
        if lost:
            raise InputError(f"{file} has no column {lost[0]!r}; it has: {', '.join(schema.names)}")
        return sources

    def _read(
        self, reader: RowReader, unit: Unit, ours: Sequence[str], others: Sequence[str]
    ) -> tuple[pa.Table, list[UnreadableFile]]:
        """Read columns of a unit, with nulls for what is damaged, if it may be.

        Returns:
            The columns, and an error if some of the others could not be read, two if none at all could.
        """
        found: pa.Table | None = None
        errors: list[UnreadableFile] = []
        for columns in ([*ours, *others], ours):
            try:
                found = reader.read(unit.start, unit.stop, columns)
                break
            except UnreadableFile as error:
                if self.unreadable == "error":
                    raise
                errors.append(error)
        there = found.column_names if found is not None else []
        lost = {
            name: pa.chunked_array([pa.nulls(unit.stop - unit.start, reader.schema.field(name).type)])
            for name in (*ours, *others)
            if name not in there
        }
        return pa.table({**{name: found[name] for name in there if found is not None}, **lost}), errors

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Read columns of the documents of a unit by the names they travel by, and no text but where one names it.

        What is not valid UTF-8 is null; with `unreadable="quarantine"`, damaged values are, too.

        Raises:
            InputError: the file changed or is damaged, or has no such column.
        """
        if not set(names).isdisjoint(READ):
            return self.documents(directory, unit, extra=names).select(names)
        file, reader = self._source(directory, unit)
        sources = self._wanted(file, reader.schema, names)
        table = self._read(reader, unit, list(sources.values()), [])[0]
        return _carried(file, unit, table, sources)[0]

    def travelling(self, directory: Directory, unit: Unit) -> list[str]:
        """The columns that travel from the file of a unit, by the names they travel by.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit)
        return list(self._sources(file, reader.schema, None))

    def slices(self, directory: Directory, unit: Unit) -> Iterator[Slice]:
        """Stream the columns that travel, in slices of the rows of a unit: they can be many times as large as its text.

        Which slices there are depends on the unit and the footer. With `unreadable="quarantine"`, damage is the problem
        of all rows of the unit from the slice on that has it.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit, "travelling")
        sources = self._sources(file, reader.schema, None)
        columns = list(sources.values())
        if not columns:
            yield Slice(range(unit.start, unit.stop), pa.table({}), pa.nulls(unit.stop - unit.start, pa.string()))
            return
        for start, stop in reader.slices(unit.start, unit.stop, columns, max(1, self.unit_bytes // SLICES)):
            try:
                table = reader.read(start, stop, columns)
            except UnreadableFile as error:
                if self.unreadable == "error":
                    raise
                rows = unit.stop - start
                lost = pa.table({column: pa.nulls(rows, reader.schema.field(column).type) for column in columns})
                problem = pa.repeat(pa.scalar(_unread(file, error)), rows)
                yield Slice(range(start, unit.stop), _carried(file, unit, lost, sources)[0], problem)
                return
            yield Slice(range(start, stop), *_carried(file, unit, table, sources))

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read row and id of the documents of a unit that have an id, and no text; the corpus must have an id column.

        Ids that are not valid UTF-8 are left out, and with `unreadable="quarantine"` those that are damaged.

        Raises:
            InputError: the file changed or is damaged.
        """
        assert self.id is not None
        file, reader = self._source(directory, unit)
        table = self._read(reader, unit, [self.id], [])[0]
        ids = carried(file, table, {self.id: id_type(reader.schema.field(self.id).type)})[0][self.id]
        rows = pa.array(np.arange(unit.start, unit.stop, dtype=np.int64))
        return pa.table({"row": rows, "id": ids}).filter(ids.is_valid())

    def rows(self, directory: Directory, unit: Unit) -> int:
        """Documents in the file that a unit is of.

        Raises:
            InputError: the file changed or is damaged.
        """
        return self._source(directory, unit)[1].rows

    def columns_of(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Read columns of the documents of a unit by the names that the file has, and no text but where one says so.

        What is not valid UTF-8 is null; with `unreadable="quarantine"`, damaged values are, too.

        Raises:
            InputError: the file changed or is damaged, or has no such column; says which it has.
        """
        file, reader = self._source(directory, unit)
        there = [name for name in reader.schema.names if not (file.imported and name == PROBLEM)]
        for name in names:
            if name not in there:
                raise InputError(f"{file} has no column {name!r}; it has: {', '.join(there)}")
        table = self._read(reader, unit, names, [])[0]
        types = {name: travelling_type(file, name, reader.schema.field(name).type) for name in names}
        return pa.table(carried(file, table, types)[0])

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say which files were passed over, and how columns travel where that is not as they are."""
        unreadable = sorted(note for note in manifest.notes if note.startswith(UNREADABLE))
        remarks = sorted(note.removeprefix(SAID) for note in manifest.notes if note.startswith(SAID))
        if unreadable:
            files = "1 file" if len(unreadable) == 1 else f"{len(unreadable):,} files"
            was = "was" if len(unreadable) == 1 else "were"
            example = unreadable[0].removeprefix(UNREADABLE)
            remarks.append(f"{files} can't be read and {was} passed over, e.g. {example}")
        return remarks

    def _source(self, directory: Directory, unit: Unit, purpose: str = "text") -> tuple[SourceFile, RowReader]:
        entry = unit.entries[0]
        source = directory if "imported" in entry.notes else self.directory
        size = int(entry.part.checksum.partition("-")[0])
        file = SourceFile(source, entry.part.path, unit.shard, size)
        return file, _reader(file, "-".join(entry.part.checksum.split("-", 2)[:2]), purpose)

    def _ids(self, file: SourceFile, table: pa.Table, unit: Unit, problem: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Ids, named by shard and row where there is none."""
        ids = None
        if self.id:
            own, fault = carried(file, table, {self.id: id_type(table.schema.field(self.id).type)})
            ids, problem = one_array(own[self.id]), pc.coalesce(problem, fault)
        if ids is not None and ids.null_count == 0:
            return ids, problem
        if ids is not None and not pa.types.is_large_string(ids.type):
            # An integer column has no value that could name the row.
            no_id = pc.if_else(ids.is_null(), pa.scalar(NO_ID), pa.scalar(None, pa.string()))
            return ids.fill_null(0), pc.coalesce(problem, no_id)
        names = pa.array([f"{unit.shard}:{row}" for row in range(unit.start, unit.stop)], pa.large_string())
        return (names if ids is None else pc.coalesce(ids, names)), problem


def other_bytes(unit: Unit) -> int:
    """Bytes of the columns that travel from a unit beside the text, as the footer states them."""
    return unit.entries[0].counts.get(OTHER_BYTES, 0)


@functools.lru_cache(maxsize=2)
def _reader(file: SourceFile, footer_checksum: str, purpose: str) -> RowReader:
    """Keep the readers of the last file, so that the units of one row group decode it once.

    What travels has one of its own, as it is read in turns with the text: a reader is at one place.
    """
    del purpose
    return RowReader(file, footer_checksum)


def _carried(file: SourceFile, unit: Unit, table: pa.Table, sources: Mapping[str, str]) -> tuple[pa.Table, pa.Array]:
    """Columns of a file as what they travel as, by the names they travel by; and what is wrong with each row."""
    told = types_told(unit)
    types = {
        source: told.get(name) or travelling_type(file, source, table.schema.field(source).type)
        for name, source in sources.items()
    }
    columns, fault = carried(file, table, types)
    return pa.table({name: columns[source] for name, source in sources.items()}), fault


def _unread(file: SourceFile, error: UnreadableFile) -> str:
    """The problem of documents that can't be read."""
    return f"the file can't be read here: {error.reason(file.directory, file.shard)}"


def _problems(text: pa.Array) -> pa.Array:
    """Why texts cannot be used; null for those that can."""
    invalid = pa.array(invalid_utf8(text))
    valid = pc.if_else(invalid, pa.scalar(None, text.type), text) if pc.any(invalid).as_py() else text
    blank = pc.utf8_is_space(valid)
    empty = pc.equal(pc.binary_length(valid), 0)
    return pc.case_when(
        pc.make_struct(pc.is_null(text), invalid, pc.fill_null(empty, False), pc.fill_null(blank, False)),
        "the text is null",
        "the text is not valid UTF-8 (a lone surrogate, or another encoding)",
        "the text is empty",
        "the text has only blanks",
    )
