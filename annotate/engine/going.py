"""A job that goes on, the calls that it has in flight, and the items that are sent and not made yet."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from annotate.engine.calls import Calls, Job, Narrowing
from annotate.engine.facts import Facts, Held, facts_of_lost
from annotate.engine.losses import Loss
from annotate.engine.pause import Pause
from annotate.engine.search import Search


@dataclass(eq=False)
class Item:
    """An item that was sent and is not made yet.

    Attributes:
        index: its number.
        item: what is sent.
        narrowing: how to find its inputs that end its worker, if there is a way.
        calls: number of calls in flight that make it.
        lost: losses of workers that worked on it alone, since the last search.
        starved: losses for want of memory.
        search: the search that goes on for the inputs that end its worker.
        told: when it was told how far that is, by the monotonic clock.
        left_out: the inputs that searches have found, by number; of each, how its worker was lost.
        vain: whether a search has found nothing.
        pause: before it is sent again.
    """

    index: int
    item: Any
    narrowing: Narrowing | None = None
    calls: int = 0
    lost: int = 0
    starved: int = 0
    search: Search | None = None
    told: float = 0.0
    left_out: Mapping[int, str] = field(default_factory=dict)
    vain: bool = False
    pause: Pause = field(default_factory=Pause)


@dataclass(eq=False)
class Call:
    """A call in flight: it makes its items; or, for a search in its one item, counts inputs or tries some of them.

    Attributes:
        job: its job.
        items: its items.
        cpus: that it claims, if it is no call of a model.
        sent: when it was sent, by `time.monotonic`, like the other times.
        does: what it does.
        began: when a worker began to work on it, as far as is known; None if it waits for one.
        came: when its loss was seen.
        loss: of its worker.
        held: what this worker held.
        twice: whether it was made a second time.
    """

    job: Going
    items: list[Item]
    cpus: float
    sent: float
    does: Literal["makes", "counts", "tries"] = "makes"
    began: float | None = None
    came: float = 0.0
    loss: Loss | None = None
    held: Held = field(default_factory=Held)
    twice: bool = False

    def lost(self, name: str) -> list[Facts]:
        """The facts of the call, if it was lost when its worker worked on it; `name` is that of its units."""
        began = self.came if self.began is None else max(self.began, self.held.since)
        if began >= self.came:
            return []
        return [facts_of_lost(self.job.job.label, name, self.sent, began, self.came, self.held)]


@dataclass
class Line:
    """Calls of tasks in flight, in the order in which they were sent: those that workers work on, and those that wait.

    A call tells when it began only with its result. So of calls that are lost, this is what is known.
    """

    _working: int = 0
    _waiting: deque[Call] = field(default_factory=deque)

    def __len__(self) -> int:
        return self._working + len(self._waiting)

    def join(self, call: Call, workers: int) -> None:
        """A call was sent."""
        self._waiting.append(call)
        self._begin(call.sent, workers)

    def leave(self, call: Call, came: float, workers: int) -> None:
        """A call is back."""
        if call.began is None:
            self._waiting.remove(call)
        else:
            self._working -= 1
        self._begin(came, workers)

    def _begin(self, now: float, workers: int) -> None:
        while self._waiting and self._working < workers:
            self._waiting.popleft().began = now
            self._working += 1


@dataclass
class Losses:
    """Calls of a step that were lost in one way: nobody was told of those that are new.

    Attributes:
        new: their number.
        last: the last of them.
        told: when somebody was told of some, by the monotonic clock; None for never.
    """

    new: int = 0
    last: str = ""
    told: float | None = None


@dataclass
class Going:
    """A job that has begun, and its current step."""

    job: Job
    ahead: int
    calls: Calls | None = None
    sent: int = 0
    exhausted: bool = True
    open: dict[int, Item] = field(default_factory=dict)  # by number; a dictionary keeps the order
    again: deque[Item] = field(default_factory=deque)
    flying: dict[Any, Call] = field(default_factory=dict)  # by reference, in the order in which they were sent
    judged_later: dict[Any, Call] = field(default_factory=dict)
    losses: dict[str, Losses] = field(default_factory=dict)  # by kind
    told: float = 0.0
    waits: bool = False  # for resources, as was told
    item_seconds: float | None = None
    anew: bool = False  # an item can't be made in this run

    def step(self) -> bool:
        """Go to the next step; False if there is none."""
        self.calls = next(self.job.steps, None)
        if self.calls is None:
            return False
        self.sent, self.exhausted, self.told, self.waits, self.item_seconds = 0, False, time.monotonic(), False, None
        self.judged_later, self.losses = {}, {}  # those of calls that were made twice
        self.again.clear()
        return True

    def done(self) -> bool:
        """Whether all items of the step are made."""
        return self.exhausted and not self.open

    def may_send(self) -> bool:
        """Whether the step has something to send, and room for another call."""
        assert self.calls is not None
        if self.calls.room is not None and len(self.flying) >= self.calls.room():
            return False
        if self.next_again() is not None:
            return True
        oldest = next(iter(self.open), self.sent)
        return not self.exhausted and self.sent - oldest < self.ahead

    def next_again(self) -> Item | None:
        """The next item that is to be sent again, and whose pause is over."""
        now = time.monotonic()
        return next((item for item in self.again if item.pause.over(now)), None)

    def paused(self) -> bool:
        """Whether there are items that are to be sent again, and there is a pause before all of them."""
        return bool(self.again) and self.next_again() is None

    def coming(self) -> Mapping[Any, str]:
        """What the step waits for, besides its calls."""
        waits = self.calls is not None and (self.again or not self.exhausted)
        return self.calls.coming() if waits and self.calls is not None else {}

    def name(self, item: Item) -> str:
        """The name of an item, for people."""
        assert self.calls is not None
        return self.calls.name(item.item)

    def name_of(self, call: Call) -> str:
        """The name of a call, for people."""
        more = len(call.items) - 1
        return self.name(call.items[0]) + (f" and {more} more" if more else "")

    def names(self) -> list[list[str]]:
        """The names of the items of each call in flight, and of those to be sent again; the first come first."""
        calls = [call.items for call in self.flying.values()] + [[item] for item in self.again]
        return [[self.name(item) for item in items] for items in sorted(calls, key=lambda items: items[0].index)]
