"""The log of calls: sums the facts of calls over windows of time, for the event log and for metrics.

A run may make millions of calls, so single calls are not logged. In a window, the calls of one stage, step and node are
one record. A window lasts at least `WINDOW_SECONDS` and, for the event log, at least a fiftieth of the time that the
run has taken: there are 50 windows or so while that time grows e-fold, however long it is. Only the slowest calls of
each stage are logged one by one: in a window, at most `SLOWEST` calls that are among the `SLOWEST` slowest of the run
so far. In a stage of n calls that come in random order these are about `SLOWEST` times ln n.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotate.engine.facts import Facts, this_node

WINDOW_SECONDS = 5.0
SHARE = 0.02
SLOWEST = 5

DRIVER = "driver"
"""The step under which the counts of the driver's own process are summed; its stage is empty."""


@dataclass
class Sums:
    """The calls of one stage, step and node in a window.

    Attributes:
        calls: their number.
        sent: when the first was sent or, if it waited for an earlier call, could have started.
        start: when the first started, in seconds since the epoch.
        end: when the last ended.
        seconds: of all calls.
        waited: seconds that calls waited for their start.
        peak: the most memory that one held, in bytes.
        counts: their counts.
    """

    calls: int = 0
    sent: float = float("inf")
    start: float = float("inf")
    end: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    peak: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Facts) -> None:
        """Add a call."""
        self.calls += 1
        self.sent = min(self.sent, facts.start - facts.waited)
        self.start, self.end = min(self.start, facts.start), max(self.end, facts.end)
        self.seconds += facts.end - facts.start
        self.waited += facts.waited
        self.peak = max(self.peak, facts.peak)
        for name, number in facts.counts.items():
            self.counts[name] += number  # type: ignore[assignment]  # seconds are counted in parts


@dataclass(frozen=True)
class Window:
    """What a run did in a window of time.

    Attributes:
        sums: the calls, by stage, step and node.
        slow: calls that are among the slowest of their stages so far.
    """

    sums: Mapping[tuple[str, str, str], Sums]
    slow: Sequence[Facts]


@dataclass
class CallLog:
    """Sums facts, and gives each window to those who take windows.

    Attributes:
        take: is called with each window.
        share: a window is at least this share of the time that the run has taken.
    """

    take: Callable[[Window], None]
    share: float = 0.0
    _sums: dict[tuple[str, str, str], Sums] = field(default_factory=dict)
    _slow: dict[str, list[Facts]] = field(default_factory=dict)  # by stage, the slowest first
    _slowest: dict[str, list[float]] = field(default_factory=dict)  # by stage: negative seconds, of the whole run
    _began: float = field(default_factory=time.monotonic)
    _since: float = field(default_factory=time.monotonic)

    def add(self, facts: Facts) -> None:
        """Add a call."""
        self._sums_of(facts.sent.stage, facts.sent.step, facts.node).add(facts)
        slowest = self._slowest.setdefault(facts.sent.stage, [])
        bisect.insort(slowest, _quickness(facts))
        if len(slowest) <= SLOWEST or slowest.pop() > _quickness(facts):
            slow = self._slow.setdefault(facts.sent.stage, [])
            bisect.insort(slow, facts, key=_quickness)
            del slow[SLOWEST:]
        now = time.monotonic()
        if now - self._since > max(WINDOW_SECONDS, self.share * (now - self._began)):
            self.flush()

    def count(self, counts: Mapping[str, float]) -> None:
        """Add what the driver's own process has counted."""
        if counts:
            self._sums_of("", DRIVER, this_node()).counts.update(counts)

    def flush(self) -> None:
        """End the window."""
        window = Window(self._sums, [facts for slow in self._slow.values() for facts in slow])
        self._sums, self._slow, self._since = {}, {}, time.monotonic()
        self.take(window)

    def _sums_of(self, *at: str) -> Sums:
        stage, step, node = at
        return self._sums.setdefault((stage, step, node), Sums())


def _quickness(facts: Facts) -> float:
    """Minus the seconds that a call took."""
    return facts.start - facts.end


def as_events(window: Window) -> list[dict[str, Any]]:
    """The events of a window: one for each record, and one for each slow call; times in milliseconds."""
    events: list[dict[str, Any]] = []
    for (stage, step, node), sums in window.sums.items():
        fields: dict[str, Any] = {"stage": stage, "step": step, "node": node}
        if sums.calls:
            fields |= {"calls": sums.calls, "peak": sums.peak}
            fields |= {name: round(getattr(sums, name), 3) for name in ("sent", "start", "end", "seconds", "waited")}
        events.append({"event": "calls", **fields, "counts": _rounded(sums.counts)})
    for call in window.slow:
        fields = {"stage": call.sent.stage, "step": call.sent.step, "units": call.sent.units, "node": call.node}
        fields |= {"pid": call.pid, "start": round(call.start, 3), "end": round(call.end, 3), "peak": call.peak}
        events.append({"event": "slow", **fields, "counts": _rounded(call.counts)})
    return events


def _rounded(counts: Mapping[str, float]) -> dict[str, float]:
    return {name: round(number, 3) for name, number in counts.items() if number}
