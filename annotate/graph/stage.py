"""A stage: its inputs, its identity, and what it says of its dataset; and the graph that stages make."""

from __future__ import annotations

import abc
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.storage import layout
from annotate.storage.latest import Role
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import read_part
from annotate.storage.store import Directory, checksum

AGAINST = "against_"
"""How the inputs of another corpus, that stands behind the first, are named."""


def digest(data: Any) -> str:
    """Hash JSON-ready data, whatever the order of its keys."""
    return checksum(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


class Stage(abc.ABC):
    """A node of a pipeline: datasets in, one dataset out."""

    name: ClassVar[str]
    schema: ClassVar[str]
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.OTHER

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
        return layout.dataset(self.name, self.recipe)

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
        del name
        return unit.identity_for(self.types_read)

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
