"""The Parquet contracts in `schemas/`: one JSON file for each kind of dataset, checked on write and on read.

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
    """The columns that the files of a dataset must and may have."""

    name: str
    columns: tuple[Column, ...]
    other: str | None

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
                raise self._broken(where, column.name, str(column.types[0]), "no such column")
            found = table.schema.field(column.name).type
            if found not in column.types:
                raise self._broken(where, column.name, " or ".join(map(str, column.types)), str(found))
            nulls = 0 if column.nullable else table[column.name].null_count
            if nulls:
                raise self._broken(where, column.name, f"{found} without nulls", f"{nulls} nulls")
        fixed = {c.name for c in self.columns}
        for field in table.schema:
            if field.name not in fixed and self.other != "any" and str(field.type) != self._other_type():
                raise self._broken(where, field.name, self.other or "no such column", str(field.type))
        return table

    def _other_type(self) -> str | None:
        return None if self.other is None else str(arrow_type(self.other))

    def _broken(self, where: str, column: str, expected: str, found: str) -> StorageError:
        return StorageError(
            f"{where} breaks the contract {self.name!r}: column {column!r} should be {expected}, found {found}",
            hint=f"The contract is schemas/{self.name}.json. A part that was changed by hand can be deleted: "
            "the next run makes it again.",
        )


@functools.cache
def contract(name: str) -> Contract:
    """Load the contract `schemas/<name>.json`, or the one at a path ending in `.json`, as stages of users name it."""
    path = Path(name) if name.endswith(".json") else shipped("schemas") / f"{name}.json"
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
    return Contract(spec["name"], columns, spec.get("other_columns"))


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
