"""Leases on a work directory, one a run: they save doing work twice, and are not what keeps the output right."""

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

FOLDER = "leases"
SECONDS = 60.0


def holder(workdir: Directory) -> Mapping[str, Any] | None:
    """Who works in a directory: `run`, `host`, `pid`, `what` and `until` (seconds since 1970); None if nobody does."""
    return next(iter(_others(workdir, "")), None)


@contextlib.contextmanager
def hold(workdir: Directory, run: str, *, share: bool, what: str = "run") -> Iterator[None]:
    """Hold a lease for the length of a run, renewing it from a thread.

    Args:
        workdir: the work directory.
        run: name of the run.
        share: go on although another run holds a lease; work may be done twice, the output is the same.
        what: "run"; or "clean" or "rescore", which remove things and share with nobody.

    Raises:
        StorageError: another goes on.
    """
    _write(workdir, run, what)
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(workdir, run, what, stop), daemon=True)
    try:
        # Looked for after ours is there, so that of two that start at once at least one sees the other.
        for other in _others(workdir, run):
            sharing = other["what"] == what == "run"
            if not (share and sharing):
                raise StorageError(
                    f"another {other['what']} works in {workdir.url}: {other['run']} "
                    f"(process {other['pid']} on {other['host']})",
                    hint="Wait for it, or stop it; if it is gone, its lease ends a minute after its last sign of life."
                    + (" With --share two runs go on: the output is right, some work is done twice." * sharing),
                )
        thread.start()
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
        workdir.delete([_path(run)])


def _renew(workdir: Directory, run: str, what: str, stop: threading.Event) -> None:
    while not stop.wait(SECONDS / 4):
        with contextlib.suppress(StorageError):  # a missed renewal costs nothing but double work
            _write(workdir, run, what)


def _path(run: str) -> str:
    return f"{FOLDER}/{run}.json"


def _write(workdir: Directory, run: str, what: str) -> None:
    lease = {
        "run": run,
        "what": what,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "until": time.time() + SECONDS,
    }
    workdir.put(_path(run), json.dumps(lease).encode())


def _others(workdir: Directory, run: str) -> Iterator[Mapping[str, Any]]:
    """Leases of others that are alive."""
    for path, _ in sorted(workdir.sizes(f"{FOLDER}/")):
        try:
            lease = json.loads(workdir.get(path))
        except (FileNotFoundError, ValueError):
            continue
        if {"run", "what", "host", "pid", "until"} <= lease.keys() and lease["run"] != run and _alive(lease):
            yield lease


def _alive(lease: Mapping[str, Any]) -> bool:
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
