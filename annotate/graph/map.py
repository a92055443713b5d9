"""Stages that make a unit from the same unit of their inputs."""

from __future__ import annotations

import abc
from typing import ClassVar

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.latest import Role
from annotate.storage.parts import Output


class Map(Stage):
    """A unit needs only the same unit of the inputs, and the whole of wide ones."""

    role: ClassVar[Role] = Role.UNITS

    @abc.abstractmethod
    def unit(self, tables: Tables) -> Output:
        """Make one unit."""
