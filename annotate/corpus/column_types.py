"""The type of each column over all files of a corpus: one type that holds all values, or an error that names two files.

Types come from the footers of all files. Neither the order of the files nor the limit of a run changes them. Where the
type in the corpus differs from the type in a file, each unit of the file records the type in the corpus. So what is
made from a unit stays valid while neither type changes.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from annotate.corpus.arrow_types import UnsupportedType, converted, malformed, one_type, travelling, without
from annotate.corpus.source_files import SourceFile
from annotate.errors import InputError
from annotate.storage.manifests import Unit, file_rows

CHOOSE = "Choose the columns that travel with Corpus(columns=(...)), "
NAMED_TYPES = 3
"""The most types that a remark names, of those that a column has in the files."""
Types = tuple[pa.DataType, pa.DataType]
"""The type of a column in a file, and the type that it travels as."""


def travelling_type(file: SourceFile, column: str, kind: pa.DataType) -> pa.DataType:
    """The type that a column of a file travels as.

    Raises:
        InputError: it can't travel; the message names file, column and reason.
    """
    try:
        return travelling(kind)
    except UnsupportedType as error:
        raise InputError(
            f"{file}: column {column!r} can't travel: {error}", hint=CHOOSE + "or write it as another type."
        ) from error


def carried(
    file: SourceFile, table: pa.Table, types: Mapping[str, pa.DataType]
) -> tuple[dict[str, pa.ChunkedArray], pa.Array]:
    """Convert columns of a file to the types that they travel as.

    Args:
        file: the file that they are of.
        table: its columns.
        types: the types, by the names of the columns in the file.

    Returns:
        The converted columns by name, null where a value is unsound; and for each row the problem, or null.

    Raises:
        InputError: the type of a column can't hold one of its values.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    faults = pa.nulls(table.num_rows, pa.string())
    for name, kind in types.items():
        try:
            column = converted(table[name], kind)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{file}: column {name!r} has a value that {kind} can't hold: {error}",
                hint=CHOOSE + "or write it as another type.",
            ) from error
        bad = malformed(column)
        if bad.any():
            reason = f"the column {name!r} holds a string that is not valid UTF-8"
            faults = pc.coalesce(faults, pc.if_else(pa.array(bad), reason, pa.scalar(None, pa.string())))
        columns[name] = without(column, bad)
    return columns, faults


class ColumnTypes:
    """The types of the columns over the files that were added so far."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._first: SourceFile | None = None
        self._last: dict[str, tuple[SourceFile, pa.DataType]] = {}  # where a column was widened last
        self._differing: set[str] = set()
        self._found: dict[str, dict[str, tuple[int, str]]] = {}  # by column and type: how many files, and the first

    @property
    def widened(self) -> dict[str, pa.DataType]:
        """The columns whose type is not the same in all files, with the type that they travel as."""
        return {name: self._types[name] for name in self._types if name in self._differing}

    @property
    def said(self) -> list[str]:
        """A remark for each of these columns: in how many files it has which type."""
        return [self._remark(name) for name in sorted(self._differing)]

    def _remark(self, name: str) -> str:
        most_first = sorted(self._found[name].items(), key=lambda item: -item[1][0])
        listed = [f"{kind} in {_files(n)}, such as {first}" for kind, (n, first) in most_first[:NAMED_TYPES]]
        if more := sum(n for _, (n, _) in most_first[NAMED_TYPES:]):
            listed.append(f"other types in {_files(more)}")
        return (
            f"the column {name!r} travels as {self._types[name]}, because its type differs between the files: "
            + "; ".join(listed)
        )

    def add(self, file: SourceFile, types: Mapping[str, Types]) -> None:
        """Join the types of the columns of a file, given by the names that they travel by.

        Raises:
            InputError: this file or the first lacks a column that the other has; or no type holds the values of a
                column in two files. The message names both files.
        """
        for name, (own, _) in types.items():
            found = self._found.setdefault(name, {})
            n, first = found.get(str(own), (0, file.shard))
            found[str(own)] = (n + 1, first)
        if self._first is None:
            self._first = file
            self._types = {name: kind for name, (_, kind) in types.items()}
            self._last = {name: (file, own) for name, (own, _) in types.items()}
        for name in sorted(self._types.keys() ^ types.keys()):
            none = (self._first, "no such column")
            raise _different(self._first, file, name, self._last.get(name, none)[1], types.get(name, none[::-1])[0])
        for name, (own, kind) in types.items():
            known = self._types[name]
            if kind == known:
                continue
            joined = one_type(known, kind)
            other, given = self._last[name]
            if joined is None:
                raise _different(other, file, name, given, own)
            self._differing.add(name)
            self._types[name] = joined
            if joined != known:
                self._last[name] = (file, own)


def _files(n: int) -> str:
    return f"{n:,} file" + "s" * (n != 1)


def told_types(types: Mapping[str, Types], widened: Mapping[str, pa.DataType]) -> dict[str, str]:
    """What the units of a file record: the type in the corpus, of each column that has another type in the file."""
    return {name: _packed(kind) for name, kind in sorted(widened.items()) if types[name][1] != kind}


def types_told(unit: Unit) -> Mapping[str, pa.DataType]:
    """What a unit has recorded: the type in the corpus, of each column that has another type in the unit's file."""
    return {name: _unpacked(kind) for name, kind in file_rows(unit).types.items()}


def _packed(kind: pa.DataType) -> str:
    return base64.b64encode(pa.schema([pa.field("", kind)]).serialize()).decode()


@functools.lru_cache(maxsize=64)
def _unpacked(kind: str) -> pa.DataType:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kind))).field(0).type


def _different(first: SourceFile, file: SourceFile, column: str, expected: object, found: object) -> InputError:
    return InputError(
        f"{file} differs from {first}: column {column!r} is {found}, expected {expected}",
        hint=CHOOSE + "or make the files alike.",
    )
