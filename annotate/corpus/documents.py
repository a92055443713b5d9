"""Reads the documents of a corpus, a unit at a time: text, ids, and other columns by the names they travel by."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.corpus.arrow_types import id_type
from annotate.corpus.column_types import carried, travelling_type, types_told
from annotate.corpus.columns import READ, Columns
from annotate.corpus.jsonl import PROBLEM
from annotate.corpus.rows import RowReader
from annotate.corpus.source_files import PASS_OVER, SourceFile, UnreadableFile
from annotate.errors import InputError
from annotate.graph import Slice
from annotate.storage.manifests import Unit, file_rows
from annotate.storage.refusals import REASON
from annotate.storage.store import Directory
from annotate.text.arrays import beside, large_string, one_array
from annotate.text.utf8 import invalid_utf8

NO_ID = "the id is null"  # an integer column has no value that could name the document
ENDS = UnreadableFile("a process that reads it ends, each time", hint=PASS_OVER)
"""Why a unit is not read, if it was noted as one that can't be."""
SLICES = 4  # a slice of the columns that travel has about a fourth of the bytes that a unit has of text


@dataclass(frozen=True)
class DocumentReader:
    """Reads the documents of a corpus.

    Attributes:
        columns: the columns that are read.
        directory: the folder of its files. Imported files lie in the folder of the dataset, which each method takes.
        unit_bytes: bytes of text that a unit aims at.
        pass_over: if true, damage in a file becomes the problem of its documents, or null; else it raises an error.
    """

    columns: Columns
    directory: Directory
    unit_bytes: int
    pass_over: bool

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Read the documents of a unit, with extra columns under the names they travel by.

        With `pass_over`, damage in the file becomes the problem of all documents of the unit. If only extra columns
        are damaged, they are null, and the text stays, since other stages can read it.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit)
        sources = self.columns.wanted(file, reader.schema, extra)
        ours = [
            self.columns.text,
            *([self.columns.id] if self.columns.id else []),
            *([PROBLEM] if file.imported else []),
        ]
        table, errors = self._read(reader, unit, ours, [name for name in sources.values() if name not in ours])
        others, fault = _carried(file, unit, table, sources)
        text = large_string(table[self.columns.text])
        problem = _problems(text)
        if file.imported:
            problem = pc.coalesce(table[PROBLEM].combine_chunks(), problem)
        if file_rows(unit).refused:
            problem = pc.if_else(_refused(unit), pa.scalar(REASON), problem)
        ids, problem = self._ids(file, table, unit, problem)
        if problem.null_count < len(problem):
            text = _without(text, problem.is_valid().to_numpy(zero_copy_only=False))
        if errors:
            reason = pa.scalar(_unread(file, errors[-1]))
            problem = pc.fill_null(problem, reason) if len(errors) == 1 else pa.repeat(reason, len(text))
        problem = pc.coalesce(problem, fault)  # the text stays, for stages that do not read the column
        rows = pa.array(np.arange(unit.start, unit.stop, dtype=np.int64))
        return beside(pa.table({"row": rows, "id": ids, "text": text, "problem": problem}), others)

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Read some columns of the documents of a unit, by the names they travel by; text only if it is among them.

        A string that is not valid UTF-8 is null. So are damaged values, with `pass_over`.

        Raises:
            InputError: the file changed or is damaged, or has no such column.
        """
        if not set(names).isdisjoint(READ):
            return self.documents(directory, unit, extra=names).select(names)
        file, reader = self._source(directory, unit)
        sources = self.columns.wanted(file, reader.schema, names)
        table = self._read(reader, unit, list(sources.values()), [])[0]
        return _carried(file, unit, table, sources)[0]

    def travelling(self, directory: Directory, unit: Unit) -> list[str]:
        """The names that the columns of a unit's file travel by.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit)
        return list(self.columns.sources(file, reader.schema, None))

    def slices(self, directory: Directory, unit: Unit) -> Iterator[Slice]:
        """Stream the columns that travel, in slices of rows: they can be many times as large as the text of the unit.

        The slices depend on the unit, the footer and `unit_bytes` alone. With `pass_over`, damage in a slice is the
        problem of its rows and of all rows of the unit after them.

        Raises:
            InputError: the file changed or is damaged.
        """
        file, reader = self._source(directory, unit, "travelling")
        sources = self.columns.sources(file, reader.schema, None)
        columns = list(sources.values())
        if not columns:
            yield Slice(range(unit.start, unit.stop), pa.table({}), pa.nulls(unit.stop - unit.start, pa.string()))
            return
        for start, stop in reader.slices(unit.start, unit.stop, columns, max(1, self.unit_bytes // SLICES)):
            try:
                if file_rows(unit).unreadable:
                    raise ENDS
                table = reader.read(start, stop, columns)
            except UnreadableFile as error:
                if not self.pass_over:
                    raise
                rows = unit.stop - start
                lost = pa.table({column: pa.nulls(rows, reader.schema.field(column).type) for column in columns})
                problem = pa.repeat(pa.scalar(_unread(file, error)), rows)
                yield Slice(range(start, unit.stop), _carried(file, unit, lost, sources)[0], problem)
                return
            yield Slice(range(start, stop), *_carried(file, unit, table, sources))

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read row and id, and no text, of the documents of a unit that have an id; the corpus must have an id column.

        Ids that are not valid UTF-8 are left out. So are damaged ids, with `pass_over`.

        Raises:
            InputError: the file changed or is damaged.
        """
        assert self.columns.id is not None
        file, reader = self._source(directory, unit)
        table = self._read(reader, unit, [self.columns.id], [])[0]
        ids = carried(file, table, {self.columns.id: id_type(reader.schema.field(self.columns.id).type)})[0][
            self.columns.id
        ]
        rows = pa.array(np.arange(unit.start, unit.stop, dtype=np.int64))
        return pa.table({"row": rows, "id": ids}).filter(ids.is_valid())

    def rows(self, directory: Directory, unit: Unit) -> int:
        """Count the documents in the file of a unit.

        Raises:
            InputError: the file changed or is damaged.
        """
        return self._source(directory, unit)[1].rows

    def columns_of(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Read some columns of the documents of a unit, by the names in the file; text only if it is among them.

        A string that is not valid UTF-8 is null. So are damaged values, with `pass_over`.

        Raises:
            InputError: the file changed or is damaged, or has no such column; the message lists those it has.
        """
        file, reader = self._source(directory, unit)
        there = self.columns.there(file, reader.schema)
        for name in names:
            if name not in there:
                raise InputError(
                    f"{file} has no column {name!r}; it has: {', '.join(there)}", hint="Name one of these columns."
                )
        table = self._read(reader, unit, names, [])[0]
        types = {name: travelling_type(file, name, reader.schema.field(name).type) for name in names}
        return pa.table(carried(file, table, types)[0])

    def _read(
        self, reader: RowReader, unit: Unit, ours: Sequence[str], others: Sequence[str]
    ) -> tuple[pa.Table, list[UnreadableFile]]:
        """Read columns of a unit. With `pass_over`, columns that can't be read are null.

        Args:
            reader: of the file.
            unit: whose rows are read.
            ours: columns that are read even if `others` can't be.
            others: more columns.

        Returns:
            The columns, and the errors: one if `others` could not be read, two if `ours` could not be either.
        """
        found: pa.Table | None = None
        errors = [ENDS, ENDS] if file_rows(unit).unreadable else []
        for columns in ([*ours, *others], ours) if not errors else ():
            try:
                found = reader.read(unit.start, unit.stop, columns)
                break
            except UnreadableFile as error:
                if not self.pass_over:
                    raise
                errors.append(error)
        there = found.column_names if found is not None else []
        lost = {
            name: pa.chunked_array([pa.nulls(unit.stop - unit.start, reader.schema.field(name).type)])
            for name in (*ours, *others)
            if name not in there
        }
        return pa.table({**{name: found[name] for name in there if found is not None}, **lost}), errors

    def _source(self, directory: Directory, unit: Unit, purpose: str = "text") -> tuple[SourceFile, RowReader]:
        source = file_rows(unit)
        place = directory if source.imported else self.directory
        file = SourceFile(place, source.path, unit.shard, source.size, source.content)
        return file, _reader(file, source.checksum, purpose)

    def _ids(self, file: SourceFile, table: pa.Table, unit: Unit, problem: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The ids and the problems of documents; one that has no id is named by shard and row."""
        ids = None
        if self.columns.id:
            own, fault = carried(file, table, {self.columns.id: id_type(table.schema.field(self.columns.id).type)})
            ids, problem = one_array(own[self.columns.id]), pc.coalesce(problem, fault)
        if ids is not None and ids.null_count == 0:
            return ids, problem
        if ids is not None and not pa.types.is_large_string(ids.type):
            # An integer column has no value that could name the row.
            no_id = pc.if_else(ids.is_null(), pa.scalar(NO_ID), pa.scalar(None, pa.string()))
            return ids.fill_null(0), pc.coalesce(problem, no_id)
        names = pa.array([f"{unit.shard}:{row}" for row in range(unit.start, unit.stop)], pa.large_string())
        return (names if ids is None else pc.coalesce(ids, names)), problem


@functools.lru_cache(maxsize=2)
def _reader(file: SourceFile, footer_checksum: str, purpose: str) -> RowReader:
    """Keep the readers of the last file, so that a row group is decoded once for all its units.

    A reader is at one place of the file. Text and columns that travel are read in turns, so each has its own reader.
    """
    del purpose
    return RowReader(file, footer_checksum)


def _carried(file: SourceFile, unit: Unit, table: pa.Table, sources: Mapping[str, str]) -> tuple[pa.Table, pa.Array]:
    """Convert columns to the types that they travel as, by the names they travel by; and the problem of each row."""
    told = types_told(unit)
    types = {
        source: told.get(name) or travelling_type(file, source, table.schema.field(source).type)
        for name, source in sources.items()
    }
    columns, fault = carried(file, table, types)
    return pa.table({name: columns[source] for name, source in sources.items()}), fault


def _unread(file: SourceFile, error: UnreadableFile) -> str:
    """The problem that documents have if their part of the file can't be read."""
    return f"the file can't be read here: {error.reason(file.directory, file.shard)}"


def _without(text: pa.Array, mask: npt.NDArray[np.bool_]) -> pa.Array:
    """The texts, null where `mask` is true. After `if_else`, kernels would still find their bytes in the buffer."""
    return text.take(pa.array(np.arange(len(text)), mask=mask))


def _refused(unit: Unit) -> pa.Array:
    """Which documents of a unit are refused."""
    return pa.array(np.isin(np.arange(unit.start, unit.stop), file_rows(unit).refused))


def _problems(text: pa.Array) -> pa.Array:
    """Why texts cannot be used; null for those that can."""
    invalid = invalid_utf8(text)
    valid = _without(text, invalid) if invalid.any() else text
    blank = pc.utf8_is_space(valid)
    empty = pc.equal(pc.binary_length(valid), 0)
    return pc.case_when(
        pc.make_struct(pc.is_null(text), pa.array(invalid), pc.fill_null(empty, False), pc.fill_null(blank, False)),
        "the text is null",
        "the text is not valid UTF-8 (a lone surrogate, or another encoding)",
        "the text is empty",
        "the text has only blanks",
    )
