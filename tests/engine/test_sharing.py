"""Two runs share a cluster: each sees the other, takes its part, and gets on while the other goes on."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from length_scorer import length_scorer
from support import shard_bytes, to_shards, write_corpus

from annotate import Corpus, PythonScorer, Split, Tag, TagScheme, score
from annotate.engine import pool, sharing
from annotate.engine import running as module
from annotate.engine.map import make
from annotate.engine.options import Options
from annotate.engine.running import Running
from annotate.engine.sharing import GPUS, NAME, Share, Sharing, runs, shown
from annotate.errors import ConfigError


def test_runs_see_each_other_as_long_as_they_go_on(ray_cluster):
    (before,) = runs(NAME)
    with shown("a"):
        with shown("b"):
            assert runs(NAME) == (sorted([*before, "a", "b"]),)
            with shown("b", GPUS):
                assert runs(NAME, GPUS) == (sorted([*before, "a", "b"]), ["b"])
            assert runs(GPUS) == ([],)
        assert runs(NAME) == (sorted([*before, "a"]),)
    assert runs(NAME) == (before,)


def test_a_run_takes_its_part(monkeypatch):
    there, cpus, now = ["a"], 8, 0.0

    def count(most):
        if not cpus:
            raise ConfigError("the Ray cluster has 0 CPUs")
        return min(most or cpus, cpus)

    monkeypatch.setattr(sharing, "runs", lambda *kinds: (there, []))
    monkeypatch.setattr(sharing, "count_workers", count)
    monkeypatch.setattr(sharing, "largest_memory", lambda: 99)
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now)
    all_of_it, some = Sharing(None), Sharing(6)
    assert (all_of_it.share(), some.share()) == (Share(8, 16, 99), Share(6, 6, 99))
    there = ["a", "b", "c"]
    assert all_of_it.share() == Share(8, 16, 99), "it has looked just now"
    now = 6.0
    assert (all_of_it.share(), some.share()) == (Share(2, 4, 99, 0.5), Share(2, 2, 99, 0.5))
    cpus, now = 0, 12.0
    assert all_of_it.share() == Share(2, 4, 99, 0.5), "while no node is there, it waits for one"
    with pytest.raises(ConfigError):
        Sharing(None).share()


@pytest.mark.slow  # it has to be seen that a run gets on while another one has units left
@pytest.mark.parametrize("threads", [1, 3])  # with 3, one model fits at first: that of one run
def test_two_runs_at_once_both_get_on(ray_cluster, tmp_path, monkeypatch, threads):
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.5)

    def slow(table):
        time.sleep(0.5)
        return length(table)

    length = length_scorer().function

    def run(name):
        scorer = PythonScorer(function=slow, axes=("length",), version="1")
        scores = score(Split(Corpus(tmp_path / name, unit_bytes=1000)), [scorer], threads=threads)
        scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),))
        to_shards(scores, scheme).run(tmp_path / f"out {name}")
        return time.monotonic()

    def scored(name):
        return len(list((tmp_path / f"out {name}").glob("annotations-*/units/*")))

    write_corpus(tmp_path / "long", shards=2, documents=60)
    write_corpus(tmp_path / "short", shards=1, documents=15)
    with ThreadPoolExecutor(2) as beside:
        long = beside.submit(run, "long")
        while scored("long") < 6:
            assert not long.done(), long.result()
            time.sleep(0.1)
        short = beside.submit(run, "short")
        assert short.result() < long.result()
    assert shard_bytes(tmp_path / "out long") and shard_bytes(tmp_path / "out short")
    assert not runs()


def test_a_task_asks_for_the_memory_that_earlier_ones_needed(monkeypatch):
    running = Running(None, Options(), None, None)
    monkeypatch.setattr(sharing, "runs", lambda *kinds: (["a"], []))
    monkeypatch.setattr(sharing, "count_workers", lambda most: 8)
    monkeypatch.setattr(sharing, "largest_memory", lambda: 5 << 30)
    asked = []
    options = lambda **given: asked.append(given.get("memory")) or SimpleNamespace(remote=lambda *arguments: None)  # noqa: E731
    monkeypatch.setattr(module, "_REMOTE", SimpleNamespace(options=options))
    for peak in (0, 300 << 20, 512 << 20, (4 << 30) + 1):
        running.heard.peaks[("spans", "make")] = peak
        running.task(make, 1.0, stage="spans", units="a")
    running.task(make, 1.0, stage="signatures", units="a")
    sent = time.monotonic()
    running.starved("signatures", sent)
    running.starved("signatures", sent)  # of the same time: it did not ask for twice as much
    running.task(make, 1.0, stage="signatures", units="a")
    running.starved("signatures", time.monotonic())
    running.task(make, 1.0, stage="signatures", units="a")
    assert asked == [None, 512 << 20, 512 << 20, 5 << 30, None, 1 << 30, 2 << 30]
