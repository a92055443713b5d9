"""Runs that share a cluster: each shows the others that it is there, and takes no more than its part.

A run has a placement group of its own, which claims next to nothing, and another one while it has models on GPUs. All
runs see their names, and Ray removes them when the process of the run ends, in whatever way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray import exceptions
from ray.util import placement_group, placement_group_table, remove_placement_group

from annotate.engine import head
from annotate.engine.cluster import count_workers, largest_memory, part_of
from annotate.errors import ConfigError

LOOK_SECONDS = 5.0
"""How often the cluster and its runs are looked at."""
NAME = "annotate run "
"""The name of a run's placement group begins so."""
GPUS = "GPUs of annotate run "
"""The name of its other one begins so."""


@dataclass(frozen=True)
class Share:
    """What a run may have of the cluster.

    Attributes:
        workers: tasks, or models, at a time.
        limit: most calls in flight, of all stages without models.
        memory: the most that a task may claim, in bytes: what the largest node has.
        claim: CPUs that a task claims, where no model is held. With other runs there it is less than one: their models
            hold most of a CPU, and what is left has to do.
    """

    workers: int
    limit: int
    memory: int = 0
    claim: float = 1.0


@contextlib.contextmanager
def shown(run: str, kind: str = NAME) -> Iterator[None]:
    """Show the other runs that this one is there, inside the block; of the kind `GPUS`, that it has models on GPUs."""
    group = placement_group([{"node:__internal_head__": 0.0001}], name=f"{kind}{run}")
    try:
        yield
    finally:
        if not head.is_lost():
            with contextlib.suppress(exceptions.RayError, OSError):
                remove_placement_group(group)


def runs(*kinds: str) -> tuple[list[str], ...]:
    """The names of the runs that are on the cluster now, sorted: for each kind, `NAME` or `GPUS`, those shown so."""
    names = [group["name"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
    return tuple(sorted(name.removeprefix(kind) for name in names if name.startswith(kind)) for kind in kinds)


@dataclass
class Sharing:
    """Looks at the cluster now and then, and says what this run may have of it.

    Attributes:
        most: most workers; None for as many as the cluster has.
    """

    most: int | None
    _runs: Sequence[str] = ()
    _on_gpus: Sequence[str] = ()
    _share: Share | None = None
    _looked: float = field(default=-LOOK_SECONDS)

    def share(self) -> Share:
        """What this run may have now."""
        self._look()
        assert self._share is not None
        return self._share

    def runs(self) -> Sequence[str]:
        """The runs on the cluster, this one too."""
        self._look()
        return self._runs

    def on_gpus(self) -> Sequence[str]:
        """Those of the runs that have models on GPUs, or wait for some."""
        self._look()
        return self._on_gpus

    def describe(self) -> str:
        """What the cluster has, what of it is free, and which runs share it; for people."""
        if head.is_silent():
            return "the head of the cluster does not answer"
        try:
            has, free = ray.cluster_resources(), ray.available_resources()
        except exceptions.RayError as error:
            return f"the cluster does not answer: {error}"
        kinds = [kind for kind in ("CPU", "GPU", "memory") if has.get(kind)]
        of = ", ".join(f"{_amount(kind, free.get(kind, 0.0))} of {_amount(kind, has[kind])} {kind}" for kind in kinds)
        several = f"; runs that share it: {', '.join(self._runs)}" if len(self._runs) > 1 else ""
        return f"the cluster has free: {of}{several}"

    def _look(self) -> None:
        now = time.monotonic()
        if self._share is not None and (now - self._looked < LOOK_SECONDS or head.is_silent()):
            return
        self._looked = now
        try:
            self._runs, self._on_gpus = runs(NAME, GPUS)
            workers, memory = part_of(count_workers(self.most), len(self._runs)), largest_memory()
        except (ConfigError, exceptions.RayError):  # while no node is there, wait for one
            if self._share is None:
                raise
            return
        # A task waits for another, so that its worker is never idle; with a number of workers that was asked for, none.
        limit = workers * (2 if self.most is None else 1)
        self._share = Share(workers, limit, memory, 1.0 if len(self._runs) < 2 else 0.5)


def amounts(claims: Mapping[str, float]) -> str:
    """Resources, for people."""
    return " and ".join(
        f"{_amount(kind, claims[kind])} {kind}" for kind in sorted(claims) if claims[kind] and ":" not in kind
    )


def _amount(kind: str, of: float) -> str:
    return f"{of / (1 << 30):.1f} GiB" if kind == "memory" else f"{round(of, 4):g}"
