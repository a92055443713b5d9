"""What a stage is: a frozen dataclass whose inputs are other stages, and the pure functions that do its work.

Four kinds. A *narrow* stage makes a unit from the same unit of its inputs. A *wide* one needs all units of its inputs
and is built from pieces. A *regroup* stage plans its units from the manifests of its inputs. An *exchange* sends the
rows of one input to partitions, and makes a unit of each. A stage knows nothing of Ray, retries or paths: it gets
tables and returns tables.
"""

from __future__ import annotations

import abc
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.storage.column_types import typed_identity
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output, read_part
from annotate.storage.store import Directory, checksum


def digest(data: Any) -> str:
    """Hash JSON-ready data, whatever the order of its keys."""
    return checksum(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


class Stage(abc.ABC):
    """A node of a pipeline: datasets in, one dataset out."""

    name: ClassVar[str]
    schema: ClassVar[str]
    version: ClassVar[int] = 1

    @property
    @abc.abstractmethod
    def inputs(self) -> Mapping[str, Stage]:
        """The stages whose datasets this one reads, by the name it reads them under."""

    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything but the inputs that can change the output, JSON-ready; nothing about how the stage runs."""

    @property
    def label(self) -> str:
        """How people tell this stage from others in one pipeline."""
        return self.name

    @functools.cached_property
    def recipe(self) -> str:
        """Hash of the settings and the version, 32 hex digits."""
        return digest([self.name, self.version, self.settings()])

    @property
    def dataset(self) -> str:
        """Directory of the dataset in a work directory."""
        return f"{self.name}-{self.recipe[:8]}"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns of its input `corpus` that it reads, but for text and id: looked for before anything runs."""
        return ()

    @property
    def types_read(self) -> tuple[str, ...] | None:
        """The columns of its input `corpus` whose types can change the output; None for all that travel."""
        return self.columns_read

    def identity_of(self, name: str, unit: Unit) -> str:
        """What a unit of input `name` is known by in the name of what is made of it."""
        return typed_identity(unit, self.types_read) if name.removeprefix(AGAINST) == "corpus" else unit.identity

    def identifies(self, name: str, unit: Unit) -> bool:
        """Whether a unit of input `name` is part of the name of what is made of it, as all that can change it must."""
        del name, unit
        return True

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """Identity of the dataset made from inputs of these fingerprints."""
        return digest([self.recipe, dict(inputs)])

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read a unit of this stage's dataset."""
        tables = [read_part(directory, entry.part, schema=self.schema) for entry in unit.entries]
        return pa.concat_tables(tables) if len(tables) != 1 else tables[0]

    def remarks(self, manifest: Manifest) -> list[str]:
        """What should be said loudly of the finished dataset."""
        del manifest
        return []

    def companions(self, whole: Mapping[str, pa.Table], manifest: Manifest) -> Mapping[str, bytes]:
        """What lies beside the parts of the finished dataset, by path; `whole` are the tables of wide inputs."""
        del whole, manifest
        return {}


@dataclass(frozen=True)
class Work:
    """What one unit of work reads: the units of its inputs, in order; `key` names it in the dataset.

    `number` is the place of the first of `units` in its dataset.
    """

    key: str
    shard: str
    start: int
    stop: int
    text_bytes: int
    units: tuple[Mapping[str, Unit], ...]
    number: int = 0


AGAINST = "against_"
"""How the inputs of another corpus, that stands behind the first, are named."""


class Tables:
    """The tables of one unit of a stage's inputs, read when asked for; `number` is the unit's place in its dataset."""

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

    @property
    def shard(self) -> str:
        """Name of the corpus shard of the unit."""
        return next(iter(self._units.values())).shard

    @property
    def rows(self) -> range:
        """Rows of the shard that the unit covers."""
        unit = next(iter(self._units.values()))
        return range(unit.start, unit.stop)

    def __getitem__(self, name: str) -> pa.Table:
        """The table of input `name`: of this unit, or the whole dataset where that stage is wide."""
        if name in self._shared:
            return self._shared[name]
        name = self._named(name)
        return self._stage.inputs[name].read(self.directory(name), self._units[name])

    def unit(self, name: str) -> Unit:
        """The unit record of input `name`."""
        return self._units[self._named(name)]

    def stage(self, name: str) -> Stage:
        """The stage that is input `name`."""
        return self._stage.inputs[self._named(name)]

    def directory(self, name: str) -> Directory:
        """Where the dataset of input `name` lies."""
        return self._workdir.child(self.stage(name).dataset)

    def _named(self, name: str) -> str:
        """The input that stands for `name` here: a unit of another corpus has its own."""
        return name if name in self._units else AGAINST + name


class Source(Stage):
    """Reads what lies outside the work directory: the driver lists its units when a run begins."""


class Narrow(Stage):
    """A unit needs only the same unit of the inputs, and the whole of wide ones."""

    @abc.abstractmethod
    def unit(self, tables: Tables) -> Output:
        """Make one unit."""


class Wide(Stage):
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


class Exchange(Stage):
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


def documents_of(stage: Stage) -> Stage:
    """The source whose documents a stage is about: not what it only learns from, such as labels, or filters against.

    An input `corpus` leads to it, else the first one.
    """
    while inputs := stage.inputs:
        stage = inputs.get("corpus") or next(iter(inputs.values()))
    return stage


def graph(outputs: Iterable[Stage]) -> list[Stage]:
    """All stages that `outputs` need, inputs before users; equal stages appear once.

    Raises:
        ConfigError: a stage is its own input, directly or through others.
    """
    done: dict[Stage, None] = {}
    finished: set[int] = set()
    path: list[Stage] = []

    def visit(stage: Stage) -> None:
        if id(stage) in finished:
            return
        if any(stage is above for above in path):
            names = " <- ".join(s.name for s in [*path, stage])
            raise ConfigError(f"the pipeline has a cycle: {names}", hint="A stage may only read stages made before it.")
        path.append(stage)
        for source in stage.inputs.values():
            visit(source)
        path.pop()
        finished.add(id(stage))
        done.setdefault(stage)

    for stage in outputs:
        visit(stage)
    return list(done)
