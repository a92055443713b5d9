"""A model stage: a map whose middle step an actor does that holds a model."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.storage.manifests import Unit
from annotate.storage.parts import Output
from annotate.storage.store import Directory

Rows = npt.NDArray[np.int64]
"""Rows of a shard: int64 `[n]`."""


@dataclass(frozen=True)
class Sample:
    """The first documents of a unit, in memory, to time a model with.

    Attributes:
        tables: what `prepare` reads of them.
        rows: of the shard.
        items: what the model is to take, such as spans.
        text_bytes: of the documents.
        documents_bytes: that datasets of these documents take on disk, about, beside the stage's own.
        result_bytes: that the stage's own takes, about.
    """

    tables: Tables
    rows: Rows
    items: int
    text_bytes: int
    documents_bytes: int
    result_bytes: int


class Model(Stage):
    """Makes something of the documents of a unit with a model, in three steps.

    `prepare` reads and tokenizes, on a CPU; `forward` is called where the model is, with what was prepared; `finish`
    puts the result in order, on a CPU. The table of a unit has a column `row`, of the documents that it is about: when
    more are wanted than there were, as verdicts changed, the unit is topped up with the others, as an entry of its own.

    Stages that say an equal `shared` key run together: what one of them prepares is prepared for all, and one call of
    `forward` serves all.

    Attributes:
        threads: of a model on a CPU, which are as many CPUs.
    """

    threads: int

    @property
    def made_as(self) -> Literal["model"]:
        """A model stage."""
        return "model"

    @property
    def cut(self) -> Literal["documents"]:
        """A unit for each unit of the documents."""
        return "documents"

    @property
    @abc.abstractmethod
    def shared(self) -> Hashable:
        """What stages have in common that run together."""

    @abc.abstractmethod
    def together(self, stages: Sequence[Any]) -> str:
        """How people know stages of its kind that run together, itself the first of them."""

    @property
    def gpu(self) -> bool:
        """Whether the model can use a GPU."""
        return True

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that the model needs and that are slow to import: meanwhile the first unit is prepared elsewhere."""
        return ()

    @abc.abstractmethod
    def wanted(self, tables: Tables) -> Rows:
        """The rows of the documents of a unit of which something is to be made, in order."""

    @abc.abstractmethod
    def prepare(self, tables: Tables, rows: Rows) -> Any:
        """Prepare these documents of a unit for the model."""

    def tokens(self, prepared: Any) -> int:
        """How many tokens the model takes of what was prepared; 0 where there are none."""
        del prepared
        return 0

    def sample(self, workdir: Directory, unit: Unit, items: int) -> Sample | None:
        """The first documents of a unit of the documents that the stage is about, of so many items, about.

        For the time that a plan tells; None where that can't be told.
        """
        del workdir, unit, items
        return None

    @abc.abstractmethod
    def load(self, stages: Sequence[Any], device: str) -> Any:
        """Load the model of stages that run together, onto "cpu" or "cuda"."""

    @abc.abstractmethod
    def forward(
        self, model: Callable[[], Any], prepared: Any, stages: Sequence[Any], wanted: Sequence[int]
    ) -> Sequence[Any]:
        """Run the model.

        Args:
            model: gives the model, which is loaded when first asked for: not asking saves that.
            prepared: what `prepare` gave.
            stages: those that run together, in the order in which the model was loaded for them.
            wanted: which of them want a result.

        Returns:
            A result for each that does.
        """

    def device_kind(self, model: Any) -> str:
        """The kind of device that a model runs on, which is noted with each unit."""
        del model
        return "python"

    @abc.abstractmethod
    def finish(self, shard: str, prepared: Any, result: Any, device: str, covered: Rows) -> Output:
        """Make the table of a unit.

        Args:
            shard: of the unit.
            prepared: what `prepare` gave.
            result: what `forward` gave for this stage.
            device: the kind that the model ran on; empty where it was not needed.
            covered: rows of documents to leave out: theirs are committed.
        """
