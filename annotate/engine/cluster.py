"""The Ray cluster: what it has, and calls on it with bounded in-flight work and retries.

Only this package imports `ray`, the command line aside. Text and tables never pass through the driver: it sends
descriptions of units and gets back what was committed.
"""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray import exceptions

from annotate.errors import AnnotateError, ConfigError, WorkError
from annotate.stages.score import Score

Item = TypeVar("Item")
ATTEMPTS = 4
QUIET_SECONDS = 300.0

LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.RaySystemError,
)


@dataclass(frozen=True)
class Resources:
    """How much of a cluster a run uses.

    Attributes:
        workers: tasks, or models, at a time.
        gpu: whether models run on GPUs.
        model_cpus: logical CPUs that a model claims.
        feeder_cpus: logical CPUs that a task claims which prepares or finishes units for models.
        threads: torch threads of a model.
    """

    workers: int
    gpu: bool
    model_cpus: float
    feeder_cpus: float
    threads: int

    @staticmethod
    def found(workers: int | None) -> Resources:
        """What tasks may use: `workers` at a time, None for as many as there are CPUs.

        Raises:
            ConfigError: Ray does not run, or the cluster has no CPU.
        """
        used = workers or int(sum(_nodes("CPU")))
        return Resources(used, False, 1.0, 1.0, 1)

    @staticmethod
    def of_models(stage: Score, workers: int | None, device: str) -> Resources:
        """What the models of a scoring stage may use: one a GPU, or a CPU share.

        Args:
            stage: whose models, for its threads and whether it can use a GPU.
            workers: models at a time; None for as many as fit.
            device: "cpu", "cuda", or "auto" for GPUs where the cluster has them.

        Raises:
            ConfigError: Ray does not run, there is no GPU although one is asked for, or no node has enough CPUs.
        """
        nodes = _nodes("CPU")
        on_gpu = _nodes("GPU") if ray.cluster_resources().get("GPU") else [0.0] * len(nodes)
        gpus = int(sum(on_gpu))
        if device == "cuda" and not gpus:
            raise ConfigError("--device cuda was asked for, but the Ray cluster has no GPU")
        if gpus and (device == "cuda" or (device == "auto" and stage.scorer.backbone.gpu)):
            # A model on a GPU needs little of a CPU; about six CPUs feed one, so the rest is for what feeds them.
            share = min(cpu / int(gpu) for cpu, gpu in zip(nodes, on_gpu, strict=True) if gpu >= 1)
            model = _floor(min(1.0, 0.1 * share))
            left = max(cpu - int(gpu) * model for cpu, gpu in zip(nodes, on_gpu, strict=True))
            return Resources(min(workers or gpus, gpus), True, model, _floor(min(1.0, 0.9 * left)), stage.threads)
        if stage.threads > max(nodes):
            raise ConfigError(
                f"a model of {', '.join(stage.axes)} has {stage.threads} threads; no node has over {max(nodes):g}",
                hint="Lower score(..., threads=...).",
            )
        used = workers or max(1, int(sum(cpu // stage.threads for cpu in nodes)))
        # Models that each claimed whole CPUs would leave none to what feeds them, and more models than CPUs would wait
        # for each other for ever. So models share nine tenths of each node, and what feeds them claims little: that of
        # another run on the same cluster must find room too.
        feeder = _floor(min(0.1 * sum(nodes) / max(2, used), 0.1 * max(nodes)))
        return Resources(used, False, _largest_claim(nodes, used, stage.threads), feeder, stage.threads)


def _largest_claim(nodes: list[float], models: int, threads: int) -> float:
    """The most CPUs that each of some models can claim if all are to fit on the nodes, in nine tenths of each."""
    shares = [0.9 * cpu for cpu in nodes]
    claims = sorted({_floor(min(0.9 * threads, share / n)) for share in set(shares) for n in range(1, models + 1)})
    # The smaller the claim, the more fit: the first, from the largest down, that all fit with.
    at = bisect.bisect_left(claims, True, key=lambda claim: sum(int(share / claim + 1e-9) for share in shares) < models)
    return claims[max(at - 1, 0)]


def _nodes(resource: str) -> list[float]:
    """How much of a resource each node of the cluster has."""
    if not ray.is_initialized():
        raise ConfigError(
            "Ray is not running in this process",
            hint="Call ray.init() first, or use the command line, which does.",
        )
    found = [float(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]]
    if resource == "CPU" and sum(found) < 1:
        raise ConfigError(f"the Ray cluster has {sum(found):g} CPUs; a run needs at least 1")
    return found


def _floor(cpus: float) -> float:
    """Round down to what Ray can count, ten thousandths."""
    return max(1, int(cpus * 10_000)) / 10_000


@dataclass
class Calls(Generic[Item]):
    """Calls on the cluster, with at most `limit` in flight, tried again where a worker was lost.

    Attributes:
        stage: for messages.
        submit: sends an item off, and returns the reference of its result.
        name: how people know an item.
        limit: items in flight.
        first: items in flight at first, one more with each result; None for `limit`.
        stall_seconds: give up when nothing comes back for so long.
        lost: called with an item and the error that lost it, before it is tried again.
        waiting: called with the names of what is in flight, every few minutes of silence.
    """

    stage: str
    submit: Callable[[Item], ray.ObjectRef]
    name: Callable[[Item], str]
    limit: int
    stall_seconds: float
    lost: Callable[[Item, Exception], None] = lambda item, error: None
    waiting: Callable[[list[str]], None] = lambda names: None
    first: int | None = None
    _flying: dict[Any, tuple[int, Item, int]] = field(default_factory=dict)

    def results(self, items: Iterator[Item]) -> Iterator[tuple[int, Item, Any]]:
        """Yield index, item and result of each item, as they come back.

        Raises:
            AnnotateError: what the worker raised.
            WorkError: an item failed on every attempt, or nothing comes back any more.
        """
        numbered = enumerate(items)
        exhausted = False
        limit = self.limit if self.first is None else min(self.first, self.limit)
        quiet_since = told = time.monotonic()
        while True:
            while not exhausted and len(self._flying) < limit:
                following = next(numbered, None)
                if following is None:
                    exhausted = True
                else:
                    self._flying[self.submit(following[1])] = (*following, 1)
            if not self._flying:
                return
            done, _ = ray.wait(list(self._flying), num_returns=1, timeout=1.0)
            if done:
                quiet_since = told = time.monotonic()
                index, item, attempt = self._flying.pop(done[0])
                if (result := self._result(done[0], index, item, attempt)) is not _AGAIN:
                    limit = min(limit + 1, self.limit)
                    yield index, item, result
                continue
            now = time.monotonic()
            if now - told > QUIET_SECONDS:
                told = now
                self.waiting(self._names())
            if now - quiet_since > self.stall_seconds:
                # Nothing is cancelled, neither here nor after another error: what is in flight commits what it can, and
                # ends with the driver. Ray can abort a process that cancels a call in the moment when it completes.
                raise WorkError(
                    f"{self.stage}: nothing came back for {self.stall_seconds:.0f} s; in flight: "
                    + ", ".join(self._names()),
                    hint="Look at the Ray dashboard, then run again: committed units are kept. A unit that takes "
                    "longer needs a larger --stall-seconds, or a smaller unit_bytes.",
                )

    def _result(self, reference: Any, index: int, item: Item, attempt: int) -> Any:
        try:
            return ray.get(reference)
        except exceptions.TaskCancelledError:
            raise
        except exceptions.RayError as error:
            cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
            if isinstance(cause, AnnotateError):
                raise cause from None
            if missing := re.search(r"No module named '([\w.]+)'", str(error)):
                raise ConfigError(
                    f"{self.stage}: the workers can't import the module {missing[1]!r}",
                    hint="Put what a pipeline uses into its file, or its folder on the PYTHONPATH of the nodes, or "
                    "into the job's --working-dir; a program that calls pipeline.run names its modules in "
                    "Options(by_value=...).",
                ) from None
            if not isinstance(cause, LOST) and not isinstance(error, LOST):
                raise WorkError(
                    f"{self.stage}: {self.name(item)} failed: {type(cause).__name__}: {cause}\n\n{error}"
                ) from None
            if attempt == ATTEMPTS:
                raise WorkError(
                    f"{self.stage}: {self.name(item)} lost its worker {ATTEMPTS} times, at last: {str(error).strip()}",
                    hint="A worker that is killed again and again is often out of memory: use fewer --workers, or a "
                    "smaller unit_bytes.",
                ) from None
            self.lost(item, error)
            self._flying[self.submit(item)] = (index, item, attempt + 1)
            return _AGAIN

    def _names(self) -> list[str]:
        return [self.name(item) for _, item, _ in sorted(self._flying.values(), key=lambda flying: flying[0])]


_AGAIN = object()
