"""A process that the kernel ends for want of memory is told from one that crashes, and no document is blamed."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from deadly import write

from annotate import status
from annotate.engine import kernel_kills, nodes
from annotate.engine.kernel_kills import PAUSE, KernelKills, kills_here

MEMORY = Path("/sys/fs/cgroup/memory")
BYTES = 4 << 30  # Ray and two workers take less


@pytest.fixture
def group():
    """A control group with a limit, if this process may make one."""
    folder = MEMORY / f"annotate-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(BYTES))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    for _ in range(100):  # until its last process is gone
        try:
            return folder.rmdir()
        except OSError:
            time.sleep(0.2)


@pytest.mark.slow  # a Ray of its own, four of whose workers are ended
def test_the_kernel_ends_a_worker_for_want_of_memory(group, tmp_path):
    corpus, out = write(tmp_path / "corpus", [(3, "Hungry")]), tmp_path / "out"
    command = [sys.executable, str(Path(__file__).with_name("starve.py")), str(group), str(corpus), str(out)]
    # Ray itself would end the worker before the kernel does.
    environment = {**os.environ, "RAY_memory_monitor_refresh_ms": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert "lost its worker 4 times; the last time: the kernel of a node has ended a process for want of" in done.stderr
    assert "fewer --workers" in done.stderr
    assert "oom_kill 4" in (group / "memory.oom_control").read_text()
    assert not list(out.glob("corpus-*/refused/*"))
    said = [warning for warning in status(out).warnings if "spans" in warning]
    assert said and all("too little memory" in warning for warning in said)


def test_kills_are_read_from_the_own_group_or_what_can_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_kills, "GROUPS", tmp_path)
    monkeypatch.setattr(kernel_kills, "_groups", lambda: {"": "/a/b", "memory": "/c"})
    (tmp_path / "memory.events").write_text("low 0\noom 9\noom_kill 7\n")
    assert kills_here() == 7
    for folder, name, count in (("memory/c", "memory.oom_control", 3), ("a/b", "memory.events", 2)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(f"under_oom 0\noom_kill {count}\n")
        assert kills_here() == count


class Nodes:
    """Stands for the nodes of a cluster. A count of None: the node does not answer."""

    def __init__(self, monkeypatch, **counts):
        self.counts, self.asked, self.now = counts, [], 100.0
        monkeypatch.setattr(kernel_kills.nodes, "alive", lambda resource: dict.fromkeys(self.counts, ""))
        monkeypatch.setattr(kernel_kills.nodes, "on_each_node", self.answer)
        monkeypatch.setattr(kernel_kills, "kills_here", lambda: counts["a"])
        monkeypatch.setattr(kernel_kills, "time", self)
        context = SimpleNamespace(get_node_id=lambda: "a")
        monkeypatch.setattr(kernel_kills.ray, "get_runtime_context", lambda: context)

    def monotonic(self):
        self.now += 1
        return self.now

    def answer(self, question, seconds, only, strict):
        assert not strict
        self.asked.append(sorted(only))
        return {node: self.counts[node] for node in only if self.counts[node] is not None}

    def kills(self):
        kills = KernelKills()
        kills.start()
        self.asked.clear()
        return kills


def test_what_a_node_had_before_is_no_kill_of_this_run(monkeypatch):
    there = Nodes(monkeypatch, a=0, b=5)
    kills = there.kills()
    sent = there.monotonic()
    assert not kills.since(sent, there.monotonic())
    there.counts["c"] = 8  # a node joins
    assert not kills.since(sent, there.monotonic())
    there.counts["b"] += 1
    assert kills.since(sent, there.monotonic())
    assert not kills.since(there.monotonic(), there.monotonic())


def test_nodes_are_asked_once_for_all_losses_that_came_before(monkeypatch):
    there = Nodes(monkeypatch, a=0, b=0)
    kills = there.kills()
    sent, losses = there.monotonic(), [there.monotonic() for _ in range(8)]
    assert not any(kills.since(sent, came) for came in losses) and len(there.asked) == 1
    there.counts["b"] = 1
    assert not kills.since(sent, losses[-1]) and len(there.asked) == 1, "the kill was after these losses"
    assert kills.since(sent, there.monotonic()) and len(there.asked) == 2


def test_a_node_that_does_not_answer_holds_up_the_driver_once_and_the_others_are_asked(monkeypatch):
    there = Nodes(monkeypatch, a=0, b=0, c=0)
    kills = there.kills()
    there.counts["b"] = None
    assert not kills.since(there.monotonic(), there.monotonic())
    sent = there.monotonic()
    there.counts["c"] = 1
    assert kills.since(sent, there.monotonic())
    there.now += PAUSE
    assert not kills.since(there.monotonic(), there.monotonic())
    assert there.asked == [["a", "b", "c"], ["a", "c"], ["a", "b", "c"]]


def test_a_node_that_can_not_be_asked_hides_no_other(ray_cluster):
    def fails():
        raise ImportError("annotate")

    assert nodes.on_each_node(fails, strict=False) == {}
    assert list(nodes.on_each_node(kills_here, strict=False).values()) == [kills_here()]
