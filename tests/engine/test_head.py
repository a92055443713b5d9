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


@pytest.mark.slow  # a head is lost only after it was silent for a while
def test_the_command_ends_with_its_own_code_and_a_second_run_goes_on(ray_cluster, tmp_path):
    write_corpus(tmp_path / "corpus", shards=2, documents=40)
    out = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = tmp_path / "all.txt"
    with said.open("wb") as file:
        command = [sys.executable, str(Path(__file__).with_name("lost_head.py")), str(tmp_path / "corpus"), str(out)]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=240, env=environment)
    text = said.read_text()
    assert done.returncode == 0 and "exit code 8" in text, text[-3000:]
    assert "error: the head of the Ray cluster has not answered for 20 s" in text
    assert "What is committed is kept" in text and "Traceback" not in text
    scored = {path: path.stat().st_mtime_ns for path in out.glob("annotations-*/units/*")}
    assert len(scored) >= 3 and not list((out / "leases").glob("*.json")), "the lease is given back"
    environment = {**os.environ, "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"]}
    command = [sys.executable, str(out.with_suffix(".py")), "--workdir", str(out)]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in scored} == scored and shard_bytes(out)
