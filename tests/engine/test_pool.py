"""Models on the cluster: units go only to actors that run, as nodes come and go; on fakes, and on a real cluster."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, WorkerCrashedError
from support import shard_bytes, write_corpus

from annotate.engine import pool as module
from annotate.engine.cluster import Resources
from annotate.engine.pool import AHEAD, Pool
from annotate.errors import ConfigError, WorkError

TWO = Resources(workers=2, gpu=False, model_cpus=0.9, feeder_cpus=0.1)


class Actor:
    """Stands for an actor: its references are names."""

    def __init__(self, name):
        self.name = name
        self.there = SimpleNamespace(remote=lambda: f"{name} is there")
        self.forward = SimpleNamespace(remote=lambda prepared: f"{name} scores {prepared}")


class Cluster:
    """Stands for `ray`, and makes actors; they run when a test says so."""

    def __init__(self):
        self.made, self.there, self.killed, self.now = [], {}, [], 0.0
        self.found = TWO

    def wait(self, references, num_returns, timeout):
        return [reference for reference in references if reference in self.there], []

    def get(self, reference):
        if error := self.there[reference]:
            raise error

    def kill(self, actor):
        self.killed.append(actor.name)

    def make(self, resources):
        self.made.append(Actor(f"m{len(self.made)}"))
        return self.made[-1]

    def starts(self, *numbers, error=None):
        self.there |= {f"m{n} is there": error for n in numbers}

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


@pytest.fixture
def pool(cluster):
    return Pool("annotations", cluster.make, TWO, cluster.look)


def test_units_go_only_to_actors_that_run(cluster, pool):
    assert pool.room() == 0 and len(cluster.made) == 2
    assert set(pool.coming().values()) == {"a model, which needs 0.9 CPU"}
    cluster.starts(1)
    assert pool.room() == 1
    assert pool.send("a", "pa") == "m1 scores pa"
    pool.returned("a")
    assert pool.room() == AHEAD
    assert {pool.send(key, key) for key in "bcd"} == {"m1 scores b", "m1 scores c", "m1 scores d"}
    assert list(pool.coming()) == ["m0 is there"]
    cluster.starts(0)
    assert pool.room() == AHEAD + 1
    assert pool.send("e", "e") == "m0 scores e"
    pool.close()
    assert sorted(cluster.killed) == ["m0", "m1"]


def test_one_that_dies_is_replaced_once_and_the_others_go_on(cluster, pool):
    pool.room()
    cluster.starts(0, 1)
    pool.room()
    sent = {key: pool.send(key, key) for key in "ab"}
    (dead,) = [key for key, on in sent.items() if on.startswith("m0")]
    pool.lost(dead, ActorDiedError())
    assert cluster.killed == ["m0"] and pool.room() == 1 and len(cluster.made) == 3
    (other,) = sent.keys() - {dead}
    pool.lost(other, WorkerCrashedError())  # a task around the model, which is well
    assert cluster.killed == ["m0"] and pool.size == 1


def test_the_number_follows_the_cluster(cluster, pool):
    pool.room()
    cluster.starts(0)
    pool.room()
    cluster.found, cluster.now = replace(TWO, workers=4), 6.0
    pool.room()
    assert len(cluster.made) == 4 and len(pool.coming()) == 3
    cluster.found, cluster.now = replace(TWO, workers=2), 12.0
    pool.room()
    assert len(pool.coming()) == 1 and len(cluster.killed) == 2, "the cluster has no room for two of those that wait"
    cluster.found, cluster.now = ConfigError("the Ray cluster has 0 CPUs"), 18.0
    assert pool.room() == 1 and pool.resources.workers == 2


def test_several_that_cannot_start_end_the_run(cluster, pool):
    cluster.starts(*range(9), error=ActorDiedError())
    with pytest.raises(WorkError, match="annotations: a model lost its worker 4 times"):
        for _ in range(9):
            pool.room()


HERE = Path(__file__).parent


def run(folder, out, what):
    command = [sys.executable, str(HERE / "nodes.py"), str(folder / "corpus"), str(folder / out), what]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
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
