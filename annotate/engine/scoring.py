"""The actors that hold models, and which scoring stages share them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray import exceptions

from annotate.engine import worker
from annotate.engine.cluster import Resources
from annotate.engine.datasets import Dataset
from annotate.graph import Stage, Work
from annotate.stages.score import Score, group

Item = tuple[Work, ...]  # the same unit, for each stage of a group


class Models:
    """The actors that hold the models of a group of scoring stages, one a worker; a dead one is replaced."""

    def __init__(self, stages: Sequence[Score], resources: Resources) -> None:
        self.resources = resources
        device = "cuda" if resources.gpu else "cpu"
        self._arguments = (ray.put(list(stages)), device, resources.threads)
        self._actor = ray.remote(worker.Model).options(
            num_cpus=resources.model_cpus, num_gpus=1 if resources.gpu else 0, max_restarts=0, max_task_retries=0
        )
        self._actors: list[Any] = []
        self._loads = [0] * resources.workers
        self._sent: dict[str, tuple[int, Any]] = {}  # by item: the place of its actor, and the actor

    def describe(self) -> str:
        """How many models, on what."""
        n = self.resources.workers
        return f"{n} {'model' if n == 1 else 'models'}, {'GPU' if self.resources.gpu else 'CPU'}"

    def submit(self, item: Item, batches: Any) -> Any:
        """Send batches to the model with the least in front of it."""
        at = min(range(len(self._loads)), key=self._loads.__getitem__)
        while len(self._actors) <= at:
            self._actors.append(self._actor.remote(*self._arguments))
        self._loads[at] += 1
        self._sent[item[0].key] = (at, self._actors[at])
        return self._actors[at].score.remote(batches)

    def returned(self, results: Iterator[tuple[int, Item, Any]]) -> Iterator[tuple[int, Item, Any]]:
        """Pass results on, counting down what is in front of the models."""
        for index, item, result in results:
            self._loads[self._sent.pop(item[0].key)[0]] -= 1
            yield index, item, result

    def lost(self, item: Item, error: Exception) -> None:
        """Replace the actor that an item was sent to, once, if it is what died."""
        at, actor = self._sent.pop(item[0].key)
        self._loads[at] -= 1
        if _died(error) and self._actors[at] is actor:
            ray.kill(actor)
            self._actors[at] = self._actor.remote(*self._arguments)

    def close(self) -> None:
        """Let the models go."""
        for actor in self._actors:
            ray.kill(actor)


def _died(error: Exception) -> bool:
    """Whether an error, or the one that it passes on from a task it depends on, tells of a dead actor."""
    cause = getattr(error, "cause", None)
    if isinstance(error, exceptions.RayActorError) or isinstance(cause, exceptions.RayActorError):
        return True
    return "ActorDiedError" in str(error) or "ActorUnavailableError" in str(error)


def together(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Stages in order, with scoring stages that share a backbone as one, at the place of the first of them.

    The others of a group read the same inputs as the first, so these are made by then.
    """
    groups = group([stage for stage in stages if isinstance(stage, Score)])
    for stage in stages:
        if not isinstance(stage, Score):
            yield [stage]
            continue
        mine = next(g for g in groups if stage in g)
        if stage is mine[0]:
            yield list(mine)


def group_label(datasets: Sequence[Dataset]) -> str:
    """How people know scoring stages that run together: by all their axes."""
    if len(datasets) == 1:
        return datasets[0].label
    axes = ", ".join(axis for dataset in datasets if isinstance(dataset.stage, Score) for axis in dataset.stage.axes)
    return f"annotations ({axes})"
