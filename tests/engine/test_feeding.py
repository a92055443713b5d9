"""Models are fed by as many tasks as keep them busy: on fakes with a clock of their own, and in a real run."""

import heapq
import itertools
import re
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import support
from hypothesis import given
from hypothesis import strategies as st
from test_pool import Cluster

from annotate import Corpus, Pipeline, Split, status
from annotate.engine import feeding, pool
from annotate.engine.cluster import Resources
from annotate.engine.facts import Driver, Facts, Sent
from annotate.engine.feeding import AHEAD, MOST_AHEAD, TEXT_BYTES, Feeding
from annotate.engine.pool import Pool
from annotate.stages.score import Score

seconds = st.floats(0.001, 100)


def facts(step, start, end, idle=0.0, load=0.0):
    """Facts of a call, as a worker tells them."""
    counts = {"model idle": idle, "seconds: load": load}
    return Facts(Sent("a", step, "u", 0.0, Driver("n", {})), "n", 7, 0.0, start, end, counts, 1)


def chain(prepare, forward, finish, idle=0.0, load=0.0):
    """Facts of the three calls of a unit that take so many seconds."""
    return [
        facts("prepare", 5.0, 5.0 + prepare),
        facts("forward", 5.0, 5.0 + forward + load, idle, load),
        facts("finish", 5.0, 5.0 + finish),
    ]


@given(seconds, seconds, seconds, st.integers(1, 200), st.integers(0, 1 << 31))
def test_what_is_ahead_follows_the_times_within_what_cpus_and_memory_allow(prepare, forward, finish, feeders, text):
    feeding = Feeding()
    assert feeding.ahead(feeders) == AHEAD, "nothing is known"
    feeding.send(text)
    feeding.take(chain(prepare, forward, finish, load=1000.0))
    ahead = feeding.ahead(feeders)
    assert AHEAD <= ahead <= min(MOST_AHEAD, max(AHEAD, feeders + 2))
    assert ahead == AHEAD or ahead * text <= TEXT_BYTES
    assert ahead <= feeding.ahead(feeders + 1)
    if ahead > AHEAD:  # loading the model is no part of the time
        assert (ahead - 2) * forward <= (prepare + forward + finish) * 1.001


def test_calls_that_are_no_chain_tell_nothing():
    feeding = Feeding()
    feeding.take([facts("prepare_part", 0, 9), facts("attempt", 9, 10)])
    assert feeding.ahead(100) == AHEAD and feeding.came == 0


@dataclass
class Machine:
    """Stands for a node: so many CPUs prepare and finish units, and one model runs them, by a clock of its own."""

    cluster: Cluster
    cpus: int
    takes: tuple[float, float, float]

    def run(self, models: Pool, calls: int) -> float:
        """Make so many calls; the share of the time in which the model ran, from the middle of them on."""
        number, events = itertools.count(), []
        todo, line, done = deque(), deque(), {}
        free, busy, back, running, idle_since, began = self.cpus, 0.0, 0, False, None, 0.0
        while back < calls:
            sent = 0 if not done else len(done) - back
            while len(done) < calls and sent < models.room():
                each = next(number)
                models.send(lambda actor, each=each: each)
                done[each], sent = [], sent + 1
                todo.append(("prepare", each))
                line.append(each)
            while todo and free:
                step, each = todo.popleft()
                free -= 1
                heapq.heappush(events, (self.cluster.now + self.takes[0 if step == "prepare" else 2], step, each))
            if not running and line and done[line[0]]:
                each, running = line.popleft(), True
                idle = 0.0 if idle_since is None else self.cluster.now - idle_since
                done[each].append(facts("forward", 0.0, self.takes[1], idle))
                heapq.heappush(events, (self.cluster.now + self.takes[1], "forward", each))
            self.cluster.now, step, each = heapq.heappop(events)
            if step == "forward":
                running, idle_since = False, self.cluster.now
                todo.appendleft(("finish", each))
                busy += self.takes[1] * (back >= calls // 2)
                continue
            free += 1
            done[each].append(facts(step, 0.0, self.takes[0 if step == "prepare" else 2]))
            if step == "finish":
                models.returned(each, done[each])
                back += 1
                began = self.cluster.now if back == calls // 2 else began
        return busy / (self.cluster.now - began)


def fed(monkeypatch, takes, cpus, feeders, gpus=1.0, calls=200):
    """How busy one model is on a machine, what is in front of it in the end, and what was said."""
    cluster, said = Cluster(), []
    monkeypatch.setattr(pool, "ray", cluster)
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    cluster.found = Resources(workers=1, gpus=gpus, model_cpus=0.1, feeder_cpus=0.9, feeders=feeders)
    models = Pool("annotations", cluster.make, cluster.look, 1000, said.append)
    models.room()
    cluster.run(0)
    return Machine(cluster, cpus, takes).run(models, calls), models.room(), said


def test_a_model_is_busy_where_there_are_cpus_to_feed_it(monkeypatch):
    """Preparing takes six times as long as the forward pass, as on a GPU."""
    busy, ahead, said = fed(monkeypatch, (6.0, 1.0, 0.5), cpus=16, feeders=16)
    assert busy > 0.98 and ahead == 9 and said == []
    monkeypatch.setattr(feeding, "MOST_AHEAD", AHEAD)
    few, ahead, _ = fed(monkeypatch, (6.0, 1.0, 0.5), cpus=16, feeders=16)
    assert few == pytest.approx(3 / 7.5, abs=0.02) and ahead == AHEAD


def test_where_cpus_are_short_it_is_said_once_what_would_help(monkeypatch):
    busy, ahead, said = fed(monkeypatch, (6.0, 1.0, 0.5), cpus=3, feeders=3)
    assert busy < 0.5 and ahead == 5
    [text] = said
    assert text.startswith("annotations: the models wait for units") and "6.5 times as long" in text
    assert "each model needs 7 feeders; there are CPUs for 3 a model; more CPUs" in text
    assert fed(monkeypatch, (6.0, 1.0, 0.5), cpus=3, feeders=3, gpus=0)[2] == [], "on CPUs all is one"


@given(seconds, seconds, seconds, st.integers(1, 50))
def test_what_is_said_of_feeders_is_no_contradiction(prepare, forward, finish, feeders):
    """Preparing and finishing count alike: a model with as many feeders as it is said to need lacks none."""
    feeding = Feeding()
    for _ in range(20):
        feeding.take(chain(prepare, forward, finish, idle=100 * forward))
    said = feeding.limits(feeders)
    if "a model; more CPUs" in said:
        assert int(re.search(r"needs ([\d,]+) feeders?;", said)[1].replace(",", "")) > feeders
    else:
        assert said == "" and feeding.needed <= feeders


def test_where_the_run_was_told_how_many_tasks_it_may_have_that_is_named():
    feeding = Feeding()
    for _ in range(50):
        feeding.take(chain(0.5, 1.0, 1.0, idle=9.0))
    assert feeding.limits(2, asked=True) == "", "no more are needed"
    said = feeding.limits(1, asked=True)
    assert "needs 2 feeders; --workers allows 1 a model; a higher number, or none, would" in said and "CPUs" not in said


def test_what_waits_for_units_that_come_late_is_no_matter_of_feeders(monkeypatch):
    feeding = Feeding()
    for _ in range(50):
        feeding.take(chain(0.1, 1.0, 0.1, idle=9.0))
    assert feeding.busy() == pytest.approx(0.1) and feeding.limits(1) == ""


@pytest.mark.parametrize(("text", "why"), [(TEXT_BYTES // 5, "smaller units"), (10, "less to prepare")])
def test_other_bounds_are_said_too(text, why):
    feeding = Feeding()
    for _ in range(50):
        feeding.send(text)
        feeding.take(chain(500.0, 1.0, 0.1, idle=9.0))
    assert feeding.ahead(1000) == (5 if text > 10 else MOST_AHEAD)
    assert why in feeding.limits(1000) and feeding.limits(1000) == ""


class Slow(Score):
    """Scores whose units take longer to prepare than the model takes. What prepares a unit leaves its times.

    Units wait in `prepare` until `at_once` of them have been there together: how fast the machine is has no say. The
    first does not wait: until it is scored, no other is sent.
    """

    def prepare(self, tables, rows):
        begun, notes = time.time(), Path(self.notes)
        first = not any(notes.glob("*/*"))
        here, were = notes / "in prepare" / uuid.uuid4().hex, notes / "were together"
        here.touch()
        until = time.monotonic() + 60
        while not first and not were.exists() and len(list(here.parent.iterdir())) < self.at_once:
            assert time.monotonic() < until, f"no {self.at_once} units were prepared at once"
            time.sleep(0.05)
        if not first:
            were.touch()
        time.sleep(0.2)
        prepared = super().prepare(tables, rows)
        (notes / "done" / here.name).write_text(f"{begun} {time.time()}")
        here.unlink()
        return prepared

    def forward(self, model, prepared, stages, wanted):
        time.sleep(0.05)
        return super().forward(model, prepared, stages, wanted)


def most_at_once(folder):
    """The most units that were prepared at once."""
    spans = [tuple(map(float, path.read_text().split())) for path in (folder / "done").iterdir()]
    return max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans)


def test_as_many_tasks_as_there_are_cpus_feed_a_model_that_waits_and_bytes_are_the_same(
    ray_cluster, tmp_path, monkeypatch
):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    corpus, at_once, models, parts = support.write_corpus(tmp_path / "corpus", shards=1), [], [], []
    monkeypatch.setattr(pool, "FEED_SECONDS", 0.0)
    for feeders, wanted in (("one", 1), ("many", 3)):
        notes, out = tmp_path / feeders, tmp_path / f"out-{feeders}"
        for folder in ("in prepare", "done"):
            (notes / folder).mkdir(parents=True)
        monkeypatch.setattr(Slow, "notes", str(notes), raising=False)
        monkeypatch.setattr(Slow, "at_once", wanted, raising=False)
        with pytest.MonkeyPatch.context() as patch:
            if feeders == "one":
                for module, name in itertools.product((pool, feeding), ("AHEAD", "MOST_AHEAD")):
                    patch.setattr(module, name, 1)
            spans = Split(Corpus(str(corpus), unit_bytes=600))
            scores = Slow(spans, support.scorer(tmp_path / "calls", "niceness"), threads=3)
            Pipeline(scores=scores).run(out)
        at_once.append(most_at_once(notes))
        [model] = [stage.model for stage in status(out).timeline.stages if stage.model]
        models.append(model)
        parts.append({path.name: path.read_bytes() for path in out.glob("annotations-*/parts/*")})
    assert at_once == [1, 3] and parts[0] == parts[1] and len(parts[0]) > 10
    assert all(0 < model.share < 1 and model.tokens == 0 for model in models)
