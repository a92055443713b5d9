"""Facts of calls: each call tells where, when, on what its seconds went and its memory; chains tell all their calls."""

import os
import sys
import time

import numpy as np
import pytest
import ray

from annotate import tally
from annotate.engine.facts import Facts, Heard, Sent, Told
from annotate.engine.running import Running
from annotate.engine.worker import told

SENT = Sent("a stage", "work", "a unit", 1.0)


def heard_from(*given: Told) -> tuple[list[Facts], Heard]:
    facts: list[Facts] = []
    heard = Heard(facts.append)
    for each in given:
        heard.heard(each)
    return facts, heard


def test_a_call_tells_its_place_its_time_and_its_counts():
    tally.taken()

    def work(a, *, times=2):
        tally.count("requests: get")
        return a * times

    before = time.time()
    answer = told(SENT, work, 4)
    (facts,), _ = heard_from(answer)
    assert answer.result == 8
    assert facts.sent == SENT and facts.pid == os.getpid() and facts.node
    assert before <= facts.start <= facts.end <= time.time()
    assert facts.counts == {"requests: get": 1}
    assert not tally.taken(), "counts are told once"


def test_no_second_is_in_two_phases():
    tally.taken()
    with tally.phase("write"):
        time.sleep(0.1)
        with tally.phase("read"):
            time.sleep(0.2)
            with tally.phase("read"):
                time.sleep(0.1)
    time.sleep(0.1)
    counts = tally.taken()
    assert counts["seconds: read"] == pytest.approx(0.3, abs=0.08)
    assert counts["seconds: write"] == pytest.approx(0.1, abs=0.08)


def test_a_phase_ends_with_an_error():
    tally.taken()
    with pytest.raises(ZeroDivisionError), tally.phase("forward"):
        1 / 0  # noqa: B018
    first = tally.taken()["seconds: forward"]
    time.sleep(0.05)
    assert first < 0.05 and not tally.taken()


def test_the_peak_of_memory_is_that_of_the_call_and_not_of_an_earlier_one():
    hold = lambda megabytes: np.ones(megabytes << 17).sum()  # noqa: E731
    hold(1)
    large, small = told(SENT, hold, 300), told(SENT, hold, 1)
    _, heard = heard_from(large)
    assert large.facts[0].peak - small.facts[0].peak > 200 << 20
    heard.heard(small)
    assert heard.peaks == {("a stage", "work"): large.facts[0].peak}


def test_a_chain_of_calls_tells_each_of_them_once(ray_cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    running = Running(None, None, None, None)
    named = {"stage": "a stage", "units": "a unit"}
    first = running.task(_double, 0, 1, **named)
    second = running.task(_sum, 0, first, 5, **named)
    third = running.task(_sum, 0, first, second, **named)
    facts: list[Facts] = []
    assert Heard(facts.append).heard(ray.get(third)) == 9
    assert [each.sent.step for each in facts] == ["_double", "_sum", "_sum"]
    assert all(each.node == facts[0].node and each.node.endswith(")") for each in facts)
    ends = [each.end for each in facts]
    assert ends == sorted(ends) and all(each.start >= each.sent.time - 0.1 for each in facts)


def _double(x):
    return 2 * x


def _sum(a, b):
    return a + b
