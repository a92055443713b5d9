"""A reduce: pieces of all units of its inputs, merged in any order into one table."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import pyarrow as pa

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.parts import UnitOutput


class Reduce(Stage):
    """Makes one unit from all units of its inputs, through committed pieces: no process reads all units.

    Attributes:
        piece_schema: contract of the pieces.
    """

    piece_schema: ClassVar[str]

    @property
    def made_as(self) -> Literal["reduce"]:
        """A reduce."""
        return "reduce"

    @property
    def cut(self) -> Literal["whole"]:
        """There is one unit."""
        return "whole"

    @abc.abstractmethod
    def piece(self, tables: Tables) -> pa.Table:
        """Make the piece of one unit."""

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Merge one or more pieces into one. The order in which pieces are merged must not matter."""
        return pa.concat_tables(list(pieces))

    @abc.abstractmethod
    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Make the dataset from the merged pieces, and from the tables of inputs that are read whole."""
