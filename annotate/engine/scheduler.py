"""The scheduler: makes the calls of all stages that can go on, with retries and bounded work in flight.

Only this package imports `ray`, the command line aside. Text and tables never pass through the driver: it sends
descriptions of units and gets back what was committed.

Each stage is a *job*. A job has *steps*, one after the other; a step has calls that may be in flight at the same time.
The items of a step come from an iterator. It gives None while the next item is not there yet, because the units that it
reads are still being made. Nothing is queued: the next item is taken when there is room for a call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions

from annotate.errors import AnnotateError, ConfigError, WorkError

ATTEMPTS = 4
QUIET_SECONDS = 300.0
AHEAD_OF_FIRST = 1024
"""Most calls of a step that are sent before the oldest result is back: the driver holds the results that come early."""

LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.RaySystemError,
)


@dataclass
class Calls:
    """Calls of one stage that may be in flight at the same time.

    Attributes:
        items: the items to send, in order; None while the next one is not there yet.
        submit: sends an item, with the CPUs that a task may claim; returns the reference of its result.
        name: the name of an item in messages.
        take: is called with the number of an item, the item and its result, in the order in which results come.
        limit: most calls in flight; None for a share of the scheduler's own limit.
        first: most calls in flight at first; each result allows one more, up to `limit`. None for `limit`.
        lost: is called with an item and the error that lost its worker, before the item is tried again.
    """

    items: Iterator[Any]
    submit: Callable[[Any, float], Any]
    name: Callable[[Any], str]
    take: Callable[[int, Any, Any], None]
    limit: int | None = None
    first: int | None = None
    lost: Callable[[Any, Exception], None] = lambda item, error: None


@dataclass
class Job:
    """A stage to be made.

    Attributes:
        label: for messages.
        ready: says whether the job can begin.
        steps: its steps; the job begins when the first is taken.
        claim: for a job that holds models, the most CPUs that any task may claim while it goes on; else None. Only one
            job that holds models goes on at a time.
    """

    label: str
    ready: Callable[[], bool]
    steps: Iterator[Calls]
    claim: float | None = None


@dataclass
class _Flying:
    """A call in flight."""

    job: _Going
    index: int
    item: Any
    attempt: int
    cpus: float


@dataclass
class _Going:
    """A job that has begun, and its current step."""

    job: Job
    calls: Calls | None = None
    sent: int = 0
    exhausted: bool = True
    limit: int | None = None
    flying: dict[Any, _Flying] = field(default_factory=dict)
    told: float = 0.0

    def step(self) -> bool:
        """Go to the next step; False if there is none."""
        self.calls = next(self.job.steps, None)
        if self.calls is None:
            return False
        self.sent, self.exhausted = 0, False
        self.limit = self.calls.first if self.calls.first is not None else self.calls.limit
        return True

    def room(self) -> bool:
        """Whether the step may have another call in flight."""
        oldest = min((call.index for call in self.flying.values()), default=self.sent)
        return (self.limit is None or len(self.flying) < self.limit) and self.sent - oldest < AHEAD_OF_FIRST

    def names(self) -> list[str]:
        """The names of the items in flight, for people."""
        assert self.calls is not None
        return [self.calls.name(call.item) for call in sorted(self.flying.values(), key=lambda call: call.index)]


@dataclass
class Scheduler:
    """Runs jobs. Every job that can go on does; later jobs are served first.

    Attributes:
        workers: number of tasks at a time.
        limit: most calls in flight of all steps without a limit of their own. While models hold the CPUs, it is
            `workers`: then each task claims so little that all calls in flight run at once.
        stall_seconds: give up if no job gets a result for so many seconds. Jobs share the CPUs, so the calls of one job
            may have to wait for those of the others.
        waiting: is called every few minutes in which no result comes, with the label of the job and the names of the
            items in flight.
        heard: takes what a call returned apart into its result, which it returns, and the facts of the call.
    """

    workers: int
    limit: int
    stall_seconds: float
    waiting: Callable[[str, list[str]], None] = lambda label, names: None
    heard: Callable[[Any], Any] = lambda told: told
    _going: list[_Going] = field(default_factory=list)
    _claim: float = 1.0
    _heard: float = 0.0

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs, each when it is ready.

        Raises:
            AnnotateError: a worker raised it.
            WorkError: an item failed on every attempt, or no results come any more.
        """
        left = list(jobs)
        try:
            while left or self._going:
                for job in [job for job in left if job.ready()]:
                    if self._may_begin(job):
                        left.remove(job)
                        self._going.append(_Going(job))
                if not self._advance():
                    assert any(going.flying for going in self._going), f"nothing can go on: {left or self._going}"
                    self._wait()
        finally:
            for going in self._going:
                close = getattr(going.job.steps, "close", None)
                if close is not None:
                    close()

    def queue(self) -> dict[str, int]:
        """Number of calls in flight, by job."""
        return {going.job.label: len(going.flying) for going in self._going}

    def _may_begin(self, job: Job) -> bool:
        """Whether a job that is ready can begin.

        A job that holds models can begin when no other job holds any, and no task in flight claims too many CPUs.
        Models may take all CPUs except a small share. A task that claims more than this share would wait for ever, so
        none is sent while models are there, or are about to be loaded.
        """
        if job.claim is None:
            return True
        if any(going.job.claim is not None for going in self._going):
            return False
        self._claim = job.claim
        return not any(call.cpus > job.claim for going in self._going for call in going.flying.values())

    def _advance(self) -> bool:
        """Send calls, and go to the next step of jobs whose calls are done; whether anything changed."""
        moved = False
        for going in reversed(self._going):
            if going.exhausted and not going.flying:
                moved = True
                if not going.step():
                    self._going.remove(going)
                    if going.job.claim is not None:
                        self._claim = 1.0
                    return True  # others may begin
            moved |= self._send(going)
        return moved

    def _send(self, going: _Going) -> bool:
        calls, moved = going.calls, False
        assert calls is not None
        while not going.exhausted and going.room() and (calls.limit is not None or self._free()):
            item = next(calls.items, _END)
            if item is None:
                break
            moved = True
            if item is _END:
                going.exhausted = True
            else:
                self._submit(going, going.sent, item, 1)
                going.sent += 1
        return moved

    def _free(self) -> bool:
        """Whether there is room for another call of a step that has no limit of its own."""
        sent = sum(len(going.flying) for going in self._going if going.calls and going.calls.limit is None)
        return sent < (self.limit if self._claim == 1.0 else self.workers)

    def _submit(self, going: _Going, index: int, item: Any, attempt: int) -> None:
        assert going.calls is not None
        self._heard = time.monotonic()
        if not going.flying:
            going.told = self._heard
        cpus = 0.0 if going.job.claim is not None else self._claim
        going.flying[going.calls.submit(item, cpus)] = _Flying(going, index, item, attempt, cpus)

    def _wait(self) -> None:
        """Wait a second for a result, and take it."""
        flying = {reference: call for going in self._going for reference, call in going.flying.items()}
        done, _ = ray.wait(list(flying), num_returns=1, timeout=1.0)
        now = time.monotonic()
        if done:
            call = flying[done[0]]
            going = call.job
            del going.flying[done[0]]
            self._heard = going.told = now
            self._took(going, call, done[0])
            return
        silent = [going for going in self._going if going.flying]
        for going in silent:
            if now - going.told > QUIET_SECONDS:
                going.told = now
                self.waiting(going.job.label, going.names())
        if now - self._heard > self.stall_seconds:
            # No call is cancelled, neither here nor after another error: Ray can abort a process that cancels a call
            # just when it completes. Calls in flight commit what they can, and end with the driver.
            raise WorkError(
                f"{', '.join(going.job.label for going in silent)}: nothing came back for {self.stall_seconds:.0f} s; "
                f"in flight: {', '.join(name for going in silent for name in going.names())}",
                hint="Look at the Ray dashboard, then run again: committed units are kept. A unit that takes "
                "longer needs a larger --stall-seconds, or Corpus(..., unit_bytes=...) with a smaller number.",
            )

    def _took(self, going: _Going, call: _Flying, reference: Any) -> None:
        assert going.calls is not None
        try:
            result = self.heard(ray.get(reference))
        except exceptions.TaskCancelledError:
            raise
        except exceptions.RayError as error:
            _raise_unless_lost(going, call, error)
            going.calls.lost(call.item, error)
            self._submit(going, call.index, call.item, call.attempt + 1)
            return
        if going.limit is not None and going.calls.limit is not None:
            going.limit = min(going.limit + 1, going.calls.limit)
        going.calls.take(call.index, call.item, result)


def _raise_unless_lost(going: _Going, call: _Flying, error: exceptions.RayError) -> None:
    """Raise the error of a call, unless its worker was lost and it can be tried again."""
    assert going.calls is not None
    label = going.job.label
    cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
    if isinstance(cause, AnnotateError):
        raise cause from None
    if missing := re.search(r"No module named '([\w.]+)'", str(error)):
        raise ConfigError(
            f"{label}: the workers can't import the module {missing[1]!r}",
            hint="Put what a pipeline uses into its file, or its folder on the PYTHONPATH of the nodes, or "
            "into the job's --working-dir; a program that calls pipeline.run names its modules in "
            "Options(by_value=...).",
        ) from None
    name = going.calls.name(call.item)
    if not isinstance(cause, LOST) and not isinstance(error, LOST):
        raise WorkError(
            f"{label}: {name} failed: {type(cause).__name__}: {cause}\n\n{error}",
            hint="If the lines above name a function of your pipeline, mend it and run again: what is committed stays. "
            "Else this is a mistake in annotate: report it, with these lines.",
        ) from None
    if call.attempt == ATTEMPTS:
        raise WorkError(
            f"{label}: {name} lost its worker {ATTEMPTS} times; the last time: {str(error).strip()}",
            hint="A worker that is killed again and again is often out of memory: use fewer --workers, or "
            "Corpus(..., unit_bytes=...) with a smaller number.",
        ) from None


_END = object()
