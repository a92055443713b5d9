"""A lease on a work directory: it saves doing work twice, and is not what keeps the output right."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from annotate.errors import StorageError
from annotate.storage.store import Directory

LEASE = "lease.json"
SECONDS = 60.0


def holder(workdir: Directory) -> Mapping[str, Any] | None:
    """Who works in a directory: `run`, `host`, `pid` and `until` (seconds since 1970); None where nobody does."""
    lease = _read(workdir)
    return lease if lease is not None and _alive(lease) else None


@contextlib.contextmanager
def hold(workdir: Directory, run: str, *, share: bool) -> Iterator[None]:
    """Hold the lease for the length of a run, renewing it from a thread.

    Args:
        workdir: the work directory.
        run: name of the run.
        share: go on although another run holds it; its work may be done twice, the output is the same.

    Raises:
        StorageError: another run holds it.
    """
    other = holder(workdir)
    if other is not None and not share:
        raise StorageError(
            f"another run works in {workdir.url}: {other['run']} (process {other['pid']} on {other['host']})",
            hint="Wait for it, or stop it; if it is gone, the lease ends a minute after its last sign of life. "
            "With --share both go on: the output is right, some work is done twice.",
        )
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(workdir, run, stop), daemon=True)
    _write(workdir, run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if (held := _read(workdir)) is not None and held["run"] == run:
            workdir.delete([LEASE])


def _renew(workdir: Directory, run: str, stop: threading.Event) -> None:
    while not stop.wait(SECONDS / 4):
        with contextlib.suppress(StorageError):  # a missed renewal costs nothing but double work
            _write(workdir, run)


def _write(workdir: Directory, run: str) -> None:
    lease = {"run": run, "host": socket.gethostname(), "pid": os.getpid(), "until": time.time() + SECONDS}
    workdir.put(LEASE, json.dumps(lease).encode())


def _read(workdir: Directory) -> dict[str, Any] | None:
    try:
        lease: dict[str, Any] = json.loads(workdir.get(LEASE))
    except (FileNotFoundError, ValueError):
        return None
    return lease if {"run", "host", "pid", "until"} <= lease.keys() else None


def _alive(lease: dict[str, Any]) -> bool:
    if lease["until"] < time.time():
        return False
    if lease["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(lease["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
