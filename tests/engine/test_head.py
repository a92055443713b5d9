"""The head of the cluster is lost during a run: a message of ours, an exit code of its own, and the run can go on."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import shard_bytes, write_corpus

from annotate.engine import head
from annotate.errors import HeadLostError


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(head, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(head, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(head, "STUCK_SECONDS", 0.2)
    monkeypatch.setattr(head.nodes, "address_here", lambda: "")
    yield
    head.at_loss(None)
    head._lost.clear()
    head._silent.clear()


class Context:
    def __init__(self, port):
        self.gcs_address = f"127.0.0.1:{port}"


def test_a_head_that_does_not_answer_is_lost_and_one_that_comes_back_in_time_is_not(short, monkeypatch):
    ended = []
    head.at_loss(ended.append)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    monkeypatch.setattr(head.ray, "get_runtime_context", lambda: Context(port))
    with head.watched(lambda: ended.append("given back")):
        time.sleep(0.3)
        server.close()
        time.sleep(0.15)
        server = socket.create_server(("127.0.0.1", port))
        time.sleep(0.5)
        head.check()
        server.close()
        until = time.monotonic() + 5
        while len(ended) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        with pytest.raises(HeadLostError, match="head of the Ray cluster has not answered"):
            head.check()
    given_back, error = ended
    assert (given_back, error.exit_code) == ("given back", 8)


def test_what_is_lost_here_is_lost_at_once(short, monkeypatch):
    """A worker is lost, and Ray's process on this node is gone: Ray would abort this process at the next call."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    gcs, here = (server.getsockname()[1] for server in servers)
    monkeypatch.setattr(head, "ASK_SECONDS", 60)  # the thread that watches is too late
    monkeypatch.setattr(head.ray, "get_runtime_context", lambda: Context(gcs))
    monkeypatch.setattr(head.nodes, "address_here", lambda: f"127.0.0.1:{here}")
    with head.watched(lambda: None):
        head.confirm()
        servers[1].close()
        head.check()
        with pytest.raises(HeadLostError, match=r"Ray's process on this node \(its raylet\) has ended"):
            head.confirm()
        with pytest.raises(HeadLostError, match="on this node"):
            head.check()
        assert head.is_silent(), "nothing more is asked of Ray"
    servers[0].close()


def test_when_a_worker_is_lost_the_head_is_waited_for(short, monkeypatch):
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    monkeypatch.setattr(head.ray, "get_runtime_context", lambda: Context(port))
    with head.watched(lambda: None):
        server.close()
        with pytest.raises(HeadLostError, match="head of the Ray cluster has not answered"):
            head.confirm()


def lose(folder, lost):
    """Run a pipeline on a cluster that is lost; returns the exit code and what was said."""
    write_corpus(folder / "corpus", shards=2, documents=40)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = folder / "all.txt"
    script = str(Path(__file__).with_name("lost_head.py"))
    with said.open("wb") as file:
        command = [sys.executable, script, str(folder / "corpus"), str(folder / "out"), lost]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=240, env=environment)
    return done.returncode, said.read_text()


@pytest.mark.slow  # a head is lost only after it was silent for a while
def test_the_command_ends_with_its_own_code_and_a_second_run_goes_on(ray_cluster, tmp_path):
    out = tmp_path / "out"
    code, text = lose(tmp_path, "head")
    assert code == 0 and "exit code 8" in text, text[-3000:]
    assert "error: the head of the Ray cluster has not answered for 20 s" in text
    assert "What is committed is kept" in text and "Traceback" not in text
    scored = {path: path.stat().st_mtime_ns for path in out.glob("annotations-*/units/*")}
    assert len(scored) >= 3 and not list((out / "leases").glob("*.json")), "the lease is given back"
    environment = {**os.environ, "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"]}
    command = [sys.executable, str(out.with_suffix(".py")), "--workdir", str(out)]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in scored} == scored and shard_bytes(out)


@pytest.mark.slow  # a cluster of two nodes
def test_a_cluster_that_is_taken_away_is_no_crash_of_a_unit(tmp_path):
    code, text = lose(tmp_path, "all")
    assert code == 0 and "exit code 8" in text, text[-3000:]
    assert "error: Ray's process on this node" in text or "error: the head of the Ray cluster" in text
    assert "lost its worker" not in text and "Traceback" not in text
    assert not list((tmp_path / "out" / "leases").glob("*.json"))
