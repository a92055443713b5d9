"""Stages that merge pieces of all units of their inputs."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import ClassVar

import pyarrow as pa

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.parts import Output


class Reduce(Stage):
    """Needs all units of its inputs: a piece of each, merged in any order, then finished.

    With `piece_schema`, pieces are merged in committed groups, so no process sees them all; without, one does.
    """

    piece_schema: ClassVar[str | None] = None

    @abc.abstractmethod
    def piece(self, tables: Tables) -> pa.Table:
        """What is needed of one unit."""

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Merge pieces into one; commutative and associative."""
        return pa.concat_tables(list(pieces))

    @abc.abstractmethod
    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Make the dataset from the merged pieces and the whole of wide inputs."""
