"""The Parquet contracts in `schemas/`: one JSON file for each kind of table, checked on write and on read.

A contract lists columns, each with its type and whether it may be null. `other_columns` says which other columns a file
may have: none (null), those of one type ("float32"), or all ("any").
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from annotate.errors import StorageError


def shipped(folder: str) -> Path:
    """The directory `schemas` or `pipelines`: inside the installed package, or beside it in a clone."""
    inside = Path(__file__).parents[1] / folder
    return inside if inside.is_dir() else Path(__file__).parents[2] / folder


@dataclass(frozen=True)
class Column:
    """One column of a contract; `types` are the Arrow types that it may have, of which the first is written."""

    name: str
    types: tuple[pa.DataType, ...]
    nullable: bool
    optional: bool = False


@dataclass(frozen=True)
class Contract:
    """The columns that the files of a dataset must and may have; `file` is where they are listed."""

    name: str
    columns: tuple[Column, ...]
    other: str | None
    file: str

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the columns that are not optional."""
        there = [c for c in self.columns if not c.optional]
        return pa.schema([pa.field(c.name, c.types[0], nullable=c.nullable) for c in there])

    def type_of(self, name: str) -> pa.DataType:
        """Arrow type of a column, which may be optional."""
        return next(c.types[0] for c in self.columns if c.name == name)

    def check(self, table: pa.Table, where: str) -> pa.Table:
        """Return `table` if it keeps the contract.

        Args:
            table: the rows of one file.
            where: the file, for the message.

        Raises:
            StorageError: it breaks the contract; the message names file, column, expected and found type.
        """
        for column in self.columns:
            if column.name not in table.column_names:
                if column.optional:
                    continue
                raise self._broken(where, f"it has no column {column.name!r} ({column.types[0]})")
            found = table.schema.field(column.name).type
            if found not in column.types:
                expected = " or ".join(map(str, column.types))
                raise self._broken(where, f"column {column.name!r} should be {expected}, found {found}")
            nulls = 0 if column.nullable else table[column.name].null_count
            if nulls:
                raise self._broken(where, f"column {column.name!r} may have no nulls, found {nulls:,}")
        fixed = {c.name for c in self.columns}
        for field in table.schema:
            if field.name in fixed or self.other == "any":
                continue
            if self.other is None:
                raise self._broken(where, f"column {field.name!r} ({field.type}) should not be there")
            if str(field.type) != self._other_type():
                raise self._broken(where, f"column {field.name!r} should be {self.other}, found {field.type}")
        return table

    def _other_type(self) -> str | None:
        return None if self.other is None else str(arrow_type(self.other))

    def _broken(self, where: str, why: str) -> StorageError:
        return StorageError(
            f"{where} breaks the contract {self.name!r}: {why}",
            hint=f"The contract is {self.file}. If the stage is yours, make its tables as it says. If the file was "
            "changed by hand, delete it: the next run makes it again.",
        )


@functools.cache
def contract(name: str) -> Contract:
    """Load the contract `schemas/<name>.json`, or the one at a path ending in `.json`, as stages of users name it."""
    file = name if name.endswith(".json") else f"schemas/{name}.json"
    path = Path(name) if file == name else shipped("schemas") / f"{name}.json"
    spec = json.loads(path.read_text("utf-8"))
    columns = tuple(
        Column(
            c["name"],
            tuple(arrow_type(t) for t in c["type"].split(" | ")),
            bool(c.get("nullable", False)),
            bool(c.get("optional", False)),
        )
        for c in spec["columns"]
    )
    return Contract(spec["name"], columns, spec.get("other_columns"), file)


def arrow_type(text: str) -> pa.DataType:
    """Parse a type as it is written in contracts: `int64`, `list<float32>`, `struct<tag: string, offset: int64>`."""
    text = text.strip()
    if text.startswith("list<") and text.endswith(">"):
        return pa.list_(arrow_type(text[5:-1]))
    if text.startswith("map<") and text.endswith(">"):
        key, value = _split(text[4:-1])
        return pa.map_(arrow_type(key), arrow_type(value))
    if text.startswith("struct<") and text.endswith(">"):
        fields = (item.split(":", 1) for item in _split(text[7:-1]))
        return pa.struct([(name.strip(), arrow_type(kind)) for name, kind in fields])
    return pa.type_for_alias(text)


def _split(text: str) -> list[str]:
    """Split at the commas that are not inside angle brackets."""
    items, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "<") - (char == ">")
        if char == "," and depth == 0:
            items.append(text[start:i])
            start = i + 1
    return [*items, text[start:]]
