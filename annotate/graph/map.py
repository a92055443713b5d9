"""A map: a unit is made from a group of consecutive units of its inputs, usually of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from annotate.graph.stage import Cut, Kind, Stage
from annotate.graph.tables import Tables
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import UnitOutput


class Map(Stage):
    """Makes each unit from the same unit of every input; an input that is cut "whole" is read whole.

    A map that `gathers` makes a unit from several: it defines `gathering` and `gathered_unit` in place of `unit`.
    """

    @property
    def made_as(self) -> Kind:
        """A map."""
        return "map"

    @property
    def cut(self) -> Cut:
        """The same as the inputs, unless it gathers."""
        return "own" if self.gathers or any(stage.cut == "own" for stage in self.inputs.values()) else "documents"

    @property
    def gathers(self) -> bool:
        """Whether a unit is made from several units of the inputs."""
        return False

    def unit(self, tables: Tables) -> UnitOutput:
        """Make one unit."""
        raise NotImplementedError

    def gathering(self, manifests: Mapping[str, Manifest]) -> Callable[[Mapping[str, Unit]], int]:
        """Return a function that puts units into groups.

        The function is called with the units of the inputs, number by number, and returns the number of their group. It
        never returns a smaller number than before. `manifests` has the manifests of the inputs in `sized_by`.
        """
        raise NotImplementedError

    def gathered_unit(self, group: Iterator[Tables]) -> Iterator[UnitOutput]:
        """Make one unit from a group of units, in several parts if one would be too large."""
        yield self.unit(next(group))
