"""The models that a stage has on the cluster: actors, each of which holds one.

Only an actor that runs gets units. So a run goes on with what it has: if a node is lost, its units go to the actors
that are left; an actor that waits for room on the cluster keeps no unit waiting; when a node joins, there are more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import exceptions

from annotate.engine.cluster import Resources
from annotate.engine.scheduler import raise_unless_lost
from annotate.errors import ConfigError

AHEAD = 3  # prepared units in front of each model
LOOK_SECONDS = 5.0
"""How often the number of models is looked at again: nodes come and go."""


@dataclass(eq=False)
class _Model:
    """An actor that runs. `warm` is set when a first result is back: until then the model is loaded."""

    actor: Any
    load: int = 0
    warm: bool = False


class Pool:
    """Actors that hold models. They are made when units are about to be sent; one that dies is replaced.

    Args:
        label: of the stage, for messages.
        make: makes an actor; it has to answer `there()` as soon as it runs.
        resources: what an actor claims, and how many there shall be.
        look: finds the resources again; what is found later changes the number of actors alone.
    """

    def __init__(
        self, label: str, make: Callable[[Resources], Any], resources: Resources, look: Callable[[], Resources]
    ) -> None:
        self._label, self._make, self.resources, self._look = label, make, resources, look
        self._models: list[_Model] = []
        self._coming: dict[Any, Any] = {}  # by the reference of its answer: an actor that may wait for room
        self._sent: dict[str, _Model] = {}  # by the key of a unit
        self._failed = 0
        self._looked = time.monotonic()

    @property
    def size(self) -> int:
        """Number of actors that run."""
        return len(self._models)

    def describe(self) -> str:
        """The number of models and their device, for people."""
        n = self.resources.workers
        return f"{n} {'model' if n == 1 else 'models'}, {'GPU' if self.resources.gpu else 'CPU'}"

    def room(self) -> int:
        """How many units may be with the actors that run.

        While models load, one unit for each is enough: more tasks would compete with them for the CPUs.
        """
        self._resize()
        self._welcome()
        return sum(AHEAD if model.warm else 1 for model in self._models)

    def coming(self) -> Mapping[Any, str]:
        """The references of actors that do not run yet, each with what it needs of the cluster."""
        claims = {"CPU": self.resources.model_cpus, "GPU": float(self.resources.gpu)}
        needs = " and ".join(f"{claim:g} {name}" for name, claim in claims.items() if claim)
        return dict.fromkeys(self._coming, f"a model, which needs {needs}")

    def send(self, key: str, prepared: Any) -> Any:
        """Send a prepared unit to the model with the fewest units in front of it; returns the reference of the result.

        There has to be room.
        """
        model = min(self._models, key=lambda each: each.load)
        model.load += 1
        self._sent[key] = model
        return model.actor.forward.remote(prepared)

    def returned(self, key: str) -> None:
        """The result of a unit is back."""
        model = self._sent.pop(key)
        model.load -= 1
        model.warm = True

    def lost(self, key: str, error: Exception) -> None:
        """The worker of a unit was lost. If it was the model's, another model is made in its place."""
        model = self._sent.pop(key)
        model.load -= 1
        if _died(error) and model in self._models:
            self._models.remove(model)
            ray.kill(model.actor)

    def close(self) -> None:
        """End the actors."""
        for actor in [*(model.actor for model in self._models), *self._coming.values()]:
            ray.kill(actor)
        self._models.clear()
        self._coming.clear()

    def _resize(self) -> None:
        """Ask for actors that are missing, and no longer for those that the cluster has no room for."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            with contextlib.suppress(ConfigError):  # while no node is there, wait for one
                found = self._look()
                if found.gpu == self.resources.gpu:
                    self.resources = replace(self.resources, workers=found.workers)
        for _ in range(self.resources.workers - len(self._models) - len(self._coming)):
            actor = self._make(self.resources)
            self._coming[actor.there.remote()] = actor
        for reference in list(self._coming)[max(0, self.resources.workers - len(self._models)) :]:
            ray.kill(self._coming.pop(reference))

    def _welcome(self) -> None:
        """Look which actors run by now.

        Raises:
            AnnotateError: several in a row could not start.
        """
        if not self._coming:
            return
        there, _ = ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)
        for reference in there:
            actor = self._coming.pop(reference)
            try:
                ray.get(reference)
            except exceptions.RayError as error:
                self._failed += 1
                raise_unless_lost(self._label, "a model", error, self._failed)
                ray.kill(actor)
            else:
                self._failed = 0
                self._models.append(_Model(actor))


def _died(error: Exception) -> bool:
    """Whether an actor died: the error says so itself, or passes on such an error of a task that was waited for."""
    cause = getattr(error, "cause", None)
    if isinstance(error, exceptions.RayActorError) or isinstance(cause, exceptions.RayActorError):
        return True
    return "ActorDiedError" in str(error) or "ActorUnavailableError" in str(error)
