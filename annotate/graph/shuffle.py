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
from annotate.storage.parts import UnitOutput

RANGE_UNITS = 16
"""Number of consecutive units of documents in one partition, if partitions are ranges of documents."""
PARTITION_UNITS = 4
"""Bytes that one partition should receive, if partitions are ranges of a hash, as a multiple of the work unit."""
ROW_BYTES = 32
"""The least that a row takes in memory. On disk, rows of sorted numbers take a fraction of it."""


def partitions_of(sent: int, unit_bytes: int) -> tuple[int, ...]:
    """One group of partitions for `sent` bytes, so that each receives about `PARTITION_UNITS` work units."""
    return (max(1, -(-sent // (PARTITION_UNITS * unit_bytes))),)


@dataclass(frozen=True)
class Partitions:
    """Where rows can be sent.

    Attributes:
        groups: number of partitions in each group. The stage knows what the groups are. Partitions are numbered across
            all groups.
        most: bytes that one sent output should have at most.
        width: number of partitions, one after the other, whose rows are sent together, in one slice. If it is more than
            1, the shuffle has two levels: tasks read such slices and send their rows on, to each partition by itself.
    """

    groups: tuple[int, ...]
    most: int
    width: int = 1

    @property
    def number(self) -> int:
        """Number of partitions in all groups."""
        return sum(self.groups)

    @property
    def slices(self) -> int:
        """Number of slices that units send rows in."""
        return -(-self.number // self.width)


@dataclass(frozen=True)
class Received:
    """The rows that were sent to one partition.

    Attributes:
        partition: its number.
        tables: reads these rows, in the order of the units that sent them; may be called several times.
        size: bytes that these rows take in memory.
        beside: where partitions are ranges of documents, the tables of the units in this range, in order.
        units: number of units of the first corpus. If it is filtered against a second one, the numbers of the units of
            the second begin here.
        rows: number of documents of the first corpus.
    """

    partition: int
    tables: Callable[[], Iterator[pa.Table]]
    size: int = 0
    beside: Iterable[Tables] = ()
    units: int = 0
    rows: int = 0

    @functools.cached_property
    def sent(self) -> pa.Table:
        """All of these rows as one table."""
        return pa.concat_tables(self.tables())


class Shuffle(Stage):
    """Sends the rows of its inputs to partitions; each makes one unit from what came to it.

    Attributes:
        sent_schema: contract of the sent rows. Their column `to` has the number of the partition.
        rounds: whether the units that partitions make send rows again, until the count `changed` of a round is 0.
    """

    sent_schema: ClassVar[str]
    rounds: ClassVar[bool] = False

    @property
    def made_as(self) -> Kind:
        """A shuffle."""
        return "shuffle"

    @property
    def cut(self) -> Cut:
        """Into ranges of documents, if there are inputs `beside`; else in the stage's own way."""
        return "ranges" if self.beside else "own"

    @property
    def sources(self) -> tuple[tuple[str, ...], ...]:
        """The inputs whose rows are sent, in order. Each comes first in a tuple of inputs that are read together.

        By default these are all inputs that are neither `beside` nor read whole, each by itself.
        """
        near = {name for names in self.beside for name in names}
        return tuple((name,) for name, stage in self.inputs.items() if name not in near and stage.cut != "whole")

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """Where partitions are ranges of documents: the inputs that have these documents; else empty.

        A partition reads its units of them beside the rows that it receives. Each comes first in a tuple of inputs that
        are read together.
        """
        return ()

    @property
    def sized_by(self) -> tuple[str, ...]:
        """The inputs `beside`; if there are none, those whose rows are sent. Their units decide the partitions."""
        return tuple(name for names in self.beside for name in names) or tuple(names[0] for names in self.sources)

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """Number of partitions in each group.

        By default there is one group, with a partition for each range of units of the inputs beside, or of the sent
        inputs if there are none beside.

        Args:
            whole: the tables of inputs that are read whole.
            manifests: the manifests of the inputs in `sized_by`.
        """
        del whole
        return (-(-sum(manifests[names[0]].units for names in self.beside or self.sources) // RANGE_UNITS),)

    def held(self, units: Mapping[str, Unit]) -> int:
        """Approximate bytes in memory of a unit that is read to be sent."""
        return sum(max(unit.bytes, unit.rows * ROW_BYTES) for unit in units.values())

    @abc.abstractmethod
    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """The rows that a unit sends, each with its partition; in several outputs if there are many.

        From the second round on, `tables.sent` is a unit that a partition made in the round before.
        """

    @abc.abstractmethod
    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Make the unit of a partition, in several parts if one would be too large."""
