"""A model stage: a map in three steps; an actor that holds a model does the middle one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from annotate.graph.stage import Stage
from annotate.graph.tables import Tables
from annotate.models.foretold import Foretold
from annotate.models.trials import Trial, Trials
from annotate.storage.manifests import Unit
from annotate.storage.parts import UnitOutput
from annotate.storage.store import Directory

Rows = npt.NDArray[np.int64]
"""Rows of a shard: int64 `[n]`."""


@dataclass(frozen=True)
class Sample:
    """The first documents of a unit, in memory, to time a model with.

    Attributes:
        tables: the tables that `prepare` reads.
        rows: their rows in the shard.
        items: number of inputs of the model, such as spans.
        text_bytes: bytes of their text.
        documents_bytes: approximate bytes that the datasets of other stages take on disk for these documents.
        result_bytes: approximate bytes that the stage's own dataset takes on disk.
    """

    tables: Tables
    rows: Rows
    items: int
    text_bytes: int
    documents_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class Tuned:
    """What other settings of a model would give.

    Attributes:
        trials: what was tried.
        lines: what to write into the pipeline to have the best of them.
    """

    trials: Trials
    lines: Sequence[str]


class Model(Stage):
    """Runs a model on the documents of a unit, in three steps.

    `prepare` reads and tokenizes, on a CPU. `forward` runs the model on the prepared data. `finish` puts the results in
    order, on a CPU. The table of a unit has a column `row`, the document of each result. When verdicts change and more
    documents are wanted, the missing ones are added to the unit as another entry.

    Stages with equal `shared` keys run together: one call of `prepare` and one of `forward` serve all of them.

    Attributes:
        threads: threads of a model on a CPU. Each takes a CPU.
        gpus: GPUs that a model takes where there are some: one, several, or a part of one.
    """

    threads: int
    gpus: float = 1.0

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
        """A key: stages with equal keys read the same inputs, and run together."""

    @abc.abstractmethod
    def together(self, stages: Sequence[Any]) -> str:
        """The label of stages that run together; this stage is the first of them."""

    @property
    def gpu(self) -> bool:
        """Whether the model can use a GPU."""
        return True

    @property
    def modules(self) -> tuple[str, ...]:
        """Slow modules that the model needs: an actor imports them while the first unit is prepared elsewhere."""
        return ()

    @property
    def repeatable(self) -> bool:
        """Whether a call may be made twice where nothing else is to do: it costs nothing, and gives the same again."""
        return True

    def sent(self) -> Self:
        """The stage as it is sent to the workers that prepare units: with what is better found once than in each."""
        return self

    @abc.abstractmethod
    def wanted(self, tables: Tables) -> Rows:
        """The rows of the documents that the model is to run on, in order."""

    @abc.abstractmethod
    def prepare(self, tables: Tables, rows: Rows) -> Any:
        """Prepare these documents of a unit for the model."""

    def items(self, prepared: Any) -> int:
        """Number of inputs of the model in prepared data that can be left out one by one; 0 if none can.

        If a unit ends the process of a model again and again, the inputs that do it are looked for, and left out.
        """
        del prepared
        return 0

    def prepare_without(self, tables: Tables, rows: Rows, left_out: Mapping[int, str]) -> Any:
        """Prepare these documents of a unit without some of the inputs, which end the process of a model.

        Args:
            tables: as for `prepare`.
            rows: as for `prepare`.
            left_out: the reason for each, for quarantine, by its number among the inputs that `items` counts.
        """
        raise NotImplementedError

    def tokens(self, prepared: Any) -> int:
        """Number of tokens in prepared data; 0 for a model that has no tokens."""
        del prepared
        return 0

    def sample(self, workdir: Directory, unit: Unit, items: int) -> Sample | None:
        """The first documents of a unit, with about `items` inputs of the model.

        A plan measures the time that they take. None if the stage has no sample.
        """
        del workdir, unit, items
        return None

    def foretell(self, workdir: Directory, unit: Unit, device: str) -> Foretold | None:
        """What the first documents of a unit will take, for a stage whose model writes text; None for any other.

        A server is asked nothing. A model here may be tried, on "cpu" or "cuda".
        """
        del workdir, unit, device
        return None

    def tune(
        self, sample: Sample, stages: Sequence[Any], device: str, *, seconds: float, tell: Callable[[Trial], None]
    ) -> Tuned | None:
        """Time the model with other settings on a sample. None if it has no settings that change its speed.

        Args:
            sample: what `sample` returned.
            stages: those that run together; this stage is the first of them.
            device: "cpu" or "cuda".
            seconds: about what each trial takes.
            tell: is given each trial when it is done.
        """
        del sample, stages, device, seconds, tell
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
            model: returns the model, which the first call loads. Call it only if there is an input to run.
            prepared: what `prepare` returned.
            stages: those that run together, in the order in which the model was loaded for them.
            wanted: positions in `stages` of those that need a result.

        Returns:
            A result for each of `wanted`.

        Raises:
            BrokenDevice: the process can't go on, and is ended: another one tries again.
        """

    def device_kind(self, model: Any) -> str:
        """The kind of device that the model runs on. It is noted with each unit."""
        del model
        return "python"

    @abc.abstractmethod
    def finish(self, shard: str, prepared: Any, result: Any, device: str, covered: Rows) -> UnitOutput:
        """Make the table of a unit.

        Args:
            shard: of the unit.
            prepared: what `prepare` returned.
            result: what `forward` returned for this stage.
            device: the kind of device that the model ran on; empty if it did not run.
            covered: rows of documents to leave out, because their results are committed.
        """
