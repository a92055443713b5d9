"""Notes of calls that took longer than their stage allows. The process that ends for it leaves one for the driver.

Ray does not tell why a process ended. So the process puts a note into the key-value store of the cluster's head, and
then ends itself. If its code never lets go of Python's lock, as a regular expression of `re` does, it can leave none.
It is ended from C some seconds later, and looks like a process that crashed. The stacks of its threads are in its log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import threading
from collections.abc import Iterator

import ray

from annotate.engine import head

GRACE_SECONDS = 5.0
"""A process that could not end itself is ended from C so much later."""

TOO_LONG = "it took longer than unit_seconds allows"
"""The line in the log of a process that ended itself for it."""

_NAMESPACE = b"annotate"
_call = ("", "")


def working_on(stage: str, units: str) -> None:
    """Say, in a worker, what this process works on from now on."""
    global _call
    _call = stage, units


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer: even C code that never returns to Python ends so.

    The stacks of its threads go to the worker's log. With None there is no limit.
    """
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, functools.partial(_end, *_call))
    timer.daemon = True
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def _end(stage: str, units: str) -> None:
    faulthandler.dump_traceback(all_threads=True)
    os.write(2, f"{TOO_LONG}\n".encode())
    with contextlib.suppress(Exception):  # this thread has nobody to tell
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(_key(stage, units), b"", namespace=_NAMESPACE)
    os._exit(1)


def was_noted(stage: str, units: str) -> bool:
    """Whether a call of this program has left a note, which is removed. False where Ray can't tell."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists

        if ray.is_initialized() and not head.is_silent():
            key = _key(stage, units)
            noted: bool = _internal_kv_exists(key, namespace=_NAMESPACE)
            if noted:
                _internal_kv_del(key, namespace=_NAMESPACE)
            return noted
    return False


def _key(stage: str, units: str) -> bytes:
    return f"overdue/{ray.get_runtime_context().get_job_id()}/{stage}/{units}".encode()
