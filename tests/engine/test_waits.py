"""A run that waits for what others hold says so, and is no stall; a task that hangs is."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from length_scorer import length_scorer
from support import shard_bytes, to_shards, write_corpus

from annotate import Corpus, Options, Split, Tag, TagScheme, score, status
from annotate.engine import scheduler
from annotate.engine.calls import Calls, Job
from annotate.engine.scheduler import Scheduler
from annotate.engine.sharing import Share
from annotate.engine.waits import holders, waited_for
from annotate.errors import WorkError

STALL_SECONDS = 4.0


@pytest.fixture
def quick(monkeypatch):
    """What a run does after seconds, it does after parts of them."""
    monkeypatch.setattr(scheduler, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(scheduler, "ASK_SECONDS", 0.5)


@contextmanager
def others(address):
    """Another job that holds all CPUs, inside the block."""
    holder = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hold_cpus.py"), address, "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.communicate("\n", timeout=60)


def pipeline(corpus):
    scores = score(Split(Corpus(corpus, unit_bytes=2000)), [length_scorer()])
    return to_shards(scores, TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),)))


@pytest.mark.slow  # it has to wait for longer than a stall
def test_a_run_waits_for_what_another_job_holds_says_so_and_ends(quick, ray_cluster, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1, documents=15)
    with ThreadPoolExecutor(1) as beside, others(ray_cluster) as other:
        run = beside.submit(pipeline(corpus).run, tmp_path / "out", Options(stall_seconds=STALL_SECONDS))
        until, waiting = time.monotonic() + 60, []
        while not waiting and time.monotonic() < until and not run.done():
            time.sleep(0.2)
            waiting = [s for s in _status(tmp_path / "out") if s.state == "waits for resources"]
        time.sleep(2 * STALL_SECONDS)
        assert not run.done(), run.result()
        for stage in waiting:
            assert "room for a call, which needs 1 CPU; the cluster has free: 0 of 3 CPU" in stage.waits
            assert f"hold_cpus.py, process {other.pid} at" in stage.waits and "holds 3 CPU" in stage.waits
        assert waiting and {stage.label for stage in waiting} <= {"id-partitions", "spans"}
    run.result()
    assert any("spans: waits for room for a call" in text for text in status(tmp_path / "out").warnings)
    pipeline(corpus).run(tmp_path / "alone")
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "alone")


def _status(workdir):
    return status(workdir).stages if (workdir / "events").exists() else ()


def test_a_task_that_hangs_is_a_stall_although_others_wait_for_its_cpus(quick, ray_cluster):
    asked = []

    def asks():
        asked.append(waited_for())
        return asked[-1]

    hangs = ray.remote(num_cpus=3)(lambda seconds: time.sleep(seconds))
    submit = lambda item, cpus: hangs.remote(item)  # noqa: E731
    step = Calls(iter([20.0, 0.5]), submit, str, lambda *result: None)
    running = Scheduler(lambda: Share(2, 2), 3, waits=asks)
    with pytest.raises(WorkError, match=r"nothing came back for 3\.0 s; in flight: 20\.0, 0\.5"):
        running.run([Job("a stage", lambda: True, iter([step]))])
    assert len(asked) > 2 and not any(asked)
    assert "(this program, process" in holders()[0] and holders()[0].endswith("holds 3 CPU")


def test_what_no_node_can_ever_give_is_said(ray_cluster):
    large = ray.remote(num_cpus=5)(lambda: None).remote()
    until, found = time.monotonic() + 30, []
    while not found and time.monotonic() < until:
        time.sleep(0.5)
        found = waited_for()
    ray.cancel(large, force=True)
    assert found == ["room for a call, which needs 5 CPU, more than any node has"]
