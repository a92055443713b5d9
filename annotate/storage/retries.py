"""Tries a request to an object store again when it failed for a reason that may pass, and counts each such try.

Only what is safe to repeat comes here: reads, listings, removals, writes of the same bytes. Creating an object is made
safe by `Directory.put_new`, which looks whose bytes are there. A local disk is not tried again: its errors don't pass.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError

from annotate.amounts import duration
from annotate.credentials import redacted
from annotate.storage.hub import HubError
from annotate.tally import count

LIMIT_SECONDS = 180.0
"""No try begins later than this after the first one, but for the first `LEAST_TRIES`."""
START_SECONDS = 30.0
"""The limit while a run or a command starts, when a person waits and an address may be wrong."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 15.0
LEAST_TRIES = 3
"""So often a request is made whatever time it takes: one stalled answer alone can take longer than a limit."""

TELL_SECONDS = 1.0
"""It is told that a request is tried again once it has failed for so long."""

COUNTED = "retries: "
"""What the names of the counts begin with; after it stands the kind of failure, as `kind_of` gives it."""

Result = TypeVar("Result")
_limit: contextvars.ContextVar[tuple[float, int]] = contextvars.ContextVar(
    "limit", default=(LIMIT_SECONDS, LEAST_TRIES)
)
_tell: Callable[[str], None] | None = None
_random = random.Random()  # of its own: nobody's seed shall make all processes wait alike

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_PASSING = {408: "time-out", 429: "throttled", 503: "throttled"}


class ShortRead(OSError):
    """A store sent fewer bytes than it was asked for."""

    kind = "body cut off"


@contextlib.contextmanager
def within(seconds: float, least: int = LEAST_TRIES) -> Iterator[None]:
    """Let no try but the first `least` begin later than `seconds` after the first, in the `with` block, in this thread.

    A caller that comes again by itself, soon, needs no more than one try.
    """
    before = _limit.set((seconds, least))
    try:
        yield
    finally:
        _limit.reset(before)


@contextlib.contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Let a person know, in the `with` block, in all threads, what is tried again: with a line for each request."""
    global _tell
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before


def again(work: Callable[[int], Result], place: str = "the store") -> Result:
    """Do `work`, and again as long as it fails for a reason that may pass and there is time.

    The waits double, up to `LONGEST_WAIT`. Each is drawn at random from the upper half of its length, so that many
    workers which failed at once don't all come back at once.

    Args:
        work: takes the number of tries before this one.
        place: what is asked, for people.

    Returns:
        What `work` returns.

    Raises:
        BaseError, OSError: what `work` raised, with a note on how often it was tried.
    """
    start, tries, told = time.monotonic(), 0, False
    while True:
        try:
            return work(tries)
        except (BaseError, OSError) as error:
            kind = kind_of(error)
            taken = time.monotonic() - start
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**tries) * _random.uniform(0.5, 1)
            tries += 1
            seconds, least = _limit.get()
            if kind is None or (taken + wait > seconds and tries >= least):
                if tries > 1:
                    error.add_note(f"tried {tries} times in {duration(taken)}")
                raise
            count(COUNTED + kind)
            if _tell is not None and not told and taken + wait > TELL_SECONDS:
                told = True
                what = "no connection" if kind == "connection" else kind
                _tell(f"{redacted(place)}: {what}; trying again for up to {duration(max(seconds - taken, wait))}")
            time.sleep(wait)


def kind_of(error: Exception) -> str | None:
    """What kind of failure this is, if it may pass; None if trying again would be in vain.

    obstore has one class of error for all of them, so this reads its text.
    """
    if isinstance(error, ShortRead | HubError):
        return error.kind
    if not isinstance(error, BaseError) or isinstance(
        error, (PermissionDeniedError, UnauthenticatedError, NotSupportedError)
    ):
        return None
    text = str(error)
    if status := _STATUS.search(text):
        code = int(status[1])
        if code == 400:
            return "time-out" if "<Code>RequestTimeout</Code>" in text else None
        if code == 409:  # S3 asks to try again; for Azure it says that there is an object
            return "conflict" if "ConditionalRequestConflict" in text else None
        return _PASSING.get(code, "server error" if code >= 500 and code != 501 else None)
    if "BadScheme" in text or "builder error" in text:
        return None
    if "TimedOut" in text or "Timeout" in text:
        return "time-out"
    if "body error" in text or "decoding response" in text or re.search(r"Requested \S+, got \S+", text):
        return "body cut off"
    return "connection" if "HTTP error" in text else None
