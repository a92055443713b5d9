"""File locks of this machine's kernel: they show for certain whether the process that holds one is alive.

The kernel releases a lock when its process ends, however it ends, and not before; a suspended process keeps its lock.
Containers of one machine that share a folder share the locks too. All this holds for one kernel and one file only:
network file systems may keep separate locks for each machine. So a lock is identified by both kernel and file, and
tells other machines nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine; changes at each start


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Mapping[str, Any] | None]:
    """Hold a lock on a new file, and remove the file at the end. Gives the lock's identity, or None without locks."""
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
    """Whether a process holds the lock with the identity `known_by`; None if that can't be told from here."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if known_by is None or known_by != _known_by(file):
            return None
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look at once don't see each other
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
