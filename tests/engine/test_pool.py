"""Models on the cluster: units go only to actors that run, as nodes come and go; on fakes, and on a real cluster."""

import os
import re
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RaySystemError
from support import shard_bytes, write_corpus

from annotate import status
from annotate.engine import pool as module
from annotate.engine.cluster import Resources
from annotate.engine.facts import Held, Place
from annotate.engine.losses import Loss
from annotate.engine.pool import AHEAD, Pool
from annotate.errors import ConfigError, WorkError

TWO = Resources(workers=2, gpus=0, model_cpus=0.9, feeder_cpus=0.1)
DIED, NODE, TASK = Loss("worker", "it died", actor=True), Loss("node", "it died", actor=True), Loss("worker", "a task")


class Actor:
    """Stands for an actor: it answers when a test says so."""

    def __init__(self, name):
        self.name, self.answers = name, []
        self.there = SimpleNamespace(remote=self.asked)
        self.import_modules = SimpleNamespace(remote=lambda: None)

    def asked(self):
        self.answers.append(Future())
        return SimpleNamespace(future=lambda answer=self.answers[-1]: answer)

    def runs(self, error=None):
        if error is None:
            self.answers[-1].set_result(Place(f"node of {self.name}", f"{self.name}'s", 7))
        else:
            self.answers[-1].set_exception(error)


class Cluster:
    """Stands for `ray`, and makes actors."""

    def __init__(self):
        self.made, self.killed, self.now = [], [], 0.0
        self.found = TWO

    def kill(self, actor):
        self.killed.append(actor.name)

    def make(self, resources):
        self.made.append(Actor(f"m{len(self.made)}"))
        return self.made[-1]

    def run(self, *numbers, error=None):
        for n in numbers:
            self.made[n].runs(error)

    def look(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(module, "ray", cluster)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    return cluster


def pool_of(cluster, wanted=100):
    return Pool("annotations", cluster.make, cluster.look, wanted)


@pytest.fixture
def pool(cluster):
    return pool_of(cluster)


def send(pool, *names):
    """Send calls; the reference of each says which actor it is at."""
    return [pool.send(lambda actor, name=name: f"{actor.name} scores {name}") for name in names]


def three_at_one_model(cluster, pool):
    """Three calls that wait at the only model that runs, which is loaded."""
    pool.room()
    cluster.run(0)
    pool.room()
    (warm,) = send(pool, "w")
    pool.returned(warm)
    return send(pool, *"abc")


def test_units_go_only_to_actors_that_run(cluster, pool):
    assert pool.room() == 0 and len(cluster.made) == 2 and not pool.idle()
    assert set(pool.coming().values()) == {"room for a model, which needs 0.9 CPU"}
    cluster.run(1)
    assert pool.room() == 1 and pool.idle()
    assert send(pool, "a") == ["m1 scores a"]
    pool.returned("m1 scores a")
    assert pool.room() == AHEAD
    assert send(pool, *"bcd") == ["m1 scores b", "m1 scores c", "m1 scores d"]
    assert len(pool.coming()) == 1 and pool.room() == AHEAD
    cluster.run(0)
    assert pool.room() == AHEAD + 1
    assert send(pool, "e") == ["m0 scores e"]
    pool.close()
    assert sorted(cluster.killed) == ["m0", "m1"]


def test_a_call_goes_to_the_model_with_the_most_room(cluster, pool):
    pool.room()
    cluster.run(0, 1)
    assert pool.room() == 2
    first, _ = send(pool, *"ab")
    pool.returned(first)  # this model is loaded, the other is not
    assert {each.split()[0] for each in send(pool, *"cde")} == {first.split()[0]}


def test_no_more_actors_are_asked_for_than_there_are_units(cluster):
    pool = pool_of(cluster, wanted=1)
    pool.room()
    assert len(cluster.made) == 1 and pool.describe() == "1 model, CPU"


def test_the_first_that_was_lost_is_what_a_model_worked_on_when_it_died(cluster, pool):
    a, b, c = three_at_one_model(cluster, pool)
    assert pool.lost(c, DIED) == {} and cluster.killed == ["m0"]
    assert pool.lost(b, DIED) == {}
    assert pool.returned(a) == {b: True, c: False}, "it was finished: only its result was still to be written"
    assert pool.room() == 0 and len(cluster.made) == 3
    cluster.run(2)
    pool.room()
    (d,) = send(pool, "d")
    assert pool.lost(d, TASK) == {d: True}, "a task around the model, which is well"
    assert cluster.killed == ["m0"]


def test_a_model_has_worked_on_a_call_since_it_was_done_with_the_one_before(cluster, pool):
    a, b, _ = three_at_one_model(cluster, pool)
    cluster.now = 5.0
    pool.returned(a)
    cluster.now = 9.0
    assert pool.held(b) == Held(5.0, "m0's", 7, gpus=0)
    pool.resources = replace(TWO, gpus=1)
    assert pool.held(b).gpus == 1 and pool.held("a call around the model") == Held()


def test_calls_are_judged_when_all_of_a_dead_model_are_back(cluster, pool):
    a, b, c = three_at_one_model(cluster, pool)
    pool.lost(c, DIED)
    pool.returned(a)
    assert pool.lost(b, DIED) == {b: True, c: False}


def test_calls_of_a_dead_model_are_judged_also_if_the_last_one_was_lost_after_it_left_the_model(cluster, pool):
    a, b, c = three_at_one_model(cluster, pool)
    assert pool.lost(c, DIED) == {} == pool.lost(b, DIED)
    assert pool.lost(a, TASK) == {a: True, b: True, c: False}


def test_after_a_loss_the_idle_models_are_asked_before_they_get_units(cluster, pool):
    pool.room()
    cluster.run(0, 1)
    pool.room()
    (a,) = send(pool, "a")
    other = cluster.made[1 if a.startswith("m0") else 0]
    assert pool.lost(a, NODE) == {a: True}
    assert pool.room() == 0 and len(other.answers) == 2
    other.runs()
    assert pool.room() == 1


def test_the_number_follows_the_cluster(cluster, pool):
    pool.room()
    cluster.run(0)
    pool.room()
    cluster.found, cluster.now = replace(TWO, workers=4), 6.0
    pool.room()
    assert len(cluster.made) == 4 and len(pool.coming()) == 3
    cluster.found, cluster.now = replace(TWO, workers=2), 12.0
    pool.room()
    assert len(pool.coming()) == 1 and len(cluster.killed) == 2, "the cluster has no room for two of those that wait"
    for found in (ConfigError("the Ray cluster has 0 CPUs"), RaySystemError("no answer"), replace(TWO, gpus=1)):
        cluster.found, cluster.now = found, cluster.now + 6
        assert pool.room() == 1 and pool.resources == TWO


def test_models_are_given_back_to_another_run_the_idle_ones_first(cluster, pool):
    pool.room()
    cluster.run(0, 1)
    pool.room()
    (a,) = send(pool, "a")
    (busy,), (idle,) = [a.split()[0]], {"m0", "m1"} - {a.split()[0]}
    cluster.found, cluster.now = replace(TWO, workers=1), 6.0
    assert pool.room() == 1 and cluster.killed == [idle]
    pool.returned(a)
    assert send(pool, "b") == [f"{busy} scores b"]
    cluster.found, cluster.now = TWO, 12.0
    pool.room()
    assert len(cluster.made) == 3 and len(pool.coming()) == 1


def test_a_node_that_is_about_to_leave_gets_no_more_units_and_others_take_its_place(cluster, pool, monkeypatch):
    pool.room()
    cluster.run(0, 1)
    pool.room()
    a, _ = send(pool, *"ab")
    busy = a.split()[0]
    pool.returned(a)
    monkeypatch.setattr(module.nodes, "leaving", lambda: frozenset({f"node of {busy}"}))
    (c,) = send(pool, "c")
    assert c.startswith(busy)
    cluster.now = 6.0
    assert pool.room() == 2 and len(cluster.made) == 3 and not cluster.killed, "what it works on may end"
    pool.returned(c)
    assert pool.room() == 1 and cluster.killed == [busy]
    cluster.run(2)
    assert pool.room() == 2 and send(pool, "d") == ["m2 scores d"]


def test_the_last_of_the_longest_line_waits(cluster, pool):
    a, b, c = three_at_one_model(cluster, pool)
    assert list(pool.waiting()) == [c, b], "the model works on the first"
    pool.returned(a)
    assert list(pool.waiting()) == [c]


def test_with_more_runs_than_gpus_they_take_turns(cluster):
    cluster.found = Resources(workers=1, gpus=1, model_cpus=0.5, feeder_cpus=0.1, crowded=True)
    pool = pool_of(cluster)
    pool.room()
    cluster.run(0)
    pool.room()
    (a,) = send(pool, "a")
    loaded = cluster.now = 2 * module.TURN_SECONDS  # to load it took longer than a turn
    assert pool.room() == 1 and not cluster.killed
    pool.returned(a)
    cluster.now = loaded + module.TURN_SECONDS - 1
    (b,) = send(pool, "b")
    assert pool.room() == module.AHEAD and not cluster.killed
    cluster.now = loaded + module.TURN_SECONDS + 6
    assert pool.room() == 1 and not cluster.killed and not pool.coming(), "it is at work"
    pool.returned(b)
    assert pool.room() == 0 and cluster.killed == ["m0"] and len(pool.coming()) == 1
    cluster.run(1)
    assert pool.room() == 1, "its next turn"


def test_a_model_that_claims_so_much_that_no_other_run_has_one_is_made_anew(cluster):
    cluster.found = alone = replace(TWO, workers=1, model_cpus=2.7)
    pool = pool_of(cluster)
    pool.room()
    cluster.run(0)
    assert pool.room() == 1
    cluster.found, cluster.now = replace(alone, model_cpus=1.35, crowded=True), 6.0
    assert pool.room() == 0 and cluster.killed == ["m0"] and len(cluster.made) == 2
    cluster.run(1)
    cluster.now = 12.0
    assert pool.room() == 1 and cluster.killed == ["m0"]


def test_one_that_cannot_start_again_and_again_ends_the_run(cluster, pool):
    with pytest.raises(WorkError, match="annotations: a model lost its worker 4 times"):
        for _ in range(9):
            cluster.now += 60
            pool.room()
            cluster.made[-1].runs(ActorDiedError())


def test_many_that_are_lost_together_do_not(cluster):
    cluster.found = replace(TWO, workers=9)
    pool = pool_of(cluster)
    pool.room()
    cluster.run(*range(9), error=ActorDiedError())
    assert pool.room() == 0 and len(cluster.made) == 9, "there is a pause before they are asked for again"
    assert list(pool.coming().values()) == ["a pause, since models were lost before they ran"]
    cluster.now += 1
    assert pool.room() == 0 and len(cluster.made) == 18 and len(pool.coming()) == 9
    for actor in cluster.made[9:]:
        actor.runs(NodeDiedError("its node has died"))
    pool.room()
    cluster.now += 1
    assert pool.room() == 0 and len(cluster.made) == 18, "it grows"
    cluster.now += 1
    assert pool.room() == 0 and len(pool.coming()) == 9 and len(cluster.made) == 27
    cluster.run(*range(18, 27))
    assert pool.room() == 9


def test_models_that_are_wanted_no_longer_are_not_asked_for_after_a_pause(cluster):
    cluster.found = replace(TWO, workers=3)
    pool = pool_of(cluster)
    pool.room()
    cluster.run(0, 1, error=ActorDiedError())
    pool.room()
    cluster.found, cluster.now = replace(TWO, workers=1), 10.0
    pool._pause.until = 20.0
    pool.room()
    assert len(pool.coming()) == 1 and not cluster.killed[2:], "the one that may run still"
    cluster.now = 30.0
    pool.room()
    assert len(cluster.made) == 3


HERE = Path(__file__).parent
QUICK = {  # a killed node is seen after four seconds, not after twenty
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "30000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}


def run(folder, out, what):
    command = [sys.executable, str(HERE / "nodes.py"), str(folder / "corpus"), str(folder / out), what]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | QUICK
    said = folder / f"{out}.txt"  # no pipe: what is left of a node that was killed would hold it open
    with said.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=200, env=environment)
    assert done.returncode == 0, said.read_text()[-3000:]
    models, happened = re.findall(r"^(\d+) (True|False)$", said.read_text(), re.MULTILINE)[-1]
    return int(models), happened == "True"


@pytest.mark.slow
def test_a_run_ends_on_what_is_left_and_uses_what_joins(tmp_path):
    write_corpus(tmp_path / "corpus", shards=2, documents=48)
    lost, joined = run(tmp_path, "lost", "lost"), run(tmp_path, "joined", "joins")
    assert lost == (4, True), "no other models than those of the start"
    assert joined[1] and joined[0] > 4
    assert shard_bytes(tmp_path / "lost") == shard_bytes(tmp_path / "joined")


@pytest.mark.slow
def test_models_leave_a_node_before_it_is_taken_away(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1, documents=48)
    assert run(tmp_path, "left", "leaves") == (4, True), "no other models than those of the start"
    assert any("about to leave the cluster" in text for text in status(tmp_path / "left").warnings)
