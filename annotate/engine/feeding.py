"""How many units are prepared at once for each model: as many as keep it busy, as the calls before took.

A model runs its units one after the other. Each is prepared before and finished after that by tasks on CPUs, so a call
is longer with the tasks than it is with the model: on a GPU many times longer. Where preparing takes p seconds, the
forward pass f and finishing c, (p + c) / f of these tasks at a time (feeders) keep the model busy (Little's law). The
calls in flight are these, the one that the model runs, and one more, since times differ and a model takes its calls in
order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from annotate import tally
from annotate.amounts import counted, size
from annotate.engine.facts import Facts

AHEAD = 3
"""Calls in front of a loaded model before times are known, and at least: one that runs, two that are made ready."""
MOST_AHEAD = 64
"""Calls in front of a model at most."""
TEXT_BYTES = 1 << 30
"""More than `AHEAD` are sent only if the text of all that are in front of a model is no more than this. What is
prepared takes one to two times the bytes of its text."""
KEPT = 0.95
"""What the times of earlier calls weigh still, after each call."""
ENOUGH_CALLS, BUSY = 20, 0.9
"""After so many calls it is told if models were busy for less than this share of the time, for want of units."""


@dataclass
class Feeding:
    """The times of the calls of models that run together, and what follows from them.

    Attributes:
        prepare: seconds of preparing, of recent calls; those long ago weigh less. So it is with all that follow.
        forward: seconds in the model, without loading it.
        finish: seconds of finishing.
        idle: seconds in which models that were loaded waited for a call.
        calls: weight of the calls.
        text: bytes of text of the calls that were sent.
        sent: weight of these.
        came: number of calls.
    """

    prepare: float = 0.0
    forward: float = 0.0
    finish: float = 0.0
    idle: float = 0.0
    calls: float = 0.0
    text: float = 0.0
    sent: float = 0.0
    came: int = 0
    _told: set[str] = field(default_factory=set)

    def send(self, text_bytes: int) -> None:
        """A call is sent whose units have so much text."""
        self.text, self.sent = KEPT * self.text + text_bytes, KEPT * self.sent + 1

    def take(self, facts: Sequence[Facts]) -> None:
        """A call is back, which came from these calls; one that is no whole chain of three steps tells nothing."""
        steps = {each.sent.step: each for each in facts}
        if not {"prepare", "forward", "finish"} <= steps.keys():
            return
        self.came += 1
        self.calls = KEPT * self.calls + 1
        self.prepare = KEPT * self.prepare + _seconds(steps["prepare"])
        self.forward = KEPT * self.forward + _seconds(steps["forward"])
        self.finish = KEPT * self.finish + _seconds(steps["finish"])
        self.idle = KEPT * self.idle + steps["forward"].counts.get(tally.MODEL_IDLE, 0.0)

    @property
    def needed(self) -> int:
        """Tasks at a time that keep each model busy by preparing and finishing its units; 0 if no times are known."""
        return math.ceil(round(self._times(), 3))

    @property
    def wanted(self) -> int:
        """Calls in front of each model that keep it busy; `AHEAD` while no times are known."""
        return max(AHEAD, self.needed + 2)

    def ahead(self, feeders: int) -> int:
        """Calls to have in front of each model, where so many tasks prepare and finish units for it at a time."""
        return min(self.wanted, self._by_cpus(feeders), self._by_memory(), MOST_AHEAD)

    def busy(self) -> float:
        """The share of the time of loaded models in which they ran."""
        there = self.forward + self.idle
        return self.forward / there if there else 1.0

    def limits(self, feeders: int, *, asked: bool = False) -> str:
        """What keeps models from being busy, if it is that units are not prepared fast enough; said once, else empty.

        Args:
            feeders: tasks that prepare and finish units for each model at a time, as the run may have them.
            asked: whether they are no more because the run was told so (`--workers`), not for want of CPUs.
        """
        ahead = self.ahead(feeders)
        if self.came < ENOUGH_CALLS or self.wanted <= ahead or self.busy() >= BUSY:
            return ""
        said = (
            f"the models wait for units to be prepared (read and tokenized), and were busy for {self.busy():.0%} of "
            f"the time: preparing and finishing a unit takes {self._times():,.1f} times as long as its forward pass, "
            f"so each model needs {counted(self.needed, 'feeder')}; "
        )
        if ahead == self._by_cpus(feeders) and asked:
            why, more = f"--workers allows {feeders:,} a model", "a higher number, or none, would make it faster"
        elif ahead == self._by_cpus(feeders):
            why = f"there are CPUs for {feeders:,} a model"
            more = "more CPUs, also of nodes without GPUs, would make it faster"
        elif ahead == self._by_memory():
            why = f"no more than {size(TEXT_BYTES)} of text is in front of a model, which is {ahead:,} calls"
            more = "smaller units would make it faster: Corpus(..., unit_bytes=...)"
        else:
            why, more = (
                f"no more than {MOST_AHEAD} calls are in front of a model",
                "models with less to prepare need fewer",
            )
        if why in self._told:
            return ""
        self._told.add(why)
        return f"{said}{why}; {more}"

    def _times(self) -> float:
        """How many times as long as its forward pass the preparing and finishing of a unit takes."""
        around = self.prepare + self.finish
        return around / max(self.forward, 1e-6 * around, 1e-9)

    def _by_cpus(self, feeders: int) -> int:
        return max(AHEAD, feeders + AHEAD - 1)

    def _by_memory(self) -> int:
        mean = self.text / self.sent if self.sent else 0.0
        return max(AHEAD, int(TEXT_BYTES / mean)) if mean else MOST_AHEAD


def _seconds(facts: Facts) -> float:
    """The seconds of a call, without those of loading a model."""
    return max(0.0, facts.end - facts.start - facts.counts.get(tally.SECONDS + "load", 0.0))
