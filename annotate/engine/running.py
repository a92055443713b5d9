"""What all kinds of stage use in a run: tasks, and the manifests of datasets that are being made."""

from __future__ import annotations

import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from annotate.amounts import counted
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.events import Events
from annotate.engine.facts import Heard, Sent
from annotate.engine.lease import Lease
from annotate.engine.options import Options
from annotate.engine.sharing import Sharing
from annotate.engine.worker import Context, told
from annotate.graph import Documents, Stage
from annotate.graph.tables import Work
from annotate.storage import layout
from annotate.storage.faults import reach
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.store import Directory

T = TypeVar("T")
UNIT_BYTES = 8 << 20
"""Bytes of text that a work unit aims at, if no corpus sets it."""

STARVED_BYTES = 1 << 29
"""What a task is thought to have needed, if it was ended for want of memory and none has told its peak."""

_REMOTE = ray.remote(told)


@dataclass
class _Memory:
    """What the tasks of a stage ask for.

    Attributes:
        asked: the most that one has asked for, in bytes.
        least: what each asks for at least, since one was ended for want of memory.
        since: the time from which on they do.
    """

    asked: int = 0
    least: int = 0
    since: float = -math.inf


@dataclass
class Running:
    """A run that is going on, for the kinds of stage.

    Attributes:
        workdir: the work directory.
        options: its options.
        events: takes its events.
        lease: its lease on the work directory.
        unit_bytes: bytes of text that a work unit aims at; with several corpora, the largest of their values.
        heard: takes the facts of calls.
    """

    workdir: Directory
    options: Options
    events: Events
    lease: Lease
    unit_bytes: int = UNIT_BYTES
    heard: Heard = field(default_factory=Heard)
    _memories: defaultdict[str, _Memory] = field(default_factory=lambda: defaultdict(_Memory))  # by label of a stage

    @functools.cached_property
    def sharing(self) -> Sharing:
        """Says what the run may have of the cluster."""
        return Sharing(self.options.workers)

    @property
    def workers(self) -> int:
        """Number of tasks at a time, now."""
        return self.sharing.share().workers

    def put(self, data: Any) -> Any:
        """Put data where all tasks can read it."""
        return ray.put(data)

    def task(
        self, function: Callable[..., Any], cpus: float, *arguments: Any, stage: str, units: str, retries: int = 0
    ) -> Any:
        """Call a function in a worker.

        Args:
            function: what to call.
            cpus: that the call claims.
            arguments: of the function. A reference that this returned stands for the result of that call.
            stage: label of the stage, or of the stages that are made together.
            units: name of the units, for people.
            retries: how often Ray itself may repeat the call.

        Returns:
            The reference of what the call tells: take that apart with `heard`.
        """
        sent = Sent(stage, function.__name__, units, time.time())
        options = {"num_cpus": cpus, "max_retries": retries, "name": sent.name}
        if memory := self._memory(sent):
            options["memory"] = memory
        return _REMOTE.options(**options).remote(sent, function, *arguments)

    def _memory(self, sent: Sent) -> int:
        """The memory that a call asks of its node: what an earlier one has held at its peak; 0 if there was none.

        It is rounded up to a power of 2, since Ray keeps workers apart by what their tasks ask for.
        """
        stage = self._memories[sent.stage]
        peak = max(self.heard.peaks.get((sent.stage, sent.step), 0), stage.least)
        asked = min(1 << (peak - 1).bit_length(), self.sharing.share().memory) if peak else 0
        stage.asked = max(stage.asked, asked)
        return asked

    def starved(self, stage: str, sent: float) -> None:
        """A task of this stage was ended, since its node had too little memory: its tasks ask for twice as much.

        Tasks that were sent before the last time change nothing: they did not ask for that much yet.
        """
        memory = self._memories[stage]
        if sent > memory.since:
            memory.since = time.monotonic()
            memory.least = 2 * (memory.asked or STARVED_BYTES)

    def context(self, dataset: Dataset, aligned: Aligned) -> Context:
        """The data that all units of a stage share."""
        # With another run in the same directory, units that it commits are looked for.
        fresh = not self.options.share and next(iter(dataset.directory.sizes(f"{layout.ENTRIES}/")), None) is None
        return Context(dataset.stage, self.workdir, aligned.whole, fresh, self.unit_bytes)

    def collect(self, datasets: Sequence[Dataset], label: str = "") -> Collected:
        """Begin the manifests of datasets that are made together."""
        return Collected(self, datasets, label or datasets[0].label)


class Collected:
    """Puts results back in order, writes them into manifests, and commits the datasets."""

    def __init__(self, running: Running, datasets: Sequence[Dataset], label: str) -> None:
        self._running, self._datasets, self._label = running, datasets, label
        self._writers = [dataset.begin() for dataset in datasets]
        self._early: dict[int, Sequence[Sequence[Unit]]] = {}
        self._following = 0

    def take(self, index: int, made: Sequence[Sequence[Unit]]) -> None:
        """Take the units that were made from item `index`: a list for each dataset."""
        reach("driver: receipt taken")
        self._running.lease.check()
        self._early[index] = made
        rows = sum(entry.part.rows for unit in made[0] for entry in unit.entries)
        self._running.events.advanced(self._label, len(made[0]), rows)
        while self._following in self._early:
            for writer, units in zip(self._writers, self._early.pop(self._following), strict=True):
                for unit in units:
                    writer.add(unit)
            self._following += 1

    def commit(self) -> None:
        """Commit the datasets."""
        for dataset, writer in zip(self._datasets, self._writers, strict=True):
            dataset.commit(writer)
        made = self._datasets[0].manifest
        assert made is not None, "it was just committed"
        # A shuffle has advanced by what was sent, too.
        self._running.events.finished(self._label, counted(made.units, "unit"))


def manifests(dataset: Dataset) -> dict[str, Manifest]:
    """The manifests of the inputs that are in the stage's `sized_by`, as far as they are committed."""
    found = {name: dataset.inputs[name].manifest for name in dataset.stage.sized_by}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def in_order(made: dict[int, T]) -> list[T]:
    """Results by number, in order."""
    return [made[index] for index in sorted(made)]


def chunks(items: Iterator[T | None], size: int) -> Iterator[list[T] | None]:
    """Lists of `size` items; passes on the None of an item that is not there yet."""
    chunk: list[T] = []
    for item in items:
        if item is None:
            yield None
            continue
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def name_of(work: Work) -> str:
    """The name of a unit of work in messages."""
    return f"{work.shard}[{work.start}:{work.stop}]" if work.shard else work.key


def names_of(works: Sequence[Work]) -> str:
    """The name of several units of work in messages."""
    more = len(works) > 1 and works[1].shard != works[0].shard
    return name_of(works[0]) + (f" and {len(works) - 1} more" if more else "")


def unit_bytes(stages: Sequence[Stage]) -> int:
    """Bytes of text that a work unit aims at: the largest `unit_size` of the stages."""
    return max((stage.unit_size for stage in stages if isinstance(stage, Documents)), default=UNIT_BYTES)
