"""File locks of this machine's kernel: a sure sign of whether the process that holds one is alive.

The kernel lets a lock go when its process ends, however it ends, and not before; a process that stands still keeps it.
Containers on one machine that share a folder share the locks too. All this holds for one kernel and one file only, so
a lock is known by both, and says nothing to others: file systems of networks may keep locks for each machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine, another after each start


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Mapping[str, Any] | None]:
    """Hold a new file locked, and remove it at the end; gives what it is known by, None where there are no locks."""
    with contextlib.ExitStack() as stack:
        known_by = None
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, file)
            stack.callback(path.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            known_by = _known_by(file)
        yield known_by


def is_held(path: Path, known_by: Any) -> bool | None:
    """Whether a process holds the lock on a file that is known by this; None if that can't be told from here."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if known_by is None or known_by != _known_by(file):
            return None
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look at once don't see each other
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)


def _known_by(file: int) -> Mapping[str, Any] | None:
    kernel = _kernel()
    found = os.fstat(file)
    return {"kernel": kernel, "device": found.st_dev, "inode": found.st_ino} if kernel else None


def _kernel() -> str | None:
    try:
        return _BOOT.read_text().strip() or None
    except OSError:
        return None
