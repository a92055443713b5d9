"""Stages that send rows to partitions."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.parts import Output

RANGE_UNITS = 16
"""Units of a corpus, one after the other, whose documents are one partition of an exchange."""


@dataclass(frozen=True)
class Received:
    """What came to one partition.

    Attributes:
        partition: its number.
        units: of the corpus; those of another that stand behind them have higher numbers.
        rows: documents of the corpus.
        sent: the rows, in the order of the units that sent them.
        beside: the tables of each unit of which the documents are this partition, in order.
    """

    partition: int
    units: int
    rows: int
    sent: pa.Table
    beside: Iterator[Tables]


class Shuffle(Stage):
    """Sends the rows of its sources to partitions; each makes one unit from what came to it.

    Attributes:
        sent_schema: contract of what is sent, with a column `to`.
        ranged: whether a partition is a range of documents, those of `RANGE_UNITS` units of what lies `beside`.
        rounds: whether what is received is sent again, until a round counts nothing `changed`.
    """

    sent_schema: ClassVar[str]
    ranged: ClassVar[bool] = True
    rounds: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def sources(self) -> tuple[str, ...]:
        """The inputs whose rows are sent, one after the other."""

    @property
    @abc.abstractmethod
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The inputs that are cut in ranges, one after the other, each with those that are read with it."""

    def partitions(self, ranges: int, rows: int) -> int:
        """Partitions there are, given the ranges and the documents of all that lies beside."""
        del rows
        return ranges

    @abc.abstractmethod
    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """The rows that unit `number` of the sources sends, each with the partition that it goes to."""

    @abc.abstractmethod
    def receive(self, received: Received) -> Output:
        """Make the unit of one partition."""
