"""How a command ends by a signal, at any moment; how Ray is started where that is slow; what is left behind."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support import write_corpus

from annotate.cli import interrupts
from annotate.cli.app import COMMANDS

FILE = """
import time
import numpy as np
from annotate import Corpus, Pipeline, PythonScorer, Split, score


class Slow:
    def __call__(self, table):
        time.sleep(1.0)
        return np.zeros(table.num_rows, np.float32)


documents = Corpus("corpus", unit_bytes=500)
pipeline = Pipeline(*score(Split(documents), scorers=[PythonScorer(function=Slow, axes=("zero",))]))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a pipeline that takes long; Ray keeps its sessions in a folder of this test."""
    sessions = tmp_path.parent / "r"  # short: sockets lie in it
    write_corpus(tmp_path / "corpus", shards=1, documents=30)
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(sessions) if len(str(sessions)) < 40 else f"/tmp/a{os.getpid()}")
    return tmp_path


@pytest.fixture
def start(here):
    """`start(arguments)`: a process in a group of its own, as a shell makes one; its output goes to the file `log`."""
    processes = []

    def begin(*arguments):
        with (here / "log").open("w") as log:
            process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, start_new_session=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        for left in of_session(process):
            left.kill()


def of_session(process):
    """The processes that were started below one, also those whose parents are gone."""
    found = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other)
        except (ProcessLookupError, psutil.Error):
            pass
    return found


def command_of(process):
    """Its command; empty if it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for(condition, process):
    deadline = time.monotonic() + 240
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def output(here):
    return (here / "log").read_text()


ENDS = {signal.SIGINT: (130, "interrupted."), signal.SIGTERM: (143, "ended by SIGTERM.")}
WAITS = """
import sys, time
from annotate.cli import _interruptible

def run(arguments):
    print("running", flush=True)
    try:
        time.sleep(600)
    finally:
        print("cleaning", flush=True)
        if "hang" in arguments:
            time.sleep(600)

code = _interruptible(run)
sys.stdout.flush()
sys.exit(code)
"""


@pytest.mark.parametrize("number", list(ENDS))
def test_a_signal_ends_a_command_with_a_line_and_a_code(here, start, number):
    process = start("-c", WAITS)
    wait_for(lambda: "running" in output(here), process)
    process.send_signal(number)
    code, line = ENDS[number]
    assert process.wait(60) == code
    assert output(here).splitlines() == [
        *("running", "cleaning", ""),
        f"{line} What is committed is kept: run the same command again to go on.",
    ]


LATE = """
import time
from annotate.cli import interrupts

hush = interrupts._Listener._hush
interrupts._Listener._hush = lambda self: (time.sleep(0.5), hush(self))
tell = interrupts._message
interrupts._message = lambda *given: (time.sleep(1.0), tell(*given))[1]
"""


def test_what_is_left_is_said_of_each_command_as_it_is(here, start):
    """Only runs commit; a second signal, which ends the command at once, says the same."""
    assert interrupts._LEFT.keys() | {"run", "duplicates"} == COMMANDS.keys()
    for command, left in {
        "run": "What is committed is kept: run the same command again to go on.",
        "prove": "What was trained is kept as it was last saved: run the same command again to go on.",
        "probe": "It writes nothing before its end: the same command begins anew.",
        "show": "",
    }.items():
        for words in ([command], [command, "hang"]):
            process = start("-c", WAITS, *words)
            wait_for(lambda: "running" in output(here), process)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: "cleaning" in output(here), process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
            assert output(here).splitlines()[-1] == f"ended by SIGTERM. {left}".rstrip()


def test_a_thread_that_hears_late_does_not_take_the_last_words(here, start):
    process = start("-c", LATE + WAITS)
    wait_for(lambda: "running" in output(here), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert "ended by SIGTERM. What is committed is kept" in output(here)


def test_a_second_one_ends_it_at_once(here, start):
    process = start("-c", WAITS, "hang", "--rescore")
    wait_for(lambda: "running" in output(here), process)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "cleaning" in output(here), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 143
    assert "ended by SIGTERM. What is committed is kept" in output(here) and "leave --rescore out" in output(here)


def test_a_signal_that_is_ignored_stays_so(here, start):
    process = start("-c", "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITS)
    wait_for(lambda: "running" in output(here), process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


SLOW = """
import contextlib, sys, time, types
import ray
from annotate import pipeline
from annotate.cli import local_ray, progress, summary_view
from annotate.cli.app import app, guarded

failures = int(sys.argv[1])
local_ray.BUSY_SECONDS = 0.1

def init(**options):
    global failures
    time.sleep(0.5)
    if failures:
        failures -= 1
        raise Exception("The current node timed out during startup. This could happen because ...")

ray.init = init
progress.observer = lambda console: contextlib.nullcontext()
pipeline.make = lambda *arguments: print("runs")
summary_view.print_summary = lambda *arguments: None
sys.exit(guarded(app, ["run", "mine.py", "--workdir", "out"]))
"""


@pytest.mark.parametrize(("failures", "code"), [(1, 0), (2, 5)])
def test_ray_that_starts_slowly_is_tried_once_more(here, start, failures, code):
    process = start("-c", SLOW, str(failures))
    assert process.wait(120) == code, output(here)
    text = output(here)
    assert "Traceback" not in text and text.count("this machine is busy") == 2
    assert "Ray did not start (Exception: The current node timed out" in text and "trying once more" in text
    assert ("runs" in text) == (code == 0)
    if code:
        assert "in 2 attempts; at last Exception: The current node" in text and "hint: Run the same command" in text


RAYLET = "/lib/ray/core/src/ray/raylet/raylet"


def test_only_a_ray_without_servers_whose_starter_is_dead_counts_as_left(here, tmp_path):
    from annotate.cli import local_ray

    (tmp_path / "raylet").symlink_to("/bin/sh")
    dead = subprocess.Popen(["true"])
    dead.wait()
    other = subprocess.Popen(["true"])
    other.wait()
    folder = f"{local_ray._folder()}/session_2026-01-01_00-00-00_000000_"
    wait = ["-c", "sleep 600 & wait", "sh"]
    processes = [
        subprocess.Popen([title, *wait, f"--log_dir={folder}{driver}/logs"], executable=program, start_new_session=True)
        for title, program, driver in (
            *(("ray::Agent", "/bin/sh", dead.pid), ("ray::Agent", "/bin/sh", os.getppid())),
            *(
                ("ray::Agent", "/bin/sh", other.pid),
                (RAYLET, tmp_path / "raylet", other.pid),
            ),  # the last is of `ray start`
            ("less", "/bin/sh", dead.pid),  # somebody reads a log of a Ray
        )
    ]
    try:
        assert [process.pid for process in local_ray._left_by_others()] == [processes[0].pid]
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


STARTS = """
import time
from ray._private import worker
from annotate.cli import entry

worker._post_init_hooks.append(lambda: (print("Ray has nearly started", flush=True), time.sleep(600)))
entry()
"""


def test_what_a_killed_run_left_is_ended_and_a_signal_leaves_nothing(here, start):
    """With real Rays: a driver is killed while it scores; the next two get SIGTERM, one while its Ray starts."""
    arguments = ("-m", "annotate", "run", "mine.py", "--workdir", "out", "--workers", "1")

    def scores():
        return list(here.glob("out/annotations-*/units/*"))

    killed = start(*arguments)
    wait_for(scores, killed)
    killed.kill()
    killed.wait()
    assert any("DashboardAgent" in command_of(left) for left in of_session(killed))

    leases = set(here.glob("out/leases/*"))  # of the killed run: nobody could remove it

    # As a terminal has it, the signal goes to the group.
    starting = start("-c", STARTS, *arguments[2:])
    wait_for(lambda: "Ray has nearly started" in output(here), starting)
    assert re.search(r"ending (1 process|\d+ processes) of Ray that a killed run left: ", output(here))
    assert of_session(killed) == []
    os.killpg(starting.pid, signal.SIGTERM)
    assert starting.wait(120) == 143, output(here)
    assert of_session(starting) == []
    assert "***" not in output(here), "Ray's own handler printed a stack"

    before = len(scores())
    running = start(*arguments)
    wait_for(lambda: len(scores()) > before, running)
    os.killpg(running.pid, signal.SIGTERM)
    assert running.wait(120) == 143, output(here)
    assert of_session(running) == []
    text = output(here)
    assert text.endswith("\nended by SIGTERM. What is committed is kept: run the same command again to go on.\n")
    assert "***" not in text and "Traceback" not in text and "raylet" not in text
    assert set(here.glob("out/leases/*")) <= leases
