"""Counts of this process: what happens to it that somebody should hear of, such as requests that were tried again.

Whoever does something counts it here, by a name. Whoever reports it takes the counts: a worker sends them to the driver
with each result. What a number can't tell is said in words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Phase = Literal["read", "tokenize", "load", "forward", "write", "compile", "lost"]
"""What a call spends its time on. The time that is in no phase is that of the stage's own arithmetic. All the time of a
call whose worker was lost is "lost"; the driver counts it."""

LOST: Phase = "lost"

SECONDS = "seconds: "
"""The name of the count of a phase's seconds begins so."""

REQUESTS = "requests: "
"""The name of the count of requests of a kind begins so."""

MODEL_IDLE = "model idle"
"""The name of the count of seconds in which a loaded model waited for units."""

BYTES_READ = "bytes read"
"""The name of the count of bytes that stores gave."""

_counts: dict[str, float] = {}
_said: dict[str, str] = {}
_mutex = threading.Lock()


def count(name: str, more: float = 1) -> None:
    """Add to the count of this name. Any thread may call it."""
    with _mutex:
        _counts[name] = _counts.get(name, 0) + more


def taken() -> dict[str, float]:
    """The counts since the last call, by name; those that are zero are left out."""
    with _mutex:
        found = {name: number for name, number in _counts.items() if number}
        _counts.clear()
    return found


def say(subject: str, text: str) -> None:
    """Have somebody told a warning, once for each subject."""
    with _mutex:
        _said[subject] = text


def said() -> dict[str, str]:
    """The warnings since the last call, by subject."""
    with _mutex:
        found = dict(_said)
        _said.clear()
    return found


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Count the seconds inside the block, or inside the function that this decorates, as those of a phase.

    A phase inside another interrupts it, so that no second is counted twice.
    """
    outer = _switch(name)
    try:
        yield
    finally:
        _switch(outer)


class _Clock(threading.local):
    """The phase that this thread is in, and since when."""

    phase: Phase | None = None
    since: float = 0.0


_clock = _Clock()


def _switch(to: Phase | None) -> Phase | None:
    """Go from one phase to another; returns the one that ended."""
    now, before = time.perf_counter(), _clock.phase
    if before is not None:
        count(SECONDS + before, now - _clock.since)
    _clock.phase, _clock.since = to, now
    return before
