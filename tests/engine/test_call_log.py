"""The log of calls: its size does not grow with the number of calls, its sums are right, its timeline adds up."""

import io
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from annotate.cli.timeline_view import print_timeline
from annotate.engine import call_log, events
from annotate.engine.call_log import SHARE, SLOWEST, CallLog, as_events
from annotate.engine.events import Events, Silent
from annotate.engine.facts import Facts, Held, Sent, facts_of_lost
from annotate.engine.status import status
from annotate.engine.timeline import PHASES, Reader
from annotate.storage.store import Directory

STAGES = ("spans", "annotations")


def call(number, start, seconds, *, stage=0, node="a", waited=0.0, **counts):
    sent = Sent(STAGES[stage], "make", f"unit {number}", start - waited)
    return Facts(sent, node, 7, waited, start, start + seconds, counts, 1 << 20)


def read(*windows, workers=((0.0, 2),)):
    reader = Reader()
    for since, number in workers:
        assert reader.take({"event": "workers", "time": since, "workers": number})
    for window in windows:
        assert all(reader.take(event) for event in as_events(window))
    return reader.timeline()


def test_sums_and_the_slowest_calls_reach_the_timeline():
    windows = []
    log = CallLog(windows.append)
    lengths = [0.1 * (1 + i % 40) for i in range(200)]
    random.Random(0).shuffle(lengths)
    for i, seconds in enumerate(lengths):
        counts = {"rows": 2, "seconds: read": seconds / 4, "retries: throttled": 1}
        log.add(call(i, 1000.0 + i, seconds, stage=i % 2, node="ab"[i % 2], waited=0.5, **counts))
        if i == 77:
            log.flush()
    log.flush()
    found = read(*windows)
    assert len(windows) == 2 and [stage.calls for stage in found.stages] == [100, 100]
    assert sum(sum(stage.seconds.values()) for stage in found.stages) == pytest.approx(sum(lengths), abs=0.01)
    assert sum(stage.seconds["read"] for stage in found.stages) == pytest.approx(sum(lengths) / 4, abs=0.01)
    assert sum(rate.rows for rate in found.rates) == 400 and {rate.node for rate in found.rates} == {"a", "b"}
    assert found.retries == {"throttled": 200}
    longest = sorted(lengths)[-SLOWEST:]
    assert sorted(sum(slow.seconds.values()) for slow in found.slowest)[-SLOWEST:] == pytest.approx(longest, abs=0.01)
    assert found.slowest[0].units == f"unit {lengths.index(longest[-1])}"


def test_what_is_logged_does_not_grow_with_the_number_of_calls(monkeypatch):
    """Ten hours of a run: each window is a fiftieth of the time so far."""
    now = 0.0
    monkeypatch.setattr(call_log, "time", SimpleNamespace(monotonic=lambda: now))

    def logged(calls):
        nonlocal now
        now, written = 0.0, []
        log = CallLog(lambda window: written.extend(as_events(window)), SHARE, _began=0.0, _since=0.0)
        for i in range(calls):
            now = 36_000 * (i + 1) / calls
            log.add(call(i, now, i * 1e-3))  # each is the slowest so far
        return written

    few, many = logged(50_000), logged(150_000)
    assert 200 < sum(event["event"] == "calls" for event in few) < 400
    assert abs(len(many) - len(few)) < 0.1 * len(few) and len(many) < 2200


def test_units_that_are_done_are_one_event_a_stage_between_two_others(tmp_path):
    told = Events(Directory.at(tmp_path), Silent())
    told.started("spans", 5000)
    for _ in range(2000):
        told.advanced("spans", 1, 10)
        told.advanced("words", 1, 1)
    told.finished("spans")
    told.flush()
    lines = [line for path in (tmp_path / "events").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 4
    found = {stage.label: stage for stage in status(tmp_path).stages}
    assert (found["spans"].done, found["spans"].rows, found["words"].done) == (2000, 20000, 2000)
    assert found["spans"].state == "done"


def test_files_of_a_long_run_are_a_minute_apart(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
    told = Events(Directory.at(tmp_path), Silent(), "20260101T000000-abcdef", _began=0.0, _flushed=0.0)
    for _ in range(36_000 // 5):
        now += 5.0
        told.advanced("spans", 1, 1)
    told.flush()
    assert 700 < len(list((tmp_path / "events").iterdir())) < 1200


def test_the_time_of_each_worker_is_in_a_call_waiting_or_idle():
    windows = []
    log = CallLog(windows.append)
    # Two workers for ten seconds. One works all the time; the other only at the end, for which a call waited 4 s.
    log.add(call(0, 1000.0, 10.0, **{"seconds: forward": 6.0}))
    log.flush()
    log.add(call(1, 1008.0, 2.0, stage=1, waited=4.0))
    log.flush()
    found = read(*windows)
    assert found.seconds == pytest.approx(10, abs=0.01) and found.workers == 2
    shares = found.shares
    assert sum(shares.values()) == pytest.approx(1)
    assert {name: round(share * 20) for name, share in shares.items() if share > 0.01} == {
        "forward": 6,
        "other": 6,
        "waiting": 4,
        "idle": 4,
    }
    assert set(shares) == {*PHASES, "waiting", "idle"}
    assert found.stages[1].running[:40] == [0.0] * 40 and sum(found.stages[1].running) / 6 == pytest.approx(2, abs=0.1)


def test_a_call_that_was_lost_is_no_idling_and_is_among_the_slowest():
    windows = []
    log = CallLog(windows.append)
    log.add(call(0, 1000.0, 10.0, **{"seconds: forward": 6.0}))
    lost = facts_of_lost(STAGES[0], "unit 1", 0.0, 2.0, 8.0, Held(node="b", pid=9))
    ahead = lost.start - 1002.0  # the clock of this process is another
    log.add(replace(lost, start=lost.start - ahead, end=lost.end - ahead))
    log.flush()
    found = read(*windows)
    shares = {name: round(share * 20) for name, share in found.shares.items() if share > 0.01}
    assert shares == {"forward": 6, "other": 4, "lost": 6, "waiting": 2, "idle": 2}
    assert found.stages[0].calls == 2
    slow = found.slowest[1]
    assert (slow.step, slow.units, slow.node, slow.pid) == ("lost", "unit 1", "b", 9)
    assert {name: seconds for name, seconds in slow.seconds.items() if seconds} == {"lost": pytest.approx(6)}


def test_processes_that_died_in_the_same_way_are_one_line():
    windows = []
    log = CallLog(windows.append)
    log.add(call(0, 1000.0, 10.0))
    log.flush()
    reader = Reader()
    assert all(reader.take(event) for event in as_events(windows[0]))
    for pid in range(20):
        died = {"event": "died", "time": 1000.0 + pid, "node": "n", "pid": pid, "log": f"log-{pid}"}
        assert reader.take(died | {"why": "Aborted" if pid == 3 else "Segmentation fault"})
    found = reader.timeline()
    assert [(death.why, death.number, death.pid) for death in found.deaths] == [
        ("Segmentation fault", 19, 19),
        ("Aborted", 1, 3),
    ]
    out = Console(file=io.StringIO(), width=160)
    print_timeline(found, out)
    lines = [line for line in out.file.getvalue().splitlines() if "ied: " in line or "log there" in line]
    assert lines == [
        "Died: 19 processes on n: Segmentation fault",
        "      the last was process 19, seen at 00:16:59; its log there: log-19",
        "Died: process 3 on n: Aborted",
        "      seen at 00:16:43; its log there: log-3",
    ]


def test_workers_that_come_later_are_not_idle_before():
    windows = []
    log = CallLog(windows.append)
    log.add(call(0, 1000.0, 10.0))
    log.flush()
    found = read(*windows, workers=((990.0, 1), (1005.0, 3)))
    assert found.workers == 3
    assert found.idle[:29] == pytest.approx([0] * 29, abs=1e-9) and found.idle[31:] == pytest.approx([2] * 29)


def test_what_the_driver_counts_itself_is_logged():
    windows = []
    log = CallLog(windows.append)
    log.count({"requests: put": 3})
    log.add(call(0, 1.0, 1.0))
    log.flush()
    assert read(*windows).requests == {"put": 3}
