"""The scheduler: makes the calls of all stages that can go on, with bounded work in flight.

Only this package imports `ray`, the command line aside. Text and tables never pass through the driver: it sends
descriptions of units and gets back what was committed.

Each stage is a *job*. A job has *steps*, one after the other; a step has *items*, and calls that may be in flight at
the same time, each with one item or a few small ones. The items of a step come from an iterator. It gives None while
the next item is not there yet, because the units that it reads are still being made. Nothing is queued: the next item
is taken when there is room for a call.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from ray import exceptions

from annotate.amounts import duration
from annotate.engine.calls import Job
from annotate.engine.facts import Facts, Held, Told
from annotate.engine.going import Call, Going, Item, Line
from annotate.engine.losses import KILLED, loss_of
from annotate.engine.made_twice import to_make_twice
from annotate.engine.recovery import SUSPECT, BeginAnew, Recovery
from annotate.engine.sharing import Share
from annotate.errors import WorkError

QUIET_SECONDS = 300.0
"""Of a stage that has no result for so long, it is told what is in flight, again and again."""
WAIT_SECONDS = 30.0
"""Of a stage that waits for resources, it is told after so long the first time."""
ASK_SECONDS = 5.0
"""When no result came for so long, Ray is asked whether calls have begun."""
AHEAD_OF_FIRST = 1024
"""Most items of a step that are sent before the oldest one is back: the driver holds the results that come early. It is
more if more calls than a quarter of that may be in flight."""
CALL_SECONDS = 1.0
"""Small items are put into one call that takes about so long; longer with very many workers, for the driver's sake."""
DRIVER_SECONDS = 0.01
"""Time that the driver has for each call: with so many workers that it has less, calls get longer."""


@dataclass
class Scheduler:
    """Runs jobs. Every job that can go on does; later jobs are served first.

    Attributes:
        share: says what the run may have of the cluster now: most calls in flight of all steps without a limit of
            their own, and others. While models hold the CPUs, no more calls are in flight than there are workers: then
            each task claims so little that all of them run at once.
        stall_seconds: give up if no job gets a result for so many seconds. Jobs share the CPUs, so the calls of one job
            may have to wait for those of the others.
        waiting: is called every few minutes in which no result comes, with the label of the job, the names of the
            items in flight, and the resources that it waits for; none if calls work. Also when that has changed.
        waits: says what calls in flight wait for if none of them works. That is no stall.
        said: takes warnings.
        check: raises an error if the run can't go on; is called every second.
        confirm: is called when a worker is lost; returns as soon as the cluster answers, or raises an error.
        starved: is called with the label of a job if a task of it had too little memory, and when this was sent.
        killed: says whether a kernel has ended a process for want of memory between two times.
        heard: takes what a call returned apart into its result, which it returns, and the facts of the call.
        lost: takes the facts of a call whose worker was lost, or which the run did not wait for at its end.
        searching: takes the label of a job, the name of an item, and how far the search for what ends its worker is;
            nothing at its end.
        at_work: takes the label of a job and the names of the items of each call in flight; returns what is worked on.
    """

    share: Callable[[], Share]
    stall_seconds: float
    waiting: Callable[[str, list[str], list[str]], None] = lambda label, names, coming: None
    said: Callable[[str], None] = lambda message: None
    heard: Callable[[Any], Any] = lambda told: told
    lost: Callable[[Facts], None] = lambda facts: None
    waits: Callable[[], list[str]] = list
    check: Callable[[], None] = lambda: None
    confirm: Callable[[], None] = lambda: None
    starved: Callable[[str, float], None] = lambda label, sent: None
    killed: Callable[[float, float], bool] = lambda sent, came: False
    searching: Callable[[str, str, str], None] = lambda label, name, how_far: None
    at_work: Callable[[str, Sequence[Sequence[str]]], list[str]] = lambda label, calls: [*itertools.chain(*calls)]
    _going: list[Going] = field(default_factory=list)
    _claim: float | None = None  # of a task, while models are held
    _last: float = 0.0
    _asked: float = 0.0
    _waits: list[str] = field(default_factory=list)
    _line: Line = field(default_factory=Line)
    _back: SimpleQueue[tuple[Call, Any, Any, float] | None] = field(default_factory=SimpleQueue)
    _awaited: set[Any] = field(default_factory=set)
    _passed: dict[Any, tuple[Call, str]] = field(default_factory=dict)  # by reference; with their names

    def __post_init__(self) -> None:
        self._recovery = Recovery(self.said, self.searching)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs, each when it is ready.

        Raises:
            AnnotateError: a worker raised it.
            WorkError: an item failed on every attempt, or no results come any more.
            BeginAnew: an item can't be made but in a new run, and nothing else can go on.
        """
        left = list(jobs)
        self._last = time.monotonic()
        try:
            while left or self._going:
                for job in [job for job in left if job.ready()]:
                    if self._may_begin(job):
                        left.remove(job)
                        self._going.append(Going(job, max(AHEAD_OF_FIRST, 4 * self.share().limit)))
                paused = any(going.paused() for going in self._going)  # before: a pause may end meanwhile
                if not self._advance():
                    flying = any(going.flying for going in self._going)
                    if not flying and not paused and any(going.anew for going in self._going):
                        raise BeginAnew
                    waits = flying or paused or any(going.coming() for going in self._going)
                    assert waits, f"nothing can go on: {left or self._going}"
                    self._wait()
        finally:
            for going in self._going:
                self._pass(going)
                close = getattr(going.job.steps, "close", None)
                if close is not None:
                    close()
            for call, name in self._passed.values():
                call.came = time.monotonic()
                self._tell_lost(call, name)

    def queue(self) -> dict[str, int]:
        """Number of calls in flight, by job."""
        return {going.job.label: len(going.flying) for going in self._going}

    def _pass(self, going: Going) -> None:
        """Wait no longer for the calls that a step has in flight; all of it is made, or the run ends."""
        if (calls := going.calls) is None:
            return
        now, waiting = time.monotonic(), set(calls.waiting())
        for reference, call in going.flying.items():
            if calls.room is None:
                self._line.leave(call, now, 0)
            call.held = calls.held(reference)
            if reference in waiting:
                call.began = None
            self._passed[reference] = call, going.name_of(call)
        going.flying = {}

    def _tell_lost(self, call: Call, name: str) -> None:
        for facts in call.lost(name):
            self.lost(facts)

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
            if going.done():
                moved = True
                self._recovery.tell(going, ends=True)
                self._pass(going)
                if not going.step():
                    self._going.remove(going)
                    if going.job.claim is not None:
                        self._claim = None
                    return True  # others may begin
            moved |= self._send(going)
        return moved

    def _send(self, going: Going) -> bool:
        calls, moved = going.calls, False
        assert calls is not None
        while going.may_send() and (calls.room is not None or self._free()):
            items = self._next(going)
            if not items:
                return moved or going.exhausted
            moved = True
            self._submit(going, items)
        if going.exhausted and not going.again:
            self._send_twice(going)
        return moved

    def _send_twice(self, going: Going) -> None:
        """Make calls that take long or wait a second time, where nothing else is to do."""
        calls, now = going.calls, time.monotonic()
        assert calls is not None
        while calls.idle():
            if calls.room is None and len(self._line) >= self.share().workers:
                return
            if (call := to_make_twice(going, now)) is None:
                return
            call.twice = True
            if items := [item for item in call.items if item.index in going.open]:
                self._submit(going, items, twice=True)

    def _free(self) -> bool:
        """Whether there is room for another call of a step that has no limit of its own."""
        share = self.share()
        return len(self._line) < (share.limit if self._claim is None else share.workers)

    def _next(self, going: Going) -> list[Item]:
        """The items of the next call; none if the next item is not there yet, or there are no more."""
        assert going.calls is not None
        while (again := going.next_again()) is not None:
            going.again.remove(again)
            if again.index in going.open:  # else a call that was made twice has made it
                return [again]
        items: list[Item] = []
        while len(items) < self._together(going):
            item = next(going.calls.items, _END)
            if item is _END:
                going.exhausted = True
            if item is None or item is _END:
                break
            items.append(Item(going.sent, item, going.calls.narrowing))
            going.open[going.sent] = items[-1]
            going.sent += 1
        return items

    def _together(self, going: Going) -> int:
        """How many items to put into a call: one until it is known how long they take."""
        assert going.calls is not None
        if going.calls.together == 1 or going.item_seconds is None:
            return 1
        seconds = max(CALL_SECONDS, DRIVER_SECONDS * self.share().workers)
        return max(1, min(going.calls.together, int(seconds / max(going.item_seconds, 1e-4))))

    def _submit(self, going: Going, items: list[Item], *, twice: bool = False) -> None:
        calls, first = going.calls, items[0]
        assert calls is not None
        now = time.monotonic()
        if not going.flying:
            going.told = now
        cpus = 0.0 if going.job.claim is not None else self.share().claim if self._claim is None else self._claim
        call = Call(going, items, cpus, now, began=None if calls.room is None else now, twice=twice)
        if first.search is not None and first.narrowing is not None:
            part = first.search.part()
            assert part is not None, "a search that ended is removed"
            call.does = "tries"
            reference = first.narrowing.attempt(first.item, part, sorted(first.search.found), cpus)
        elif first.lost >= SUSPECT and first.narrowing is not None and not first.vain:
            reference, call.does = first.narrowing.count(first.item, cpus), "counts"
            if isinstance(reference, int):  # no worker has to count
                self._recovery.search(going, first, reference)
                return
        else:
            sent = [item.item for item in items]
            reference = calls.submit(sent if calls.together > 1 else sent[0], cpus)
        going.flying[reference] = call
        if calls.room is None:
            self._line.join(call, self.share().workers)
        for item in items:
            item.calls += 1
        # A callback of each result costs the same however many calls are in flight; `ray.wait` looks at all of them.
        reference.future().add_done_callback(lambda future: self._back.put((call, reference, future, time.monotonic())))

    def _wait(self) -> None:
        """Wait a second for results, and take them; or until there is room for more calls."""
        coming = {future for going in self._going for future in going.coming()}
        for future in coming - self._awaited:
            future.add_done_callback(lambda future: self._back.put(None))
        self._awaited = coming
        self.check()
        try:
            back = self._back.get(timeout=1.0)
        except Empty:
            self._quiet()
            return
        while True:
            if back is None:
                self._last = time.monotonic()
            else:
                self._came(*back)
            try:
                back = self._back.get_nowait()
            except Empty:
                break
        for going in self._going:
            self._recovery.tell(going)
        if time.monotonic() - self._last > self.stall_seconds:  # what comes are losses alone
            self._quiet()

    def _quiet(self) -> None:
        """Nothing came: tell of it now and then, and give up at last."""
        now = time.monotonic()
        silent = [going for going in self._going if going.flying or going.coming() or going.paused()]
        flying = any(going.flying for going in silent)
        ask = now - self._asked > ASK_SECONDS and (self._waits or now - self._last > ASK_SECONDS)
        if flying and (ask or now - self._last > self.stall_seconds):
            self._waits, self._asked = self.waits(), now
        for going in silent:
            coming = going.coming().values() if self._waits or not going.flying else ()
            what = sorted({*self._waits, *coming})
            after = QUIET_SECONDS if bool(what) == going.waits else WAIT_SECONDS if what else 0
            if now - going.told > after:
                going.told, going.waits = now, bool(what)
                self.waiting(going.job.label, self._working(going), what)
        # To wait for room on the cluster is no stall. If nothing is in flight or comes, there is a pause after a loss.
        if self._waits or (not flying and any(going.coming() for going in silent)):
            self._last = now
        if now - self._last > self.stall_seconds:
            # No call is cancelled, neither here nor after another error: Ray can abort a process that cancels a call
            # just when it completes. Calls in flight commit what they can, and end with the driver.
            names = ", ".join(name for going in silent for name in self._working(going))
            raise WorkError(
                f"{', '.join(going.job.label for going in silent)}: nothing came back for "
                f"{duration(self.stall_seconds)}; in flight: {names}",
                hint="Look at the Ray dashboard, then run again: committed units are kept. A unit that takes "
                "longer needs a larger --stall-seconds, or Corpus(..., unit_bytes=...) with a smaller number.",
            )

    def _working(self, going: Going) -> list[str]:
        """The units in flight; of calls with several, those that are worked on, if calls can be at work at all."""
        calls = going.names()
        return [*itertools.chain(*calls)] if self._waits else self.at_work(going.job.label, calls)

    def _came(self, call: Call, reference: Any, future: Any, came: float) -> None:
        """Take the results of a call, which came at this time, or see to its loss."""
        if reference in self._passed:
            _, name = self._passed.pop(reference)
            if future.exception() is None:
                self.heard(future.result())
            else:
                call.came = came
                self._tell_lost(call, name)
            return
        going = call.job
        calls = going.calls
        assert calls is not None, "it has calls in flight"
        del going.flying[reference]
        if calls.room is None:
            self._line.leave(call, came, self.share().workers)
        for item in call.items:
            item.calls -= 1
        try:
            told = future.result()
        except exceptions.TaskCancelledError:
            raise
        except exceptions.RayError as error:
            self.confirm()
            call.loss = loss_of(going.job.label, going.name_of(call), error)
            if call.loss.kind == "worker" and self.killed(call.sent, came):
                call.loss = replace(call.loss, kind="memory", message=KILLED)
            if call.loss.kind == "memory" and not call.loss.actor:  # a model's memory is not asked for
                self.starved(going.job.label, call.sent)
            call.came, call.held = came, calls.held(reference) if call.loss.actor else Held()
            going.judged_later[reference] = call
            self._judge(going, calls.lost(reference, call.loss))
            return
        now = time.monotonic()
        self._last = going.told = now
        self._waits, going.waits = [], False
        result = self.heard(told)
        if call.does == "counts":
            self._recovery.search(going, call.items[0], result)
            return
        self._judge(going, calls.returned(reference, told.facts if isinstance(told, Told) else ()))
        if call.does == "tries":
            self._recovery.searched(going, call.items[0])
            return
        seconds = (told.seconds if isinstance(told, Told) else now - call.sent) / len(call.items)
        going.item_seconds = seconds if going.item_seconds is None else 0.8 * going.item_seconds + 0.2 * seconds
        for item, made in zip(call.items, result if calls.together > 1 else [result], strict=True):
            if going.open.pop(item.index, None) is not None:
                calls.take(item.index, item.item, made)

    def _judge(self, going: Going, judged: Mapping[Any, bool]) -> None:
        for reference, guilty in judged.items():
            call = going.judged_later.pop(reference)
            if guilty:
                self._tell_lost(call, going.name_of(call))
            self._recovery.lost(going, call, guilty=guilty)


_END = object()
