"""Metrics of a run, at the Prometheus endpoint that Ray has on each node.

The driver alone gives numbers to Ray: those that workers told with their results, and its own. So a metric has one time
series for each stage, step and node, not one for each process, and a worker that dies takes no number with it. A series
stays as long as the process, so where nodes come and go, those after the first `MOST_NODES` share one label.
Ray exports the numbers of a process every ten seconds; a run that ends sooner may not be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ray.util import metrics

from annotate import tally
from annotate.engine.call_log import Sums, Window
from annotate.engine.timeline import phases
from annotate.storage import retries

PREFIX = "annotate_"
GAUGE_SECONDS = 2.0
MOST_NODES, OTHERS = 64, "others"
"""So many nodes have a label of their own in this process; all later ones have this one."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        kind: a counter only grows; a gauge is the newest value.
        help: what it counts, for people.
        tags: the names of its labels.
    """

    kind: Literal["counter", "gauge"]
    help: str
    tags: tuple[str, ...]


_CALLS = ("stage", "step", "node")
METRICS: Mapping[str, Metric] = {
    "annotate_units": Metric("counter", "Work units that are done, those found committed included.", ("stage",)),
    "annotate_calls": Metric("counter", "Calls of workers that have ended, those that were lost included.", _CALLS),
    "annotate_rows": Metric("counter", "Rows that were committed, those of pieces and of sent rows included.", _CALLS),
    "annotate_spans": Metric("counter", "Spans of the units that were committed.", _CALLS),
    "annotate_tokens": Metric("counter", "Tokens that a model has read or that became training shards.", _CALLS),
    "annotate_quarantined_rows": Metric("counter", "Bad rows and failed scores, in quarantine.", _CALLS),
    "annotate_seconds": Metric(
        "counter",
        "Seconds of calls by phase: read, tokenize, load (a model), forward, write, compile, lost, other.",
        ("stage", "step", "phase", "node"),
    ),
    "annotate_waited_seconds": Metric("counter", "Seconds that calls waited for a free worker.", _CALLS),
    "annotate_model_idle_seconds": Metric("counter", "Seconds that loaded models waited for units.", _CALLS),
    "annotate_peak_memory_bytes": Metric("gauge", "Most memory that a call has held.", ("stage", "step")),
    "annotate_queue": Metric("gauge", "Calls in flight: sent, and not back.", ("stage",)),
    "annotate_store_requests": Metric("counter", "Requests to object stores and disks.", ("kind",)),
    "annotate_retries": Metric(
        "counter", "What was tried again: requests that a store failed, calls whose worker was lost.", ("kind",)
    ),
    "annotate_nodes": Metric("gauge", "Nodes of the Ray cluster that are alive.", ()),
    "annotate_lost_nodes": Metric("counter", "Nodes that were lost while a run went on.", ()),
    "annotate_lost_workers": Metric("counter", "Processes of workers that died while a run went on.", ("node",)),
}
"""All metrics, by the name that they are given in Python."""

_COUNTED = {
    "annotate_rows": "rows",
    "annotate_spans": "spans",
    "annotate_tokens": "tokens",
    "annotate_quarantined_rows": "quarantined rows",
    "annotate_model_idle_seconds": tally.MODEL_IDLE,
}
"""The metrics that are counts of calls as they stand."""


def exported(name: str) -> str:
    """The name of a metric at the endpoint: Ray puts `ray_` before it, and `_total` behind a counter."""
    return f"ray_{name}" + ("_total" if METRICS[name].kind == "counter" else "")


@dataclass
class Metrics:
    """The metrics of a run. Counters are those of this process: two runs in one process add up."""

    _peaks: dict[tuple[str, str], int] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self, queue: Callable[[], Mapping[str, int]]) -> None:
        """Keep the gauges up, until `end`; `queue` gives the number of calls in flight by job."""
        threading.Thread(target=self._keep_up, args=[queue], name="annotate-metrics", daemon=True).start()

    def end(self) -> None:
        """Let go of the gauges: they are those of a run that goes on."""
        self._ended.set()
        _GAUGES.clear()

    def _keep_up(self, queue: Callable[[], Mapping[str, int]]) -> None:
        # Ray exports a value of a gauge once. The driver may wait long for the next result, so a thread does this.
        before: Mapping[str, int] = {}
        while not self._ended.wait(GAUGE_SECONDS):
            now = queue()
            for job in {*before, *now}:
                _made("annotate_queue").set(now.get(job, 0), {"stage": job})
            before = now
            for (name, tags), value in list(_GAUGES.items()):
                _made(name).set(value, dict(tags))

    def window(self, window: Window) -> None:
        """Count the calls of a window."""
        for (stage, step, node), sums in window.sums.items():
            if sums.calls:
                self._calls({"stage": stage, "step": step, "node": node}, sums)
            for prefix, name in ((tally.REQUESTS, "annotate_store_requests"), (retries.COUNTED, "annotate_retries")):
                for counted, number in sums.counts.items():
                    if counted.startswith(prefix):
                        count(name, number, kind=counted.removeprefix(prefix))

    def _calls(self, tags: dict[str, str], sums: Sums) -> None:
        count("annotate_calls", sums.calls, **tags)
        count("annotate_waited_seconds", sums.waited, **tags)
        for name, counted in _COUNTED.items():
            count(name, sums.counts[counted], **tags)
        for phase, seconds in phases([sums.counts], sums.seconds).items():
            count("annotate_seconds", seconds, **tags, phase=phase)
        if sums.peak:  # that of calls that were lost is not known
            at = (tags["stage"], tags["step"])
            self._peaks[at] = max(self._peaks.get(at, 0), sums.peak)
            gauge("annotate_peak_memory_bytes", self._peaks[at], stage=at[0], step=at[1])


def count(name: str, more: float, **tags: str) -> None:
    """Add to a counter; nothing is exported of one that was never more than 0."""
    if more > 0:
        if "node" in tags:
            tags["node"] = _node(tags["node"])
        _made(name).inc(more, tags)


def gauge(name: str, value: float, **tags: str) -> None:
    """Set a gauge of the run that goes on."""
    _GAUGES[name, tuple(tags.items())] = value
    _made(name).set(value, tags)


_NODES: set[str] = set()
_MADE: dict[str, Any] = {}
_GAUGES: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}  # by name and tags


def _node(name: str) -> str:
    """The label of a node."""
    if len(_NODES) < MOST_NODES:
        _NODES.add(name)
    return name if name in _NODES else OTHERS


def _made(name: str) -> Any:
    """The metric of Ray, which a process makes once."""
    if name not in _MADE:
        metric = METRICS[name]
        kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
        _MADE[name] = kind(name, metric.help, metric.tags)
    return _MADE[name]
