"""What a stage tells the scheduler: its steps, the items of a step, and how they are sent and taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.engine.facts import Facts, Held
from annotate.engine.losses import Loss


@dataclass(frozen=True)
class Narrowing:
    """How to find the inputs of an item that end its worker.

    Attributes:
        count: takes an item and the CPUs that a task may claim; returns its number of inputs or, if a worker has to
            count them, the reference of that.
        attempt: takes an item, some of its inputs, those that are left out, and CPUs; works on these inputs alone, and
            commits nothing.
        without: the item without some of its inputs, which are given by number, each with the kind of loss that it
            causes; None if that takes a new run, the item itself if it is of no use.
        inputs: what they are called in messages.
        most: the most of them that can be the cause; None for all.
        instead: how to find other inputs, if to count these ends the worker too; None if there is no way.
    """

    count: Callable[[Any, float], Any]
    attempt: Callable[[Any, range, Sequence[int], float], Any]
    without: Callable[[Any, Mapping[int, str]], Any]
    inputs: str = "inputs"
    most: int | None = None
    instead: Narrowing | None = None


@dataclass
class Calls:
    """Calls of one stage that may be in flight at the same time.

    Attributes:
        items: the items to send, in order; None while the next one is not there yet.
        submit: sends an item, with the CPUs that a task may claim; returns the reference of its result.
        name: the name of an item in messages.
        take: is called with the number of an item, the item and its result, in the order in which results come.
        together: most items in one call; how many are sent together depends on the time that they take. If it is more
            than 1, `submit` is given a list of items, and the result of a call is a list.
        room: says how many calls may be in flight now; None for a share of the scheduler's own limit.
        idle: whether a worker has nothing to do that a call of this step could use.
        waiting: the references of calls that wait while their worker is busy with another, the last to begin first.
        coming: what there will be more room with, by future, with what it waits for; for models that do not run yet.
        held: is given the reference of a call in flight, and says what is known of its worker.
        returned: is called with the reference of a call whose result is back, and the facts of all calls that it came
            from. Returns what `lost` does.
        lost: is called with the reference of a call and its loss. Returns the lost calls that are judged by now, and
            whether each was what its worker was working on; those that it does not name are judged later.
        twice: whether a call may be made a second time where nothing else is to do.
        narrowing: how to find the inputs that end a worker; None if an item can't be made without some of its inputs.
    """

    items: Iterator[Any]
    submit: Callable[[Any, float], Any]
    name: Callable[[Any], str]
    take: Callable[[int, Any, Any], None]
    together: int = 1
    room: Callable[[], int] | None = None
    idle: Callable[[], bool] = lambda: True
    waiting: Callable[[], Iterable[Any]] = tuple
    coming: Callable[[], Mapping[Any, str]] = dict
    held: Callable[[Any], Held] = lambda reference: Held()
    returned: Callable[[Any, Sequence[Facts]], Mapping[Any, bool]] = lambda reference, facts: {}
    lost: Callable[[Any, Loss], Mapping[Any, bool]] = lambda reference, loss: {reference: True}
    twice: bool = True
    narrowing: Narrowing | None = None


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
