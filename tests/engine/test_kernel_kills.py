"""A process that the kernel ends for want of memory is told from one that crashes, and no document is blamed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deadly import write
from ray import exceptions

from annotate import status
from annotate.engine import kernel_kills
from annotate.engine.kernel_kills import KernelKills, kills_here

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


def test_what_a_node_had_before_is_no_kill_of_this_run(monkeypatch):
    counts = {"a": 0, "b": 5}
    monkeypatch.setattr(kernel_kills.nodes, "alive", lambda resource: dict.fromkeys(counts, ""))
    monkeypatch.setattr(kernel_kills.nodes, "on_each_node", lambda *asked, only: {each: counts[each] for each in only})
    monkeypatch.setattr(kernel_kills, "kills_here", lambda: counts["a"])
    monkeypatch.setattr(
        kernel_kills.ray, "get_runtime_context", lambda: type("A", (), {"get_node_id": lambda self: "a"})()
    )
    kills = KernelKills()
    kills.start()
    sent = time.monotonic()
    assert not kills.since(sent)
    counts["c"] = 8  # a node joins
    assert not kills.since(sent)
    counts["b"] += 1
    assert kills.since(sent) and not kills.since(time.monotonic())
    # A node that does not answer holds up the driver once only.
    asked = []
    monkeypatch.setattr(kernel_kills.nodes, "on_each_node", lambda *those, only: asked.append(only) or {})
    assert not kills.since(time.monotonic()) and not kills.since(time.monotonic()) and len(asked) == 1


def test_a_node_that_can_not_be_asked_ends_no_run(monkeypatch):
    def fails(*asked, only):
        raise exceptions.RayTaskError("kills_here", "no module annotate", ImportError("annotate"))

    monkeypatch.setattr(kernel_kills.nodes, "alive", lambda resource: {"b": ""})
    monkeypatch.setattr(kernel_kills.nodes, "on_each_node", fails)
    assert not KernelKills().since(time.monotonic())
