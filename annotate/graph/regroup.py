"""Stages that plan their units from the manifests of their inputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import pyarrow as pa

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output


class Regroup(Stage):
    """Its units are planned from the manifests of its inputs; where it is `shuffled`, from what is sent to them."""

    @abc.abstractmethod
    def plan(
        self, units: Iterator[Mapping[str, Unit]], manifests: Mapping[str, Manifest]
    ) -> Iterator[list[Mapping[str, Unit]]]:
        """Group consecutive units of the inputs into units of this stage."""

    @abc.abstractmethod
    def regrouped(self, tables: Iterator[Tables]) -> Iterator[Output]:
        """Make one unit from a group: one part, or several where one would be too large."""

    def held(self, units: Mapping[str, Unit]) -> int:
        """Bytes that are read of a unit of the inputs, about."""
        return next(iter(units.values())).text_bytes

    @property
    def shuffled(self) -> bool:
        """Whether each unit of the inputs sends its rows to partitions, which are the units of this stage."""
        return False

    sent_schema: ClassVar[str] = ""
    """Contract of what is sent, with a column `to`."""

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """Partitions there are, in groups that the stage knows, given the tables of wide inputs and all manifests."""
        raise NotImplementedError

    def send(self, tables: Tables, partitions: tuple[int, ...], most: int) -> Iterator[Output]:
        """The rows that a unit of the inputs sends, each with the partition that it goes to; what it quarantines.

        Where they are many, they come in several outputs, of about `most` bytes at most.
        """
        raise NotImplementedError

    def receive(self, sent: Callable[[], Iterator[pa.Table]], size: int) -> Iterator[Output]:
        """Make the unit of a partition: one part, or several where one would be too large.

        Args:
            sent: reads what was sent to it, in the order of the units that sent it; may be called several times.
            size: of that, in bytes of memory.
        """
        raise NotImplementedError
