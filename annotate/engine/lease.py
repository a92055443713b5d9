"""Leases on a work directory: who works in it, told without clocks, names of hosts or numbers of processes.

A lease is an object that its holder writes again and again, with the next number each time. Another takes the holder
for gone in two cases only: this machine's kernel says that its process has ended (a file lock), or the lease was
watched for longer than its length, by the watcher's own clock, and stayed as it was. Who only watched leaves a word for
the holder before looking a last time, and the holder looks for it each time after it has written: so one of the two
sees the other, and a holder that had only stood still stops when it goes on.

Two runs at once give right output, by how units are committed; a lease saves them doing the work twice. What removes
things (`annotate clean`, `--rescore`) shares with nobody, and confirms its lease before each batch that it removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotate.engine import locks
from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.store import Directory

SECONDS = 60.0
RENEWALS = 12  # in the length of a lease
GLANCE = 10.0  # seconds that are spent to tell people whether a run goes on
MOST_SECONDS = 600.0  # that a lease can ask for: it is a file that anybody may have written

Say = Callable[[str, str], None]  # told a level, "info" or "warning", and a message


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: `what` is "run", "clean" or "rescore"; host and pid are for people."""

    run: str
    what: str
    host: str
    pid: str

    def __str__(self) -> str:
        return f"{self.run} (process {self.pid} on {self.host})"


@dataclass
class Lease:
    """A lease that this process holds and a thread renews.

    Attributes:
        workdir: the work directory.
        run: name of the run.
        what: "run", "clean" or "rescore".
        seconds: its length.
        say: is told what its owner should know, from the thread that calls `check` and `confirm`.
    """

    workdir: Directory
    run: str
    what: str
    seconds: float
    say: Say
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    lock: Any = None
    _number: int = 0
    _lost: str = ""
    _failure: str = ""
    _told: str = ""
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Tell of a renewal that failed, and stop where the lease is lost; asks the store nothing.

        Raises:
            StorageError: another has taken this run for gone, or the lease was removed.
        """
        if self._lost:
            raise StorageError(self._lost, hint="Run the same command again: what is committed is found.")
        failure = self._failure
        if failure and failure != self._told:
            self.say(
                "warning",
                f"the lease on {self.workdir.url} could not be renewed: {failure}; it is tried again. Another run may "
                f"take this one for gone after {self.seconds:g} s; then this one stops",
            )
        self._told = failure

    def confirm(self) -> None:
        """Renew the lease now: what it protects is safe for its length from here.

        Raises:
            StorageError: it can't be renewed, or is lost.
        """
        self._renew()
        self.check()

    def create(self) -> None:
        """Write it for the first time."""
        self._write()

    def keep(self, stop: threading.Event) -> None:
        """Renew until told to stop; for a thread."""
        while not stop.wait(self.seconds / RENEWALS) and not self._lost:
            with contextlib.suppress(StorageError):  # told of by `check`
                self._renew()

    def remove(self) -> None:
        """Remove it and, as nobody will write it again, the word of one who took this run for gone."""
        self.workdir.delete([layout.lease(self.token), layout.lease_gone(self.token)])

    def _renew(self) -> None:
        with self._mutex:
            try:
                found = _read(self.workdir, layout.lease(self.token))
                if found is None or found.token != self.token:
                    where = f"{self.workdir.url}/{layout.LEASES}"
                    self._lost = f"the lease of {self.run} was removed from {where} while it worked"
                else:
                    self._write()
                if self.workdir.size(layout.lease_gone(self.token)) is not None:
                    self._lost = (
                        f"{self.run} stood still for over {self.seconds:g} s, and another has taken it for gone and "
                        f"works in {self.workdir.url}"
                    )
            except StorageError as error:
                self._failure = error.message
                raise
            self._failure = ""

    def _write(self) -> None:
        self._number += 1
        lease = {
            "run": self.run,
            "what": self.what,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "token": self.token,
            "seconds": self.seconds,
            "lock": self.lock,
            "number": self._number,
        }
        self.workdir.put(layout.lease(self.token), json.dumps(lease).encode())


@contextlib.contextmanager
def hold(
    workdir: Directory,
    run: str,
    *,
    share: bool,
    what: str = "run",
    seconds: float = SECONDS,
    say: Say = lambda level, message: None,
) -> Iterator[Lease]:
    """Hold a lease, renewed from a thread.

    Of two that start at once at least one sees the other, and does not go on; it may be both. Where only watching can
    tell whether another is alive this takes its lease's length, and `say` is told.

    Args:
        workdir: the work directory.
        run: name of the run.
        share: go on although another run holds a lease; work may be done twice, the output is the same.
        what: "run"; or "clean" or "rescore", which remove things and share with nobody.
        seconds: the length of the lease.
        say: is told of waiting, and of renewals that fail.

    Raises:
        StorageError: another goes on.
    """
    lease = Lease(workdir, run, what, seconds, say)
    stop = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(stop,), daemon=True)
    with contextlib.ExitStack() as stack:
        if workdir.local is not None:
            lease.lock = stack.enter_context(locks.locked(workdir.local / layout.lease_lock(lease.token)))
        lease.create()
        stack.callback(lease.remove)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        # Looked for after ours is there, and theirs are written before they look.
        _refuse(lease, [other for other in _others(workdir, lease.token) if not (share and other.shares(what))])
        yield lease


def holder(workdir: Directory, seconds: float = GLANCE) -> Holder | None:
    """Who works in a directory, for people; None if nobody does.

    Where only watching can tell, one who gives no sign of life for so many seconds counts for nobody.
    """
    others = _others(workdir)
    alive = [other for other in others if other.alive(workdir)]
    unknown = [other for other in others if other.alive(workdir) is None]
    if not alive and unknown:
        alive, _ = _watch(workdir, unknown, seconds)
    return alive[0].holder if alive else None


@dataclass(frozen=True)
class _Other:
    """A lease of another as it was read: `data` tells it from the same lease after a renewal."""

    path: str
    name: str
    data: bytes
    holder: Holder
    token: str
    seconds: float
    lock: Any

    def shares(self, what: str) -> bool:
        """Whether both only add to the work directory."""
        return self.holder.what == what == "run"

    def alive(self, workdir: Directory) -> bool | None:
        """Whether its process is alive; None if the kernel of this machine can't tell."""
        if workdir.local is None or not self.token:
            return None
        return locks.is_held(workdir.local / layout.lease_lock(self.token), self.lock)


def _refuse(lease: Lease, others: Sequence[_Other]) -> None:
    """Go on only if all others are gone, which may take watching them.

    Raises:
        StorageError: one is alive.
    """
    workdir = lease.workdir
    alive = [other for other in others if other.alive(workdir)]
    gone = [other for other in others if other.alive(workdir) is False]
    unknown = [other for other in others if other not in alive and other not in gone]
    if not alive and unknown:
        longest = max(other.seconds for other in unknown)
        names = ", ".join(str(other.holder) for other in unknown)
        lease.say("info", f"waiting up to {longest:g} s to see whether {names} is alive")
        alive, silent = _watch(workdir, unknown, longest)
        gone += silent
        for other in silent:  # the holder looks for this word after it writes, we look at its lease after the word
            workdir.put(layout.lease_gone(other.name), b"")
        alive += [other for other in silent if _changed(workdir, other)]
    if alive:
        other = alive[0]
        raise StorageError(
            f"another {other.holder.what} works in {workdir.url}: {other.holder}",
            hint="Wait for it, or stop it; if it is killed, the same command finds that out."
            + (
                " With --share two runs go on: the output is right, some work is done twice." * other.shares(lease.what)
            ),
        )
    locks_of_gone = [layout.lease_lock(other.token) for other in gone if other.token]
    workdir.delete([*(other.path for other in gone), *locks_of_gone])


def _watch(workdir: Directory, others: Sequence[_Other], seconds: float) -> tuple[list[_Other], list[_Other]]:
    """Watch leases until one is renewed, or none was for so long: the one that was, or all that stayed as they were."""
    until = time.monotonic() + seconds * (1 + 1 / RENEWALS)
    watched = list(others)
    while watched and time.monotonic() < until:
        time.sleep(seconds / RENEWALS / 4)
        changed = [other for other in watched if _changed(workdir, other)]
        if changed:
            return changed, []
        watched = [other for other in watched if workdir.size(other.path) is not None]
    return [], watched


def _changed(workdir: Directory, other: _Other) -> bool:
    """Whether a lease was renewed; one that its holder has ended was not."""
    try:
        return workdir.get(other.path) != other.data
    except FileNotFoundError:
        return False


def _others(workdir: Directory, token: str = "") -> list[_Other]:
    """The leases in a work directory, but for that with the token."""
    found = (_read(workdir, path) for path, _ in sorted(workdir.sizes(f"{layout.LEASES}/", deep=False)))
    return [other for other in found if other is not None and other.token != token]


def _read(workdir: Directory, path: str) -> _Other | None:
    """Read a lease, if the path is that of one; whatever is in it, somebody may hold it."""
    name = layout.parse_lease(path)
    if name is None:
        return None
    try:
        data = workdir.get(path)
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(data)
    except ValueError:
        fields = {}
    said = fields if isinstance(fields, dict) else {}
    about = Holder(*(str(said.get(name, "unknown")) for name in ("run", "what", "host", "pid")))
    seconds, token = said.get("seconds"), str(said.get("token", ""))
    if not isinstance(seconds, int | float) or not 0 < seconds <= MOST_SECONDS:
        seconds = SECONDS
    return _Other(path, name, data, about, token if token == name else "", float(seconds), said.get("lock"))
