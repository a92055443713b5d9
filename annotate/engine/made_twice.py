"""Which call is made a second time where nothing else is to do: the first result counts."""

from __future__ import annotations

from annotate.engine.going import Call, Going

SLOW_SECONDS, SLOW_TIMES = 30.0, 3
"""A call is made a second time after so many seconds and so many times the usual time."""
MOVED_SECONDS = 1.0
"""So is a call, at once, that waits behind another and usually takes so long."""


def to_make_twice(going: Going, now: float) -> Call | None:
    """A call of a step that takes long, or that waits for a busy worker while others are idle; None if there is none.

    Args:
        going: the job and its step.
        now: the time, by `time.monotonic`.
    """
    usual = going.item_seconds
    if usual is None or (going.calls is not None and not going.calls.twice):
        return None
    # Those in flight are in the order in which they were sent: if the first is not late, none is.
    once = next((call for call in going.flying.values() if call.does == "makes" and not call.twice), None)
    late = once and now - once.sent > max(SLOW_SECONDS, SLOW_TIMES * usual * len(once.items))
    return once if late else _waits_behind(going, usual)


def _waits_behind(going: Going, usual: float) -> Call | None:
    """A call that waits behind another, and takes so long that it is worth to move it to an idle worker."""
    assert going.calls is not None
    waiting = (going.flying.get(reference) for reference in going.calls.waiting())
    found = (call for call in waiting if call is not None and call.does == "makes" and not call.twice)
    return next((call for call in found if usual * len(call.items) >= MOVED_SECONDS), None)
