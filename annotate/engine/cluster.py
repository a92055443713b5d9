"""The Ray cluster: what a run may use of it."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from annotate.engine import head, nodes
from annotate.engine.options import Options
from annotate.errors import ConfigError
from annotate.graph import Model

WAIT_SECONDS = 300.0
"""A run that waits for a first node says so as often."""


@dataclass(frozen=True)
class Resources:
    """How much of a cluster the models of a stage use.

    Attributes:
        workers: number of models at a time.
        gpus: that a model claims, 0 on CPUs.
        model_cpus: logical CPUs that a model claims.
        feeder_cpus: logical CPUs that a task claims if it prepares or finishes units for models.
        crowded: whether there are more runs than models that fit; on GPUs, more that have models there.
        feeders: tasks at a time that prepare and finish units for each of the models.
        asked: whether they are that few because of the option `workers`: there are CPUs for more.
    """

    workers: int
    gpus: float
    model_cpus: float
    feeder_cpus: float
    crowded: bool = False
    feeders: int = 1
    asked: bool = False

    @property
    def gpu(self) -> bool:
        """Whether models run on GPUs."""
        return self.gpus > 0

    @staticmethod
    def of_models(stage: Model, options: Options, runs: int = 1, on_gpus: int = 1) -> Resources:
        """The share of a stage's models: each takes a GPU, a part of one, or several; or some CPUs.

        Args:
            stage: the stage, for its threads and GPUs, and whether it can use these.
            options: of the run, for the number of models and the device.
            runs: number of runs that share the cluster, this one too. They share the CPUs.
            on_gpus: how many of them would have models on GPUs, this one too. They share the GPUs.

        Raises:
            ConfigError: Ray does not run, there is no GPU although one is asked for, or no node has enough of either.
        """
        there = _there()
        on_cpu, on_gpu = _amounts(there, "CPU"), _amounts(there, "GPU")
        gpus = int(sum(on_gpu))
        workers, device = options.workers, options.device
        own_tasks = part_of(workers or int(sum(on_cpu)), runs)  # of this run, at a time
        free = part_of(int(sum(on_cpu)), runs)  # that it could have
        tasks = runs * own_tasks
        check_asked(options, there)
        if device == "cuda" or (gpus and device == "auto" and stage.gpu):
            fits = [models_on(int(gpu), stage.gpus) for gpu in on_gpu]
            fit = sum(fits)
            if not fit and gpus and not options.grow_to:
                raise ConfigError(
                    f"a model of {stage.label} takes {stage.gpus:g} GPUs, but no node has more than {max(on_gpu):g}",
                    hint="Lower score(..., gpus=...), or use nodes with more GPUs.",
                )
            # A model on a GPU needs little of a CPU. About six CPUs feed one model, so tasks get all the rest.
            share = min((cpu / many for cpu, many in zip(on_cpu, fits, strict=True) if many), default=1.0)
            model = _floor(min(1.0, 0.1 * share))
            left = max(cpu - many * model for cpu, many in zip(on_cpu, fits, strict=True))
            used = part_of(min(workers or fit, fit), on_gpus)
            # All other tasks fit beside the models, else a model would wait for CPUs until these tasks are done.
            each = (sum(on_cpu) - min(on_gpus * used, fit) * model) / tasks
            feeder = _floor(min(1.0, 0.9 * left, each))
            crowded, feeders = on_gpus > max(1, fit), part_of(own_tasks, used)
            asked = feeders < part_of(free, used)
            return Resources(_grown(used, options, on_gpus), stage.gpus, model, feeder, crowded, feeders, asked)
        if stage.threads > max(on_cpu):
            raise ConfigError(
                f"a model of {stage.label} has {stage.threads} threads, but no node has more than {max(on_cpu):g} CPUs",
                hint="Lower score(..., threads=...).",
            )
        fit = max(1, int(sum(cpu // stage.threads for cpu in on_cpu)))
        used = part_of(workers or fit, runs)
        # If each model claimed whole CPUs, none would be left for the tasks that feed them; and with more models than
        # CPUs, some would wait forever. So models share nine tenths of each node. The tasks that feed them claim
        # little, so that another run on the same cluster finds room too. Tasks of other stages claim the same, and all
        # of them fit into the other tenth: else a model would wait for CPUs until these tasks are done.
        feeder = _floor(min(0.1 * sum(on_cpu) / max(2, tasks), 0.1 * max(on_cpu)) / runs)
        claim = _largest_claim(on_cpu, used * runs, stage.threads)
        feeders = part_of(own_tasks, used)
        asked = feeders < part_of(free, used)
        return Resources(_grown(used, options, runs), 0, claim, feeder, runs > fit, feeders, asked)


def check_asked(options: Options, there: Sequence[Mapping[str, float]] | None = None) -> None:
    """Check that the cluster has a GPU, if one is asked for and none is to be added.

    Args:
        options: of the run.
        there: the resources of each node, if they are known already.

    Raises:
        ConfigError: Ray does not run, or there is no GPU although one is asked for.
    """
    if options.device != "cuda" or options.grow_to:
        return
    if not int(sum(_amounts(_there() if there is None else there, "GPU"))):
        raise ConfigError(
            'the device "cuda" was asked for, but the Ray cluster has no GPU',
            hint='Use the device "auto" or "cpu", or a cluster with GPUs; `ray status` shows what a cluster has. '
            "If an autoscaler adds nodes with GPUs when they are asked for, say for how many models: --grow-to N.",
        )


def check_cpus(options: Options) -> None:
    """Check that a run can begin: the cluster has a CPU, or an autoscaler is to add nodes.

    Raises:
        ConfigError: Ray does not run, or the cluster has no CPU.
    """
    _there(least=0 if options.grow_to else 1)


def wait_for_cpu(options: Options, said: Callable[[str], None]) -> None:
    """Wait until the cluster has a CPU, if an autoscaler is to add nodes: it sees the call that waits for one.

    Args:
        options: of the run.
        said: is told, now and then, that the run waits.
    """
    if not is_to_grow(options):
        return
    call = ray.remote(num_cpus=1, max_retries=-1)(_nothing).remote()
    ready: list[Any] = []
    told = -math.inf
    while not ready:
        if time.monotonic() - told > WAIT_SECONDS:
            told = time.monotonic()
            said("the cluster has no CPU yet: waits until its autoscaler adds a node")
        ready, _ = ray.wait([call], timeout=1.0)
        head.check()


def is_to_grow(options: Options) -> bool:
    """Whether the cluster has no CPU yet, and an autoscaler is to add nodes."""
    return bool(options.grow_to) and sum(_amounts(_there(least=0), "CPU")) < 1


def _nothing() -> None:
    """A call that only has to find room."""


def count_workers(workers: int | None) -> int:
    """Number of tasks at a time: `workers`, or None for as many as there are CPUs.

    Raises:
        ConfigError: Ray does not run, or the cluster has no CPU.
    """
    cpus = int(sum(_amounts(_there(), "CPU")))  # an error if there are none, also where a number is given
    return workers or cpus


def largest_memory() -> int:
    """The memory that Ray gives out on the node that has most, in bytes."""
    return int(max(_amounts(_there(), "memory")))


def part_of(of: int, runs: int) -> int:
    """The part of one run of what all have; at least 1."""
    return max(1, of // max(1, runs))


def models_on(gpus: int, each: float) -> int:
    """Number of models that the GPUs of a node have room for. A part of a GPU is a part of one alone."""
    return gpus * int(1 / each + 1e-9) if each < 1 else int(gpus // each)


def _grown(models: int, options: Options, runs: int) -> int:
    """The number of models to ask for, where so many have room, and so many runs want some.

    With other runs, each keeps to its part: a model that waits would take what they give back.
    """
    return max(models, options.grow_to or 0) if runs == 1 else models


def _largest_claim(nodes: list[float], models: int, threads: int) -> float:
    """The most CPUs that each model can claim, so that all fit into nine tenths of each node."""
    shares = [0.9 * cpu for cpu in nodes]
    claims = sorted({_floor(min(0.9 * threads, share / n)) for share in set(shares) for n in range(1, models + 1)})
    # The smaller the claim, the more models fit. Find the largest claim with which all fit.
    at = bisect.bisect_left(claims, True, key=lambda claim: sum(int(share / claim + 1e-9) for share in shares) < models)
    return claims[max(at - 1, 0)]


def _there(least: float = 1) -> list[Mapping[str, float]]:
    """The resources of each node; together `least` CPUs at least. Nodes that are about to leave do not count."""
    if not ray.is_initialized():
        raise ConfigError(
            "Ray is not running in this process",
            hint="Call ray.init() first, or use the command line, which does.",
        )
    gone = nodes.leaving()
    there = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in gone]
    if (cpus := sum(_amounts(there, "CPU"))) < least:
        raise ConfigError(
            f"the Ray cluster has {cpus:g} CPUs; a run needs at least 1",
            hint="Start a worker node, or give the head node CPUs: `ray start --head --num-cpus N`. If an autoscaler "
            "adds nodes when they are asked for, say for how many models: --grow-to N.",
        )
    return there


def _amounts(there: Sequence[Mapping[str, float]], resource: str) -> list[float]:
    """How much of a resource each node has."""
    return [float(resources.get(resource, 0)) for resources in there]


def _floor(cpus: float) -> float:
    """Round down to ten thousandths, the finest that Ray can count."""
    return max(1, int(cpus * 10_000)) / 10_000
