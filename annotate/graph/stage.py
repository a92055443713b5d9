"""A stage: its inputs, its identity, and what it says of its dataset; and the graph that stages make.

The engine and the storage know no stage by its name. What they must know of one, it says itself: its kind, how the
units of its dataset lie, and the roles that are properties and methods here with a default.
"""

from __future__ import annotations

import abc
import functools
import json
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
"""How the inputs of another corpus, that stands behind the first, are named."""


Kind = Literal["source", "map", "reduce", "shuffle", "model"]
"""How the dataset of a stage is made; the engine has a file for each."""

Cut = Literal["documents", "ranges", "whole", "own"]
"""How the units of a dataset lie: a unit for each unit of documents; one for each `RANGE_UNITS` of these, in order; one
unit, which readers read whole; or cut in a way of the stage's own."""


def digest(data: Any) -> str:
    """Hash JSON-ready data, whatever the order of its keys."""
    return checksum(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


class Stage(abc.ABC):
    """A node of a pipeline: datasets in, one dataset out.

    Attributes:
        name: of the kind of stage; its datasets are called so.
        schema: contract of the tables of its units.
        version: raised when the output changes for equal settings and inputs.
        rescored: whether a run with `rescore` drops what it has made, and makes it anew.
    """

    name: ClassVar[str]
    schema: ClassVar[str]
    version: ClassVar[int] = 1
    rescored: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def inputs(self) -> Mapping[str, Stage]:
        """The stages whose datasets this one reads, by the name it reads them under."""

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
        """How the units of its dataset lie."""

    @property
    def role(self) -> Role:
        """What its dataset is to who reads it."""
        if self.made_as == "source":
            return Role.SOURCE
        return Role.UNITS if self.cut == "documents" else Role.OTHER

    @property
    def label(self) -> str:
        """How people tell this stage from others in one pipeline."""
        return self.name

    @property
    def shared(self) -> Hashable | None:
        """Stages that say an equal key, which is not None, are made together."""
        return None

    @property
    def sized_by(self) -> tuple[str, ...]:
        """The inputs whose totals tell how its work is cut: they are committed before it begins."""
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
        """The columns of the documents among its inputs that it reads, but for text and id.

        They are looked for before anything runs.
        """
        return ()

    @property
    def types_read(self) -> tuple[str, ...] | None:
        """The columns of these whose types can change the output; None for all that travel."""
        return self.columns_read

    def identifies(self, name: str, unit: Unit) -> bool:
        """Whether what is made from a unit of input `name` is named by that unit too.

        All that can change the output must be. What is not is read again each time.
        """
        del name, unit
        return True

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """Identity of the dataset made from inputs of these fingerprints."""
        return digest([self.recipe, dict(inputs)])

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """Read a unit of this stage's dataset."""
        tables = [read_part(directory, entry.part, schema=self.schema) for entry in unit.entries]
        return pa.concat_tables(tables) if len(tables) != 1 else tables[0]

    def described(self, manifest: Manifest) -> str:
        """What people are told of a dataset that need not be made."""
        return f"found committed, {manifest.rows:,} row{'' if manifest.rows == 1 else 's'}"

    def about(self) -> Mapping[str, str]:
        """What `latest.json` keeps for those who read the dataset, such as the split that shards are."""
        return {}

    def remarks(self, manifest: Manifest) -> list[str]:
        """What should be said loudly of the finished dataset."""
        del manifest
        return []

    def companions(self, whole: Mapping[str, pa.Table], manifest: Manifest) -> Mapping[str, bytes]:
        """What lies beside the parts of the finished dataset, by path; `whole` has the tables of inputs read whole."""
        del whole, manifest
        return {}


def source_of(stage: Stage) -> Stage:
    """The source that a stage is about in the end: not what it only learns from, such as labels, or filters against."""
    while (above := about(stage)) is not None:
        stage = above
    return stage


def about(stage: Stage) -> Stage | None:
    """The input that a stage is about: `corpus`, else the first one; None for a source that reads nothing."""
    return stage.inputs.get("corpus") or next(iter(stage.inputs.values()), None)


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
