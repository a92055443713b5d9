"""A map: a unit is made from a group of consecutive units of its inputs, usually of one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping

from annotate.graph.stage import Cut, Kind, Stage
from annotate.graph.tables import Tables
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output


class Map(Stage):
    """Makes a unit from the same unit of its inputs, and from the whole of those that have one unit.

    One that `gathers` makes a unit from several: it has `gathering` and `gathered_unit` in place of `unit`.
    """

    @property
    def made_as(self) -> Kind:
        """A map."""
        return "map"

    @property
    def cut(self) -> Cut:
        """As its inputs are, where it does not gather."""
        return "own" if self.gathers or any(stage.cut == "own" for stage in self.inputs.values()) else "documents"

    @property
    def gathers(self) -> bool:
        """Whether a unit is made from several units of the inputs."""
        return False

    @abc.abstractmethod
    def unit(self, tables: Tables) -> Output:
        """Make one unit."""

    def gathering(self, manifests: Mapping[str, Manifest]) -> Callable[[Mapping[str, Unit]], int]:
        """How units are put into groups: a function that is called with each unit of the inputs, in order.

        It returns the number of the group that the unit belongs to, which never falls. `manifests` are those of the
        inputs that the stage is `sized_by`.
        """
        raise NotImplementedError

    def gathered_unit(self, group: Iterator[Tables]) -> Iterator[Output]:
        """Make one unit from a group: one part, or several where one would be too large."""
        yield self.unit(next(group))
