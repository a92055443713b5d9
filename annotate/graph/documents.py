"""Documents: what a corpus offers to those that read it, and any other stage whose dataset is documents."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from annotate.graph.stage import Stage, about
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.store import Directory
from annotate.text.arrays import one_array


class Slice(Protocol):
    """The columns that travel, of some rows of a shard, and what is wrong with each row, null if nothing is."""

    @property
    def rows(self) -> range:
        """The rows."""
        ...

    @property
    def table(self) -> pa.Table:
        """The columns."""
        ...

    @property
    def problem(self) -> pa.Array:
        """What is wrong with each row, string; null if nothing is."""
        ...


class Reader(Protocol):
    """Reads documents, a unit at a time, from the directory of their dataset."""

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Documents of a unit: `row`, `id`, `text` (null where there is a problem), `problem`, and extra columns."""
        ...

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """`row` and `id` of the documents of a unit that have an id."""
        ...

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns that travel with the documents of a unit, by the names they travel by."""
        ...

    def columns_of(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns of the documents of a unit by the names that their file has."""
        ...

    def slices(self, directory: Directory, unit: Unit) -> Iterator[Slice]:
        """All columns that travel with the documents of a unit, in slices of its rows."""
        ...

    def rows(self, directory: Directory, unit: Unit) -> int:
        """Documents in the shard that a unit is of."""
        ...


class Documents(Stage):
    """A stage whose dataset is documents, which can be split, scored and rendered.

    Attributes:
        id: name of the id column; None where documents are named by shard and row.
        columns: the other columns that travel to the shards; None for all.
        unit_bytes: bytes of text that one work unit aims at.
    """

    id: str | None
    columns: Sequence[str] | None
    unit_bytes: int

    @property
    def place(self) -> str:
        """How messages name them: where they are, of documents that lie outside."""
        return self.label

    @property
    @abc.abstractmethod
    def reader(self) -> Reader:
        """Reads the documents of a unit."""

    @abc.abstractmethod
    def sizes(self, unit: Unit) -> tuple[int, int]:
        """Bytes of the text of a unit, and of the columns that travel with it, about."""

    @abc.abstractmethod
    def total(self, manifest: Manifest) -> tuple[int, int]:
        """These of all units."""


@dataclass(frozen=True)
class MadeSlice:
    """All rows of a unit of documents that a stage has made."""

    rows: range
    table: pa.Table
    problem: pa.Array


@dataclass(frozen=True)
class MadeReader:
    """Reads documents that a stage has made: its tables have `row`, `id`, `text`, and the columns that travel."""

    stage: MadeDocuments

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Documents of a unit, none of which has a problem."""
        return self.stage.read(directory, unit).select([*OURS, *extra])

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """`row` and `id` of the documents of a unit."""
        return self.stage.read(directory, unit).select(["row", "id"])

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns of a unit."""
        return self.stage.read(directory, unit).select(names)

    columns_of = others

    def slices(self, directory: Directory, unit: Unit) -> Iterator[MadeSlice]:
        """All columns that travel, in one slice."""
        table = self.stage.read(directory, unit)
        yield MadeSlice(range(unit.start, unit.stop), table.drop_columns(OURS), one_array(table["problem"]))

    def rows(self, directory: Directory, unit: Unit) -> int:
        """Rows of the unit: what is made is not told how many its shard has."""
        del directory
        return unit.stop


class MadeDocuments(Documents):
    """A stage that makes documents, one for each row of its units, and no others.

    Its tables have the columns `row` (int64), `id` and `text` (large strings), and any others, which travel. It counts
    `documents`.
    """

    columns = None

    @property
    def reader(self) -> Reader:
        """Reads what was made."""
        return MadeReader(self)

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """The documents of a unit, with the column `problem`, which is null."""
        table = super().read(directory, unit)
        at = table.column_names.index("text") + 1
        return table.add_column(at, "problem", pa.nulls(table.num_rows, pa.string())).combine_chunks()

    def sizes(self, unit: Unit) -> tuple[int, int]:
        """The bytes of its parts."""
        return unit.bytes, 0

    def total(self, manifest: Manifest) -> tuple[int, int]:
        """The bytes of all parts."""
        return manifest.size, 0


OURS = ["row", "id", "text", "problem"]


def documents_of(stage: Stage) -> Stage:
    """The stage whose documents a stage is about: the nearest above it, or itself, where it is a source."""
    while (above := about(stage)) is not None:
        stage = above
        if isinstance(stage, Documents):
            break
    return stage
