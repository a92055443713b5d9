"""A call that hangs: said by name after a while, then an error that names it."""

import time

import pytest
import ray

from annotate.engine import cluster
from annotate.engine.cluster import Calls
from annotate.errors import WorkError


def test_what_hangs_is_named_and_stops_the_run(ray_cluster, monkeypatch):
    monkeypatch.setattr(cluster, "QUIET_SECONDS", 0.5)
    told = []

    @ray.remote(num_cpus=0)
    def work(item):
        time.sleep(20 if item == "slow" else 0)
        return item

    calls = Calls("a stage", work.remote, str, 2, stall_seconds=3, waiting=told.append)
    got = []
    with pytest.raises(WorkError, match=r"a stage: nothing came back for 3 s; in flight: slow"):
        got += [result for _, _, result in calls.results(iter(["slow", "a", "b"]))] or [None]
    assert told and set(map(tuple, told)) == {("slow",)}


def test_calls_begin_with_few_in_flight_and_grow_with_results(ray_cluster):
    flying = 0
    most = []

    @ray.remote(num_cpus=0)
    def work(item):
        return item

    def submit(item):
        nonlocal flying
        flying += 1
        most.append(flying)
        return work.remote(item)

    calls = Calls("a stage", submit, str, 4, stall_seconds=60, first=1)
    for _ in calls.results(iter(range(12))):
        flying -= 1
    assert most[:3] == [1, 1, 2] and max(most) == 4
