"""The type of each column over all files of a corpus: one that holds the values of all, or an error that names two.

Types come from the footers of all files, whatever their order and whatever the limit of a run. Where a file's own type
is another than that of the corpus, its units are told that; so what is made of a file stays as it is while neither
changes.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from annotate.corpus.columns import UnsupportedType, converted, malformed, one_type, travelling, without
from annotate.corpus.source_files import SourceFile
from annotate.errors import InputError
from annotate.storage.manifests import Unit, file_rows

CHOOSE = "Choose the columns that travel with Corpus(columns=(...)), "
Types = tuple[pa.DataType, pa.DataType]
"""The type of a column in a file, and the one that it travels as."""


def travelling_type(file: SourceFile, column: str, kind: pa.DataType) -> pa.DataType:
    """The type that a column of a file travels as.

    Raises:
        InputError: it can't travel; names file, column and reason.
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
    """Columns of a file as the types that they travel as, by the names that the file has.

    Returns:
        The columns by name, null where a value is not sound; and what is wrong with each row, null if nothing is.

    Raises:
        InputError: a type can't hold a value.
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
    """Joins the types of one file after the other."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._first: SourceFile | None = None
        self._last: dict[str, tuple[SourceFile, pa.DataType]] = {}  # the file that gave a column its type, and its own
        self._differing: dict[str, str] = {}

    @property
    def widened(self) -> dict[str, pa.DataType]:
        """The types of the columns that have another one in some file."""
        return {name: self._types[name] for name in self._differing}

    @property
    def said(self) -> list[str]:
        """What is to be said of these columns."""
        return [
            f"the column {name!r} travels as {self._types[name]}: it is {found}"
            for name, found in sorted(self._differing.items())
        ]

    def add(self, file: SourceFile, types: Mapping[str, Types]) -> None:
        """Join the types of the columns of a file, by the names they travel by.

        Raises:
            InputError: a column is missing in this file or in the first, or no type holds its values in both; names
                both files.
        """
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
            self._differing.setdefault(name, f"{given} in {other.shard}, {own} in {file.shard}")
            self._types[name] = joined
            if joined != known:
                self._last[name] = (file, own)


def told_types(types: Mapping[str, Types], widened: Mapping[str, pa.DataType]) -> dict[str, str]:
    """What units of a file with these types are told: the types of those of its columns that are to have another."""
    return {name: _packed(kind) for name, kind in sorted(widened.items()) if types[name][1] != kind}


def types_told(unit: Unit) -> Mapping[str, pa.DataType]:
    """The types that a unit of a corpus is told of its columns."""
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
