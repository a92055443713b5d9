"""A shuffle: units send rows to partitions, and each partition makes a unit of what comes to it."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from annotate.graph.stage import Cut, Kind, Stage
from annotate.graph.tables import Tables
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output

RANGE_UNITS = 16
"""Units of documents, one after the other, that are one partition where partitions are ranges of documents."""
ROW_BYTES = 32
"""Of a row in memory, at least; on disk rows of sorted numbers take a fraction of it."""


@dataclass(frozen=True)
class Partitions:
    """Where rows can be sent.

    Attributes:
        groups: how many partitions there are, in groups that the stage knows; they are numbered through.
        most: bytes that one output of what is sent should have at most.
    """

    groups: tuple[int, ...]
    most: int

    @property
    def number(self) -> int:
        """How many there are in all."""
        return sum(self.groups)


@dataclass(frozen=True)
class Received:
    """What came to one partition.

    Attributes:
        partition: its number.
        tables: reads what was sent to it, in the order of the units that sent it; may be called several times.
        size: of that, in bytes of memory.
        beside: the tables of each unit whose documents are this partition, in order.
        units: of the documents that are `beside`; those of another corpus that stand behind them have higher numbers.
        rows: of these.
    """

    partition: int
    tables: Callable[[], Iterator[pa.Table]]
    size: int = 0
    beside: Iterable[Tables] = ()
    units: int = 0
    rows: int = 0

    @functools.cached_property
    def sent(self) -> pa.Table:
        """All rows at once, in that order."""
        return pa.concat_tables(self.tables())


class Shuffle(Stage):
    """Sends the rows of its inputs to partitions; each makes one unit from what came to it.

    Attributes:
        sent_schema: contract of what is sent, with a column `to`, the number of the partition.
        rounds: whether what is received is sent again, until a round counts nothing as `changed`.
    """

    sent_schema: ClassVar[str]
    rounds: ClassVar[bool] = False

    @property
    def made_as(self) -> Kind:
        """A shuffle."""
        return "shuffle"

    @property
    def cut(self) -> Cut:
        """Ranges of documents, where something lies beside; else as partitions are."""
        return "ranges" if self.beside else "own"

    @property
    @abc.abstractmethod
    def sources(self) -> tuple[tuple[str, ...], ...]:
        """The inputs whose rows are sent, one after the other, each with those that are read with it."""

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The inputs whose units are the partitions, by ranges, one after the other, each with those read with it.

        Empty where partitions are no ranges of documents.
        """
        return ()

    @property
    def sized_by(self) -> tuple[str, ...]:
        """What is beside, else what is sent first: their units tell how many partitions there are."""
        return tuple(name for names in self.beside for name in names) or tuple(names[0] for names in self.sources)

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """How many partitions there are, in groups that the stage knows.

        As many as there are ranges of units in what lies beside, else in what is sent, unless a stage says otherwise.

        Args:
            whole: the tables of inputs that are read whole.
            manifests: of the inputs that the stage is `sized_by`.
        """
        del whole
        return (-(-sum(manifests[names[0]].units for names in self.beside or self.sources) // RANGE_UNITS),)

    def held(self, units: Mapping[str, Unit]) -> int:
        """Bytes in memory of what is read of a unit to be sent, about."""
        return sum(max(unit.bytes, unit.rows * ROW_BYTES) for unit in units.values())

    @abc.abstractmethod
    def send(self, tables: Tables, partitions: Partitions) -> Iterator[Output]:
        """The rows that a unit sends, each with the partition that it goes to; in several outputs where they are many.

        In a second round `tables.sent` is what a partition has made in the first.
        """

    @abc.abstractmethod
    def receive(self, received: Received) -> Iterator[Output]:
        """Make the unit of a partition: one part, or several where one would be too large."""
