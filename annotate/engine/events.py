"""Events of a run: told to an observer (the command line's progress bars) and written to `events/*.jsonl`."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from annotate.credentials import redacted
from annotate.engine import metrics
from annotate.engine.call_log import Window, as_events
from annotate.graph import Stage
from annotate.storage import layout
from annotate.storage.latest import Latest
from annotate.storage.store import Directory

FLUSH_SECONDS, LONGEST_FLUSH_SECONDS = 5.0, 60.0
SHARE = 0.01
"""Events are written after at least this share of the time that the run has taken, within the bounds above."""


class Observer(Protocol):
    """Receives the events of a run, in the driver's thread."""

    def started(self, stage: str, units: int, detail: str) -> None:
        """A stage starts with this many units."""
        ...

    def advanced(self, stage: str, units: int, rows: int) -> None:
        """More units of a stage are done, with this many rows."""
        ...

    def finished(self, stage: str, detail: str) -> None:
        """A stage is committed, with these units; or was found committed, and then `started` was not called."""
        ...

    def said(self, level: str, message: str) -> None:
        """A message for people, of level "info" or "warning"."""
        ...


class Silent:
    """An observer that does nothing."""

    def started(self, stage: str, units: int, detail: str) -> None:
        """Ignore."""

    def advanced(self, stage: str, units: int, rows: int) -> None:
        """Ignore."""

    def finished(self, stage: str, detail: str) -> None:
        """Ignore."""

    def said(self, level: str, message: str) -> None:
        """Ignore."""


@dataclass
class Events:
    """Passes events to an observer, and writes them to `events/<run>-<n>.jsonl`, a new file every few seconds.

    An object store can't append to a file, so each file is a batch. No other file of a work directory has times in it.
    What is written does not grow with the number of units: what was done since the last event is one event a stage.
    """

    workdir: Directory
    observer: Observer
    run: str = field(default_factory=lambda: time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + uuid.uuid4().hex[:6])
    _pending: list[dict[str, Any]] = field(default_factory=list)
    _advanced: dict[str, tuple[int, int]] = field(default_factory=dict)  # by stage: units and rows, not yet pending
    _workers: int = 0
    _files: int = 0
    _began: float = field(default_factory=time.monotonic)
    _flushed: float = field(default_factory=time.monotonic)

    def workers(self, workers: int) -> None:
        """The number of calls that may run at a time from now on, for `annotate status --timeline`."""
        if workers != self._workers:
            self._workers = workers
            self._write(event="workers", workers=workers)

    def planned(self, datasets: Iterable[tuple[Latest, Stage]]) -> None:
        """The datasets that the run will leave, each with its stage: how it is made, and what it does, in a few words.

        It is called before any of them is made, for `annotate status`.
        """
        names = [
            {
                "label": left.label,
                "dataset": left.dataset,
                "fingerprint": left.fingerprint,
                "made_as": stage.made_as,
                "about": stage.summary(),
            }
            for left, stage in datasets
        ]
        self._write(event="planned", datasets=names)
        self.flush()

    def started(self, stage: str, units: int, detail: str = "", of: Sequence[str] | None = None) -> None:
        """A stage starts. This is written at once, so that it is known even if the driver is killed a moment later.

        Args:
            stage: its label; one for all stages that are made together.
            units: number of its units; 0 if that is not known.
            detail: for people.
            of: labels of the datasets that it makes; None for one dataset with the label `stage`.
        """
        self.observer.started(stage, units, detail)
        self._write(event="started", stage=stage, units=units, detail=detail, of=[stage] if of is None else list(of))
        self.flush()

    def advanced(self, stage: str, units: int, rows: int) -> None:
        """Units of a stage are done."""
        self.observer.advanced(stage, units, rows)
        metrics.count("annotate_units", units, stage=stage)
        before = self._advanced.get(stage, (0, 0))
        self._advanced[stage] = (before[0] + units, before[1] + rows)
        self._flush_if_due()

    def finished(self, stage: str, detail: str = "") -> None:
        """A stage is committed."""
        self.observer.finished(stage, detail)
        self._write(event="finished", stage=stage, detail=detail)

    def said(self, level: str, message: str) -> None:
        """A message for people."""
        message = redacted(message)
        self.observer.said(level, message)
        self._write(event=level, message=message)

    def ended(self, error: str, *, wanted: bool) -> None:
        """The run ends with this error, for `annotate status`: who runs it is told by the error itself.

        An end may be wanted, as by a budget.
        """
        self._write(event="stopped" if wanted else "ended", error=error)

    def in_flight(self, stage: str, units: list[str], waits: str) -> None:
        """The units in flight, and what the stage waits for, if that is resources; for `annotate status`.

        No other event may come for long, so this is written at once.
        """
        self._write(event="in_flight", stage=stage, in_flight=units, waits=waits)
        self.flush()

    def searching(self, stage: str, unit: str, how_far: str) -> None:
        """How far the search is for what ends the worker of a unit; empty at its end. This is written at once."""
        if how_far:
            self.observer.said("info", f"{stage}: {unit}: {how_far}")
        self._write(event="searching", stage=stage, unit=unit, how_far=how_far)
        self.flush()

    def nodes(self, lost: Sequence[str], joined: Sequence[str]) -> None:
        """Nodes of the cluster were lost, or joined it."""
        self._write(event="nodes", lost=list(lost), joined=list(joined))

    def died(self, node: str, pid: int, why: str, log: str) -> None:
        """A process of a worker died; its log has this path on the node."""
        self._write(event="died", node=node, pid=pid, why=why, log=log)

    def window(self, window: Window) -> None:
        """The calls of a window of time."""
        for event in as_events(window):
            self._write(**event)

    def flush(self) -> None:
        """Write what is pending."""
        self._count_advanced()
        if self._pending:
            lines = "".join(json.dumps(event) + "\n" for event in self._pending)
            self.workdir.put(layout.events(self.run, self._files), lines.encode())
            self._files += 1
            self._pending.clear()
        self._flushed = time.monotonic()

    def _write(self, **event: Any) -> None:
        self._count_advanced()
        self._pending.append({"time": round(time.time(), 3), **redacted(event)})
        self._flush_if_due()

    def _count_advanced(self) -> None:
        now = round(time.time(), 3)
        for stage, (units, rows) in self._advanced.items():
            self._pending.append({"time": now, "event": "advanced", "stage": stage, "units": units, "rows": rows})
        self._advanced.clear()

    def _flush_if_due(self) -> None:
        now = time.monotonic()
        if now - self._flushed > max(FLUSH_SECONDS, min(LONGEST_FLUSH_SECONDS, SHARE * (now - self._began))):
            self.flush()
