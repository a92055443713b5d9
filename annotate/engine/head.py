"""Watches the head of the Ray cluster, and Ray's process on this node: without them nothing comes back.

Without the head, Ray aborts this process after a minute; without its process on this node, at the next call that needs
it. So a run has to end before, with a message, and with its lease given back. Its main thread may stand still in a call
of Ray at that time. Then the function that `at_loss` set ends the process: the command line sets one, a library must
not.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ray

from annotate.engine import nodes
from annotate.errors import HeadLostError

SILENT_SECONDS = 20.0
"""A head that does not answer for so long is lost. A restart of a fault-tolerant head takes less."""
STUCK_SECONDS = 15.0
"""So long after that, the function that `at_loss` set is called if the run has not ended."""
ASK_SECONDS = 2.0

_silent = threading.Event()
_lost = threading.Event()
_end: Callable[[HeadLostError], None] | None = None


@dataclass
class _Watched:
    """The addresses of the head, and of Ray's process on this node; and whether the latter has ended."""

    head: str
    here: str
    ended_here: bool = False


_watched = _Watched("", "")


def at_loss(end: Callable[[HeadLostError], None]) -> None:
    """Set the function that ends the process, with a message, if the main thread stands still."""
    global _end
    _end = end


def is_lost() -> bool:
    """Whether the head is lost, or Ray's process on this node: then no function of Ray may be called any more."""
    return _lost.is_set()


def is_silent() -> bool:
    """Whether the head did not answer the last time, or is lost: a function of Ray that asks it would stand still."""
    return _silent.is_set() or is_lost()


def check() -> None:
    """Raise an error if the head is lost, or Ray's process on this node.

    Raises:
        HeadLostError: it is.
    """
    if is_lost():
        raise _error()


def confirm() -> None:
    """Return as soon as the head answers: when a worker is lost, it may be that the whole cluster goes.

    Raises:
        HeadLostError: the head is lost, or Ray's process on this node.
    """
    while True:
        if _ended(_watched.here):
            _watched.ended_here = True
            _lost.set()
        check()
        if _answers(_watched.head):
            _silent.clear()
            return
        _silent.set()
        time.sleep(ASK_SECONDS)


@contextlib.contextmanager
def watched(give_back: Callable[[], None]) -> Iterator[None]:
    """Watch the head, and Ray's process on this node, inside the block.

    Args:
        give_back: gives back what the run holds outside of Ray; it is called if the main thread stands still.
    """
    global _watched
    _watched = _Watched(str(ray.get_runtime_context().gcs_address), nodes.address_here())
    done = threading.Event()
    _lost.clear()
    _silent.clear()
    thread = threading.Thread(target=_watch, args=(_watched, done, give_back), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        _watched = _Watched("", "")


def reach(address: str, seconds: float) -> None:
    """Open a connection to an address, HOST:PORT, and close it; another form of address is not tried.

    Raises:
        OSError: nothing answers within so many seconds.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _watch(watched: _Watched, done: threading.Event, give_back: Callable[[], None]) -> None:
    since: float | None = None  # the first of the questions in a row that had no answer
    while not done.wait(ASK_SECONDS):
        asked = time.monotonic()
        if _ended(watched.here):
            watched.ended_here = True
            break
        if _answers(watched.head):
            _silent.clear()
            since = None
            continue
        _silent.set()
        since = asked if since is None else since
        if time.monotonic() - since > SILENT_SECONDS:
            break
    if done.is_set():
        return
    _lost.set()
    if not done.wait(STUCK_SECONDS) and _end is not None:
        with contextlib.suppress(Exception):
            give_back()
        _end(_error())


def _answers(address: str) -> bool:
    try:
        reach(address, ASK_SECONDS)
    except OSError:
        return False
    return True


def _ended(address: str) -> bool:
    """Whether nothing listens at an address on this node any more; Ray starts no process there a second time."""
    try:
        reach(address, ASK_SECONDS)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _error() -> HeadLostError:
    what = f"the head of the Ray cluster has not answered for {SILENT_SECONDS:g} s: it is lost"
    if _watched.ended_here:
        what = "Ray's process on this node (its raylet) has ended: the cluster can't be reached"
    return HeadLostError(
        f"{what}, and this run with it",
        hint="What is committed is kept. Start the cluster again, and run the same command again: it goes on.",
    )
