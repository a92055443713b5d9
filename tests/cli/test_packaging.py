"""What a user without a clone has, from a built wheel in an empty directory; and the command as a Ray job."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import psutil
import pytest
from support import shard_bytes, write_corpus

REPOSITORY = Path(__file__).parents[2]


def run(*command, folder, **environment):
    """Run a command with this project nowhere on its path but where the environment says."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked into a folder of its own, as pip installs it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY, folder=folder)
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_carries_what_the_package_reads(installed):
    for path in ("schemas/spans.json", "pipelines/conditional_pretraining.py", "probes/heads/niceness.safetensors"):
        assert (installed / "annotate" / path).is_file()
    assert not list(installed.glob("tests*"))
    shown = run(sys.executable, "-m", "annotate", "--version", folder=installed.parent, PYTHONPATH=str(installed))
    assert shown.endswith("version 0.1.0\n")
    assert [path.name for path in installed.glob("*.dist-info")] == ["annotate_corpora-0.1.0.dist-info"]


def test_a_new_pipeline_runs_from_the_wheel_in_an_empty_directory(installed, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_corpus(tmp_path / "corpus", shards=1, documents=12)
    path = str(installed)
    run(sys.executable, "-m", "annotate", "new", "mine", folder=empty, PYTHONPATH=path)
    where = run(sys.executable, "-c", "import annotate; print(annotate.__file__)", folder=empty, PYTHONPATH=path)
    assert str(installed) in where
    settings = ["--workdir", "out", "--workers", "1", "--set", f"corpus={tmp_path / 'corpus'}"]
    output = run(sys.executable, "-m", "annotate", "run", "mine.py", *settings, folder=empty, PYTHONPATH=path)
    assert "<authoritative_tone>" in output
    assert len(shard_bytes(empty / "out")) == 1


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def head(tmp_path):
    """A Ray head node with its job server, on loopback; gives the server's address."""
    dashboard = free_port()
    ports = {"--port": free_port(), "--dashboard-port": dashboard, "--ray-client-server-port": free_port()}
    ports |= {"--dashboard-agent-listen-port": free_port(), "--min-worker-port": 0, "--max-worker-port": 0}
    options = [f"{name}={port}" for name, port in ports.items()]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    place = Path("/tmp") / f"annotate-head-{dashboard}"  # socket paths must be short
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", *options]
    command += ["--node-ip-address=127.0.0.1", "--disable-usage-stats", f"--temp-dir={place}"]
    process = subprocess.Popen(
        list(map(str, command)),
        env={**kept, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, "ray start ended"
            time.sleep(0.5)
    yield address
    for left in [*psutil.Process(process.pid).children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
            left.kill()  # Ray itself takes half a minute to end
    process.wait(timeout=60)
    shutil.rmtree(place, ignore_errors=True)


def test_ray_job_submit_runs_the_command_from_a_working_directory(head, tmp_path):
    folder = tmp_path / "clone"
    for name in ("annotate", "schemas", "pipelines"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_corpus(tmp_path / "corpus", shards=1, documents=12)
    ray = Path(sys.executable).with_name("ray")
    entry = [sys.executable, "-m", "annotate", "run", "pipelines/conditional_pretraining.py"]
    entry += ["--workdir", tmp_path / "out", "--workers", "1", "--set", f"corpus={tmp_path / 'corpus'}"]
    command = [ray, "job", "submit", "--address", head, "--working-dir", ".", "--", *entry]
    output = run(*command, folder=folder, RAY_AUTH_MODE="disabled")
    assert "succeeded" in output and "<authoritative_tone>" in output
    assert len(shard_bytes(tmp_path / "out")) == 1
