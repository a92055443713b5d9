"""Documents: the interface of a corpus, and of any other stage that makes documents."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph.stage import Stage, first_input
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.store import Directory
from annotate.text.arrays import one_array


@dataclass(frozen=True)
class Slice:
    """Some rows of a shard, with the columns that travel to the training shards.

    Attributes:
        rows: the rows.
        table: the columns.
        problem: why a row can't be used, string; null for a row that can.
    """

    rows: range
    table: pa.Table
    problem: pa.Array


class Reader(Protocol):
    """Reads documents, a unit at a time, from the directory of their dataset."""

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Documents of a unit: `row`, `id`, `text` (null where there is a problem), `problem`, and extra columns."""
        ...

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """`row` and `id` of the documents of a unit that have an id."""
        ...

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns that travel with the documents of a unit, by their names in the training shards."""
        ...

    def columns_of(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns of the documents of a unit, by their names in the corpus file."""
        ...

    def slices(self, directory: Directory, unit: Unit) -> Iterator[Slice]:
        """All columns that travel with the documents of a unit, in slices of its rows."""
        ...


class Documents(Stage):
    """A stage whose dataset is documents, which can be split, scored and rendered.

    Attributes:
        id: name of the id column; None where documents are named by shard and row.
        columns: the other columns that travel to the shards; None for all.
        unit_bytes: the setting that `unit_size` is made of; None if a run chooses it.
    """

    id: str | None
    columns: Sequence[str] | None
    unit_bytes: int | None

    @property
    @abc.abstractmethod
    def unit_size(self) -> int:
        """Bytes of text that one work unit aims at."""

    @property
    def place(self) -> str:
        """The documents' name in messages: their path, if they lie outside the work directory."""
        return self.label

    @property
    @abc.abstractmethod
    def reader(self) -> Reader:
        """Reads the documents of a unit."""

    @abc.abstractmethod
    def sizes(self, unit: Unit) -> tuple[int, int]:
        """Approximate bytes of a unit's text, and of the columns that travel with it."""

    @abc.abstractmethod
    def total(self, manifest: Manifest) -> tuple[int, int]:
        """The sums of these two sizes over all units."""


@dataclass(frozen=True)
class MadeReader:
    """Reads documents that a stage has made: its tables have `row`, `id`, `text`, and the columns that travel."""

    stage: MadeDocuments

    def documents(self, directory: Directory, unit: Unit, *, extra: Sequence[str]) -> pa.Table:
        """Documents of a unit."""
        return self.stage.read(directory, unit).select([*MADE_COLUMNS, *extra])

    def named(self, directory: Directory, unit: Unit) -> pa.Table:
        """`row` and `id` of the documents of a unit."""
        return self.stage.read(directory, unit).select(["row", "id"])

    def others(self, directory: Directory, unit: Unit, names: Sequence[str]) -> pa.Table:
        """Columns of a unit."""
        return self.stage.read(directory, unit).select(names)

    columns_of = others

    def slices(self, directory: Directory, unit: Unit) -> Iterator[Slice]:
        """All columns that travel, in one slice."""
        table = self.stage.read(directory, unit)
        yield Slice(range(unit.start, unit.stop), table.drop_columns(MADE_COLUMNS), one_array(table["problem"]))


NOT_MADE = "no text was made"
"""The problem of a made document without a text."""


class MadeDocuments(Documents):
    """A stage that makes documents: one for each row of the documents that it reads, in their order.

    Its tables have the columns `row` (int64), `id` and `text` (large strings), and any others, which travel to the
    training shards. A document that is to be left out has a null text, and the reason in a column `problem` (string).
    It goes to quarantine, as does one whose text is null for no reason. Each unit has the count `documents`.
    """

    columns = None

    @property
    def reader(self) -> Reader:
        """Reads what was made."""
        return MadeReader(self)

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """The documents of a unit, with the column `problem`: if the stage has not made it, that no text was made.

        Raises:
            ConfigError: the rows are not those of the unit.
        """
        table = super().read(directory, unit)
        rows = table["row"].to_numpy()
        if not np.array_equal(rows, np.arange(unit.start, unit.stop)):
            raise ConfigError(
                f"{self.label} has made {len(rows):,} documents of the {unit.stop - unit.start:,} in rows "
                f"{unit.start:,} to {unit.stop:,} of {unit.shard}: there has to be one for each row, in order",
                hint="To leave a document out, give it a null text, and the reason in a column `problem`.",
            )
        if "problem" in table.column_names:
            return table.combine_chunks()
        at = table.column_names.index("text") + 1
        problem = pc.if_else(pc.is_null(table["text"]), pa.scalar(NOT_MADE), pa.scalar(None, pa.string()))
        return table.add_column(at, "problem", problem).combine_chunks()

    def sizes(self, unit: Unit) -> tuple[int, int]:
        """The bytes of its parts."""
        return unit.bytes, 0

    def total(self, manifest: Manifest) -> tuple[int, int]:
        """The bytes of all parts."""
        return manifest.size, 0


MADE_COLUMNS = ["row", "id", "text", "problem"]
"""The columns that every table of documents has. All others travel to the training shards."""


def documents_of(stage: Stage) -> Stage:
    """The stage that has a stage's documents: the nearest `Documents` among its inputs and theirs, or the source."""
    while (above := first_input(stage)) is not None:
        stage = above
        if isinstance(stage, Documents):
            break
    return stage
