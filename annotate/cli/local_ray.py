"""Runs Ray for the length of a command: connects to a cluster, or starts Ray on this machine and ends all of it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from rich.console import Console

from annotate.amounts import counted
from annotate.cli import interrupts
from annotate.cli.terminal import say
from annotate.engine import head
from annotate.errors import ConfigError, HeadLostError, WorkError

if TYPE_CHECKING:
    from psutil import Process

ATTEMPTS = 2
BUSY_SECONDS = 20.0
CONNECT_SECONDS = 30.0
"""A cluster that is busy or has just been started may not answer at once."""
REACH_SECONDS = 10.0
"""How long a machine may take to answer that something listens there, or that nothing does."""
# A program of Ray's package, or its title; an editor or a pager that shows a log of Ray must not match.
_PROGRAM = re.compile(r"^ray(::|-)|/ray/(_private|autoscaler|core|dashboard)/")
_DEATHS = re.compile("worker died or was killed|killed due to memory pressure|Workers? .*were killed", re.IGNORECASE)
_SESSION = re.compile(r"([^\s=]*)/(session_[\d_-]+_(\d+))(?:[/\s]|$)")

# Ray's defaults suit an idle machine. (For the node itself it always waits 30 seconds.)
_PATIENT = {
    "RAY_NUM_REDIS_GET_RETRIES": "60",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_raylet_client_num_connect_attempts": "60",
    "RAY_worker_register_timeout_seconds": "180",
}
# With as many models as CPUs, Ray ends any other worker that has nothing to do for a second: each call that prepares
# units would begin with seconds of imports.
_KEPT_WORKERS = {"RAY_idle_worker_killing_time_threshold_ms": "60000"}


@contextmanager
def ray_running(address: str | None, console: Console) -> Iterator[None]:
    """Connect to a cluster, or run a local Ray inside the `with` block.

    Args:
        address: of the cluster, as RAY_ADDRESS has it; None for a local Ray.
        console: takes what is said meanwhile.

    Raises:
        ConfigError: nothing answers at the address.
        WorkError: a local Ray did not start, twice.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    head.at_loss(_end_stuck)
    try:
        with _sigterm_told():
            if address:
                _connect(address, console)
            else:
                _start(console)
        yield
    finally:
        try:
            if not head.is_lost():
                with interrupts.armed():
                    ray.shutdown()
        finally:
            if not address:
                _end_ours()
                interrupts.at_once(lambda: None)


def _end_stuck(error: HeadLostError) -> None:
    """End this process with a message, while its main thread stands still in a call of Ray."""
    sys.stderr.write(f"\nerror: {error.message}\nhint: {error.hint}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


@contextmanager
def _sigterm_told() -> Iterator[None]:
    """Turn SystemExit into KeyboardInterrupt: while Ray starts, its own handler of SIGTERM raises it.

    Another one of Ray's, in C++, would print a stack first. It is left out of this process: a crash still shows its
    Python stack. Workers have it.
    """
    with contextlib.suppress(ImportError):
        from ray._private import ray_constants

        ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        interrupts.arm()


def _connect(address: str, console: Console) -> None:
    console.print(f"connecting to the Ray cluster at {address}", style="dim", markup=False)
    since = time.monotonic()
    for attempt in itertools.count(1):
        try:
            head.reach(address, REACH_SECONDS)  # if nothing listens there, Ray tries for many minutes
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
            _quiet()
            return
        except Exception as error:
            # One attempt of Ray's may take a minute.
            if isinstance(error, OSError) and (time.monotonic() - since < CONNECT_SECONDS or attempt < ATTEMPTS):
                if attempt == 1:
                    said = f"the cluster does not answer yet; trying again for {CONNECT_SECONDS:.0f} s"
                    console.print(said, style="dim")
                time.sleep(2)
                continue
            reason = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
            raise ConfigError(
                f"can't connect to the Ray cluster at {address}, in {counted(attempt, 'attempt')}: {reason}",
                hint="Check RAY_ADDRESS, or unset it to run on this machine.",
            ) from error


def _quiet() -> None:
    """Keep Ray from printing its own lines on workers that died: a run says what that means, and what it does.

    The event log has each death. Other lines that Ray prints, such as those of an autoscaler, stay.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import worker

        printed = worker.print_to_stdstream

        def print_others(data: dict[str, Any], *args: Any, **options: Any) -> None:
            if not any(_DEATHS.search(line) for line in data.get("lines", ())):
                printed(data, *args, **options)

        worker.print_to_stdstream = print_others


def _start(console: Console) -> None:
    # glibc's default is 8 arenas for each core, and each keeps the memory that its threads have freed.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # a worker has one CPU
    for name, value in (_PATIENT | _KEPT_WORKERS).items():
        os.environ.setdefault(name, value)
    interrupts.at_once(_end_ours)
    if left := _left_by_others():
        numbers = ", ".join(str(process.pid) for process in left)
        say(console, f"ending {counted(len(left), 'process')} of Ray that a killed run left: {numbers}", "dim")
        _end(left)
    say(console, "starting Ray on this machine", "dim")
    for attempt in range(1, ATTEMPTS + 1):
        busy = threading.Timer(BUSY_SECONDS, say, [console, "Ray is still starting: this machine is busy", "dim"])
        busy.daemon = True
        busy.start()
        try:
            with _groups_of_their_own():
                ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
            _quiet()
            return
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            with contextlib.suppress(Exception):
                ray.shutdown()
            _end_ours()
            if attempt == ATTEMPTS:
                raise WorkError(
                    f"Ray did not start on this machine in {ATTEMPTS} attempts; at last {reason}",
                    hint="Run the same command again when the machine is less busy: what is committed is kept. Or "
                    "start Ray with `ray start --head`, and set RAY_ADDRESS=auto. Its logs lie in "
                    f"{_folder() / 'session_latest' / 'logs'}.",
                ) from error
            say(console, f"Ray did not start ({reason}); trying once more", "dim")
        finally:
            busy.cancel()


_apart = False


@contextmanager
def _groups_of_their_own() -> Iterator[None]:
    """Put processes that are forked here into groups of their own, so that signals to our group do not reach them.

    The first Ctrl-C or SIGTERM is for this process alone, which then ends Ray in order: if the raylet died first, Ray's
    C++ would end the driver. On Linux the kernel ends these processes with ours; elsewhere no groups are made, because
    only a signal to the group would end them.
    """
    global _apart
    _apart = sys.platform.startswith("linux")
    try:
        yield
    finally:
        _apart = False


def _leave_group() -> None:
    if _apart:
        os.setpgid(0, 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_group)


def _folder() -> Path:
    """The folder of the sessions of local Rays. The folder of a session is named by the process that started it."""
    system = "TMPDIR" if sys.platform.startswith("linux") else ""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get(system) or "/tmp").resolve() / "ray"


def _sessions() -> dict[int, list[Process]]:
    """The user's processes of local Rays, by the number of the process that started the Ray."""
    import psutil  # Ray brings it

    found = defaultdict(list)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid() and process.status() != psutil.STATUS_ZOMBIE:
                words = process.cmdline()
                is_ray = _PROGRAM.search(" ".join(words[:3])) is not None  # `python -u PROGRAM`
                if is_ray and (driver := _driver(process, " ".join(words))) is not None:
                    found[driver].append(process)
    return found


def _driver(process: Process, command: str) -> int | None:
    """The number of the process that started a Ray process. The session is in its command, or in paths of open logs."""
    for places in (lambda: [command], lambda: [file.path for file in process.open_files()]):
        for place in places():
            found = _SESSION.search(place)
            if found and Path(found[1]).resolve() == _folder():
                return int(found[3])
    return None


def _left_by_others() -> list[Process]:
    """The processes of Rays whose starter is dead, and which have neither raylet nor GCS server any more.

    A Ray that `ray start` began also outlives its starter, but has these servers, and is left alone.
    """
    import psutil

    return [
        process
        for driver, processes in _sessions().items()
        if driver == os.getpid() or not psutil.pid_exists(driver)
        if not any(process.name() in ("raylet", "gcs_server") for process in processes)
        for process in processes
    ]


def _end_ours() -> None:
    """End the processes that are left of a Ray which this process started."""
    import psutil

    since = psutil.Process().create_time()  # a process that had our number before may have started an older Ray
    until = time.monotonic() + 10
    while time.monotonic() < until:
        ours = [process for process in _sessions().get(os.getpid(), []) if process.create_time() >= since]
        if not _end(ours):
            return


def _end(processes: list[Process]) -> int:
    """Kill processes and wait until they are gone. Returns their number."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
    return len(processes)
