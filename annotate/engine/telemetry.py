"""What a run tells of itself while it goes on: the log of calls, metrics, and changes of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from annotate import tally
from annotate.engine.call_log import SHARE, CallLog
from annotate.engine.cluster_watch import ClusterWatch
from annotate.engine.cost import Budget
from annotate.engine.events import Events
from annotate.engine.facts import Facts, Heard
from annotate.engine.metrics import Metrics
from annotate.errors import AnnotateError, BudgetError, WorkError


@contextmanager
def telemetry(events: Events, budget: Budget) -> Iterator[Heard]:
    """Tell of the calls that the returned object hears of, until the block ends. Events are written at its end.

    At the end, also if work has failed, the cluster is looked at once more: its workers may have left logs.
    """
    metrics, watch = Metrics(), ClusterWatch(events)
    logs = CallLog(metrics.window), CallLog(events.window, SHARE)
    said: set[tuple[str, str]] = set()

    def count_own() -> None:
        own = tally.taken()
        for log in logs:
            log.count(own)

    def hear(facts: Facts) -> None:
        count_own()
        for log in logs:
            log.add(facts)
        for subject, text in facts.said.items():  # each of many models may say it: the first is heard
            if (about := (facts.sent.stage, subject)) not in said:
                said.add(about)
                events.said("warning", f"{facts.sent.stage}: {text}")
        if watch.hear():
            events.workers(heard.workers())
        budget.spend(facts.cost)

    heard = Heard(hear, check=budget.check)
    metrics.start(lambda: heard.queue())
    try:
        watch.start()
        yield heard
        watch.look()
    except AnnotateError as error:
        if isinstance(error, WorkError):
            watch.look()
        events.ended(error.message, wanted=isinstance(error, BudgetError))
        raise
    finally:
        count_own()
        for log in logs:
            log.flush()
        metrics.end()
        events.flush()
