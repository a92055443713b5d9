"""A unit of work, and the tables that it reads."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from annotate.graph.stage import AGAINST, Stage
from annotate.storage.manifests import Unit
from annotate.storage.store import Directory
from annotate.tally import phase


@dataclass(frozen=True)
class Work:
    """A unit of work: `units` are the units of its inputs, in order, and `key` names it in the dataset.

    `number` is the position of the first of `units` in the input's dataset.
    """

    key: str
    shard: str
    start: int
    stop: int
    text_bytes: int
    units: tuple[Mapping[str, Unit], ...]
    number: int = 0

    @property
    def identities(self) -> list[list[str]]:
        """The identities of its units."""
        return [[unit.identity for unit in units.values()] for units in self.units]


SMALL = 1 << 20
"""Bytes of a table that is kept after it was read, because it may be read again for the same unit."""
ITSELF = ""
"""The name under which a stage reads its own dataset, as a shuffle in rounds does from the second round on."""


class Tables:
    """The tables of one unit of a stage's inputs, read when asked for; `number` is the unit's position."""

    def __init__(
        self,
        stage: Stage,
        workdir: Directory,
        units: Mapping[str, Unit],
        shared: Mapping[str, pa.Table],
        number: int = 0,
    ) -> None:
        self._stage, self._workdir, self._units, self._shared = stage, workdir, units, shared
        self.number = number
        self._small: dict[str, pa.Table] = {}

    @property
    def shard(self) -> str:
        """Name of the corpus shard of the unit."""
        return first_unit(self._units).shard

    @property
    def rows(self) -> range:
        """Rows of the shard that the unit covers."""
        unit = first_unit(self._units)
        return range(unit.start, unit.stop)

    @phase("read")
    def __getitem__(self, name: str) -> pa.Table:
        """The table of input `name`: of this unit, or of the whole dataset if that is read whole."""
        if name in self._shared:
            return self._shared[name]
        name = self._named(name)
        stage, directory, unit = self.stage(name), self.directory(name), self._units[name]
        if stage.cut == "ranges" and name != ITSELF:
            return _range(_Range(stage, directory, unit))
        if name in self._small:
            return self._small[name]
        table = stage.read(directory, unit)
        if table.nbytes <= SMALL:
            self._small[name] = table
        return table

    @property
    def sent(self) -> pa.Table:
        """The table of the first input, from which a shuffle sends rows."""
        return self[next(iter(self._units))]

    def unit(self, name: str) -> Unit:
        """The unit of input `name`, as its manifest lists it."""
        return self._units[self._named(name)]

    def stage(self, name: str) -> Stage:
        """The stage that is input `name`."""
        return self._stage if name == ITSELF else self._stage.inputs[self._named(name)]

    def directory(self, name: str) -> Directory:
        """Where the dataset of input `name` lies."""
        return self._workdir.child(self.stage(name).dataset)

    def _named(self, name: str) -> str:
        """The full name of an input: those of the second corpus begin with `AGAINST`."""
        return name if name in self._units else AGAINST + name


@dataclass(frozen=True)
class _Range:
    """A unit of an input that is cut into ranges; compared by its place and the checksums of its parts."""

    stage: Stage = field(compare=False)
    directory: Directory
    unit: Unit = field(compare=False)
    identity: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", tuple(entry.part.path for entry in self.unit.entries))


@functools.lru_cache(maxsize=2)  # neighbouring units read the same range, one after the other, of two inputs at most
def _range(of: _Range) -> pa.Table:
    return of.stage.read(of.directory, of.unit)


def first_unit(units: Mapping[str, Unit]) -> Unit:
    """The unit of the first input, which has shard and rows; an empty unit if all inputs are read whole."""
    return next(iter(units.values()), Unit("", 0, 0, 0, ()))
