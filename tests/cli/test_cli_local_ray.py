"""The Ray that a command starts: no dashboard, no job server, and nobody joins without the token."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from annotate.cli import local_ray
from annotate.errors import ConfigError

STARTED = """
import json, os, subprocess, sys, time
import ray
from rich.console import Console
from annotate.cli.local_ray import ray_running

JOIN = "import ray; ray.init(address={!r}, logging_level='ERROR', log_to_driver=False); print('joined')"


def joins(mode, seconds):
    command = [sys.executable, "-c", JOIN.format(info["address"])]
    environment = {**os.environ, "RAY_AUTH_MODE": mode}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:  # Ray asks again and again
        return False
    return "joined" in done.stdout


with ray_running(None, Console(stderr=True)):
    info = ray._private.worker.global_worker.node.address_info
    since = time.monotonic()
    with_token = joins("token", 120)
    without = joins("disabled", 10 + 3 * (time.monotonic() - since))
    print(json.dumps({"dashboard": info["webui_url"], "with_token": with_token, "without": without}))
"""


@pytest.mark.slow  # starts a Ray
def test_it_has_no_job_server_and_refuses_who_has_no_token():
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    done = subprocess.run([sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told.pop("dashboard") and told == {"with_token": True, "without": False}


def test_a_busy_cluster_is_asked_again_and_a_wrong_address_is_an_error(monkeypatch):
    now, answers = 0.0, [ConnectionError("busy"), ConnectionError("busy"), None]

    def init(**options):
        nonlocal now
        now += 5
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(local_ray.ray, "init", init)
    monkeypatch.setattr(local_ray, "time", SimpleNamespace(monotonic=lambda: now, sleep=lambda seconds: None))
    said = Console(file=io.StringIO())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        local_ray._connect(address, said)
        assert answers == [] and said.file.getvalue().count("trying again") == 1
        for error, tries in ((ConnectionError("nobody there"), 6), (ValueError("no address"), 1)):
            answers[:] = [error] * 99
            with pytest.raises(ConfigError, match=str(error)):
                local_ray._connect(address, said)
            assert 99 - len(answers) == tries
        answers[:] = [ConnectionError("busy"), None]
        monkeypatch.setattr(local_ray, "CONNECT_SECONDS", 0)  # one attempt of Ray's may take longer
        local_ray._connect(address, said)
        assert not answers


def test_where_nothing_listens_ray_is_not_asked(monkeypatch):
    monkeypatch.setattr(local_ray, "CONNECT_SECONDS", 0)
    monkeypatch.setattr(local_ray, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None))
    monkeypatch.setattr(local_ray.ray, "init", lambda **options: pytest.fail("Ray would try for many minutes"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConfigError, match="refused"):
        local_ray._connect(address, Console(file=io.StringIO()))
