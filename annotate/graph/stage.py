"""A stage: its inputs, its identity, and what it says of its dataset; and the graph that stages make.

The engine and the storage know no stage by its name. A stage tells them its kind, how its dataset is cut into units,
and all else in properties and methods of `Stage`, most of which have a default.
"""

from __future__ import annotations

import abc
import functools
import json
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.storage import layout
from annotate.storage.latest import Role
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import read_part
from annotate.storage.store import Directory, checksum

AGAINST = "against_"
"""Prefix for the names of the inputs of a second corpus, which the first is filtered against."""


Kind = Literal["source", "map", "reduce", "shuffle", "model"]
"""How the dataset of a stage is made; the engine has a file for each."""

Cut = Literal["documents", "ranges", "whole", "own"]
"""How a dataset is cut into units. "documents": as its documents are. "ranges": one unit for `RANGE_UNITS` units of
documents. "whole": one unit, which is read whole. "own": in the stage's own way.
"""


def digest(data: Any) -> str:
    """Hash JSON-ready data, whatever the order of its keys."""
    return checksum(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


class Stage(abc.ABC):
    """A node of a pipeline: datasets in, one dataset out.

    Attributes:
        name: what stages of this class are called; the folders of their datasets begin with it.
        schema: contract of the tables of its units: the name of a file in `schemas/`, or the path of one of yours.
        version: raised when the output changes for equal settings and inputs.
        rescored: whether a run with `rescore` removes its dataset and makes it again.
    """

    name: ClassVar[str]
    schema: ClassVar[str]
    version: ClassVar[int] = 1
    rescored: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def inputs(self) -> Mapping[str, Stage]:
        """The stages whose datasets this one reads, by the name it reads them under.

        The first is the one that leads to the stage's own documents: it has them, or its own first input does.
        """

    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything but the inputs that can change the output, JSON-ready; nothing about how the stage runs."""

    @property
    @abc.abstractmethod
    def made_as(self) -> Kind:
        """How its dataset is made."""

    @property
    @abc.abstractmethod
    def cut(self) -> Cut:
        """How its dataset is cut into units."""

    @property
    def role(self) -> Role:
        """The role of its dataset, for readers of `latest.json`."""
        if self.made_as == "source":
            return Role.SOURCE
        return Role.UNITS if self.cut == "documents" else Role.OTHER

    @property
    def unit_seconds(self) -> float | None:
        """The time that a worker may take for a unit: if it takes longer, its process ends. None for no limit.

        A stage that sets it has it among its settings, since it can change what comes out.
        """
        return None

    def warm(self) -> None:
        """Load what a process loads once for all units. The time of a unit begins after it."""
        return

    @property
    def label(self) -> str:
        """Its name in messages, which tells it from the other stages of a pipeline."""
        return self.name

    @property
    def shared(self) -> Hashable | None:
        """Stages with equal keys are made together; None for a stage that is made alone."""
        return None

    @property
    def sized_by(self) -> tuple[str, ...]:
        """The inputs whose totals decide how the work is cut. They are committed before it begins."""
        return ()

    @functools.cached_property
    def recipe(self) -> str:
        """Hash of the settings and the version, 32 hex digits."""
        return digest([self.name, self.version, self.settings()])

    @property
    def dataset(self) -> str:
        """Directory of the dataset in a work directory."""
        return layout.dataset(self.name, self.recipe)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns of documents that it reads, apart from text and id.

        A run checks first that they are there.
        """
        return ()

    @property
    def types_read(self) -> tuple[str, ...] | None:
        """The columns whose types can change the output; None for all columns that travel."""
        return self.columns_read

    def identifies(self, name: str, unit: Unit) -> bool:
        """Whether the key of what is made from `unit`, a unit of input `name`, depends on it.

        It must if `unit` can change the result. Where it does not, the same committed unit is found whatever `unit`
        holds.
        """
        del name, unit
        return True

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """Identity of the dataset made from inputs of these fingerprints."""
        return digest([self.recipe, dict(inputs)])

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read a unit of this stage's dataset."""
        tables = [read_part(directory, entry.part, schema=self.schema) for entry in unit.entries]
        table = pa.concat_tables(tables) if len(tables) != 1 else tables[0]
        if not unit.narrowed or "row" not in table.column_names:
            return table
        row = table["row"].to_numpy()
        return table.filter(pa.array((row >= unit.start) & (row < unit.stop)))

    @classmethod
    def summary(cls) -> str:
        """What it does, in a few words: the first sentence of the docstring of its class, or of one that it extends."""
        docs = (each.__dict__.get("__doc__") or "" for each in cls.__mro__)
        # `dataclass` gives a class without a docstring its signature.
        first = next((doc for doc in docs if doc and not re.match(r"\w+\(", doc)), "")
        return re.split(r"(?<=[.;:])\s", first.strip(), maxsplit=1)[0].rstrip(".;:")

    def described(self, manifest: Manifest) -> str:
        """What a run says when it finds the dataset committed."""
        return f"found committed, {manifest.rows:,} row{'' if manifest.rows == 1 else 's'}"

    def about(self) -> Mapping[str, str]:
        """Facts for readers of the dataset, such as the subset of shards. They are written into `latest.json`."""
        return {}

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warnings about the finished dataset."""
        del manifest
        return []

    def companions(self, whole: Mapping[str, pa.Table], manifest: Manifest) -> Mapping[str, bytes]:
        """Files to be put beside the parts of the finished dataset, by path.

        `whole` has the tables of the inputs that are read whole.
        """
        del whole, manifest
        return {}


def source_of(stage: Stage) -> Stage:
    """The source of a stage's own documents: not that of labels, nor a corpus that these are filtered against."""
    while (above := first_input(stage)) is not None:
        stage = above
    return stage


def first_input(stage: Stage) -> Stage | None:
    """The input that leads to a stage's documents; None if there are no inputs."""
    return next(iter(stage.inputs.values()), None)


def every(outputs: Iterable[Stage]) -> list[Stage]:
    """All stage objects that `outputs` need, also those that are equal to others."""
    found: dict[int, Stage] = {}
    waiting = list(outputs)
    while waiting:
        stage = waiting.pop()
        if id(stage) not in found:
            found[id(stage)] = stage  # so that its id stays its own
            waiting.extend(stage.inputs.values())
    return list(found.values())


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


def lineages(stages: Iterable[Stage]) -> dict[Stage, str]:
    """What tells each stage, with all that it is made from, from others: a hash of their settings.

    Args:
        stages: inputs before users, as `graph` gives them.
    """
    found: dict[Stage, str] = {}
    for stage in stages:
        found[stage] = stage.fingerprint({name: found[source] for name, source in stage.inputs.items()})
    return found
