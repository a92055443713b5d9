"""The scheduler: what hangs is said by name after a while, then an error names it; what can go on does."""

import time
from types import SimpleNamespace

import pytest
import ray

from annotate.engine import scheduler
from annotate.engine.scheduler import Calls, Job, Scheduler
from annotate.errors import WorkError


@ray.remote(num_cpus=0)
def work(item):
    time.sleep(20 if item == "slow" else 0)
    return item


def calls(items, take=lambda *result: None, submit=None, **options):
    return Calls(iter(items), submit or (lambda item, cpus: work.remote(item)), str, take, **options)


def job(label, *steps, ready=lambda: True, claim=None):
    return Job(label, ready, iter(steps), claim)


def test_what_hangs_is_named_and_stops_the_run(ray_cluster, monkeypatch):
    monkeypatch.setattr(scheduler, "QUIET_SECONDS", 1.5)
    told, got = [], []
    waiting = lambda label, names: told.append((label, *names))  # noqa: E731
    running = Scheduler(2, 2, 4, waiting)
    with pytest.raises(WorkError, match=r"a stage: nothing came back for 4 s; in flight: slow"):
        running.run([job("a stage", calls(["slow", "a", "b"], lambda index, item, result: got.append(result)))])
    assert told[-1] == ("a stage", "slow") and got == ["a", "b"]


def test_a_job_whose_calls_wait_for_those_of_another_does_not_stall(monkeypatch):
    now, got = 0, []

    def wait(flying, num_returns, timeout):
        """Every other second there is a result; that of the model comes when no other call is there."""
        nonlocal now
        now += 1
        return ([] if now % 2 else [min(flying)]), []

    monkeypatch.setattr(scheduler, "ray", SimpleNamespace(wait=wait, get=lambda reference: reference))
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: now))
    some = {"submit": lambda item, cpus: item, "take": lambda index, item, result: got.append(item)}
    jobs = [job("models", calls(["z"], **some)), job("tasks", calls("abcdefgh", **some))]
    Scheduler(2, 4, stall_seconds=4).run(jobs)
    assert got == [*"abcdefgh", "z"]


def test_calls_begin_with_few_in_flight_and_grow_with_results(ray_cluster):
    flying, most = 0, []

    def submit(item, cpus):
        nonlocal flying
        flying += 1
        most.append(flying)
        return work.remote(item)

    def take(index, item, result):
        nonlocal flying
        flying -= 1

    Scheduler(4, 4, 60).run([job("a stage", calls(range(12), take, submit, limit=4, first=1))])
    assert most[:3] == [1, 1, 2] and max(most) == 4


def test_a_later_job_takes_what_an_earlier_one_has_made_before_that_ends(ray_cluster):
    made, order = [], []

    def following():
        for n in range(6):
            while len(made) <= n:
                yield None
            yield f"late {n}"

    def take(index, item, result):
        order.append(item)
        if item.startswith("early"):
            made.append(item)

    early = job("early", calls([f"early {n}" for n in range(6)], take))
    late = job("late", calls(following(), take), ready=lambda: bool(made))
    Scheduler(1, 1, 60).run([early, late])
    assert sorted(order) == sorted([f"{name} {n}" for name in ("early", "late") for n in range(6)])
    assert order.index("late 0") < order.index("early 5")


def test_results_that_come_early_are_no_more_than_they_may_be(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "AHEAD_OF_FIRST", 5)
    go_on = tmp_path / "go on"

    @ray.remote(num_cpus=0)
    def last_of_the_first(item):
        while item == 0 and not go_on.exists():
            time.sleep(0.1)
        time.sleep(1 if item == 0 else 0)
        return item

    def take(index, item, result):
        early.append(item)
        if item == 4:
            go_on.touch()

    early = []
    Scheduler(4, 4, 60).run([job("a", calls(range(12), take, lambda item, cpus: last_of_the_first.remote(item)))])
    assert sorted(early[:4]) == [1, 2, 3, 4] and early[4] == 0 and sorted(early) == list(range(12))


@pytest.mark.parametrize("claim", [0.1, 1.0])  # as on CPUs, and on GPUs
def test_while_models_are_held_no_task_waits_for_a_whole_cpu_and_one_job_holds_them(ray_cluster, claim):
    claims, held = [], []

    def submit(item, cpus):
        claims.append((item, cpus, len(held)))
        return work.remote(item)

    def models(name):
        held.append(name)
        assert len(held) == 1
        yield calls([f"{name} {n}" for n in range(3)], submit=lambda item, cpus: work.remote(item), limit=2)
        held.remove(name)

    tasks = Job("tasks", lambda: True, iter([calls(range(60), submit=submit)]))
    two = [Job(name, lambda: len(claims) > 8, models(name), claim) for name in ("one", "other")]
    Scheduler(2, 4, 60).run([tasks, *two])
    assert {cpus for _, cpus, holding in claims if holding} == {claim}
    assert {cpus for _, cpus, _ in claims} == {1.0, claim} and claims[-1][1] == 1.0
