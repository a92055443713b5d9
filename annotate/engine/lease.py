"""Leases on a work directory: they show who works in it, without clocks, host names or process numbers.

A lease is an object that its holder renews: it writes it again and again, with the next number each time. Another
process takes the holder for dead in two cases only. Either this machine's kernel says that the holder's process has
ended (a file lock). Or it has watched the lease for longer than the lease's length, by its own clock, and saw no
renewal. A watcher that takes a holder for dead leaves a note, and then looks at the lease a last time; the holder looks
for a note after each renewal. So one of the two sees the other. A holder that was only suspended stops when it wakes
up.

Two runs at once give the right output, because of how units are committed; a lease only saves them from doing the work
twice. A command that removes files (`annotate clean`, `--rescore`) shares the directory with nobody, and confirms its
lease before each batch that it removes.
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
from annotate.storage import layout, retries
from annotate.storage.store import Directory

SECONDS = 60.0
RENEWALS = 12  # renewals in the length of a lease
GLANCE = 10.0  # seconds of watching, to tell people whether a run is at work
MOST_SECONDS = 600.0  # longest lease: anybody may have written the file

Say = Callable[[str, str], None]  # takes a level, "info" or "warning", and a message


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
        say: takes messages for the holder; called in the thread that calls `check` and `confirm`.
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
    _begun: bool = False
    _removed: bool = False
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Warn of a renewal that failed, and stop if the lease is lost. The store is not asked.

        Raises:
            StorageError: another process took this one for dead, or the lease was removed.
        """
        if self._lost:
            raise StorageError(self._lost, hint="Run the same command again: what is committed is found.")
        failure = self._failure
        if failure and failure != self._told:
            self.say(
                "warning",
                f"the lease on {self.workdir.url} could not be renewed: {failure}. It is tried again; if it fails for "
                f"{self.seconds:g} s, another run may take this one for dead, and this one then stops",
            )
        self._told = failure

    def confirm(self) -> None:
        """Renew the lease now, so that it holds for its full length from here.

        Raises:
            StorageError: the lease can't be renewed, or is lost.
        """
        self._renew()
        self.check()

    def create(self) -> None:
        """Write the lease for the first time. Once it may be there, `remove` removes it."""
        self._begun = True
        try:
            self._write()
        except StorageError:
            self._begun = False
            raise

    def keep(self, stop: threading.Event) -> None:
        """Renew until told to stop; for a thread."""
        each = self.seconds / RENEWALS
        while not stop.wait(each) and not self._lost:
            with contextlib.suppress(StorageError), retries.within(each, 1):  # `check` tells of it
                self._renew()

    def remove(self) -> None:
        """Remove the lease, and the note of a process that took this one for dead. It is not renewed any more."""
        if not self._begun:
            return
        self._removed = True
        with self._mutex:  # of a renewal that goes on
            pass
        self.workdir.delete([layout.lease(self.token), layout.lease_gone(self.token)])

    def _renew(self) -> None:
        with self._mutex:
            if self._removed:
                return
            try:
                found = _read(self.workdir, layout.lease(self.token))
                if found is None or found.token != self.token:
                    where = f"{self.workdir.url}/{layout.LEASES}"
                    self._lost = f"the lease of {self.run} was removed from {where} while that run worked"
                else:
                    self._write()
                if self.workdir.size(layout.lease_gone(self.token)) is not None:
                    self._lost = (
                        f"{self.run} did not renew its lease for over {self.seconds:g} s: another process took it for "
                        f"dead, and works in {self.workdir.url}"
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

    Of two processes that start at once, at least one sees the other and stops; both may. If only watching can tell
    whether another holder is alive, it takes as long as the lease of that holder lasts, and `say` is told.

    Args:
        workdir: the work directory.
        run: name of the run.
        share: go on even if another run holds a lease. Work may be done twice; the output is the same.
        what: "run"; or "clean" or "rescore", which remove files and share with nobody.
        seconds: the length of the lease.
        say: takes messages about waiting, and about renewals that fail.

    Raises:
        StorageError: another holder is at work.
    """
    lease = Lease(workdir, run, what, seconds, say)
    stop = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(stop,), daemon=True)
    with contextlib.ExitStack() as stack:
        if workdir.local is not None:
            lease.lock = stack.enter_context(locks.locked(workdir.local / layout.lease_lock(lease.token)))
        stack.callback(lease.remove)  # first, since a signal may come while it is written
        lease.create()
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        # Look for other leases only after ours is written. Others do the same, so of two at least one sees the other.
        _refuse(lease, [other for other in _others(workdir, lease.token) if not (share and other.shares(what))])
        yield lease


def holder(workdir: Directory, seconds: float = GLANCE) -> Holder | None:
    """Who works in a directory, for people; None if nobody does.

    If only watching can tell, a holder that does not renew its lease for `seconds` counts as dead.
    """
    others = _others(workdir)
    alive = [other for other in others if other.alive(workdir)]
    unknown = [other for other in others if other.alive(workdir) is None]
    if not alive and unknown:
        alive, _ = _watch(workdir, unknown, seconds)
    return alive[0].holder if alive else None


@dataclass(frozen=True)
class _Other:
    """The lease of another process, as it was read. A renewal changes `data`."""

    path: str
    name: str
    data: bytes
    holder: Holder
    token: str
    seconds: float
    lock: Any

    def shares(self, what: str) -> bool:
        """Whether both processes only add to the work directory."""
        return self.holder.what == what == "run"

    def alive(self, workdir: Directory) -> bool | None:
        """Whether its process is alive; None if the kernel of this machine can't tell."""
        if workdir.local is None or not self.token:
            return None
        return locks.is_held(workdir.local / layout.lease_lock(self.token), self.lock)


def _refuse(lease: Lease, others: Sequence[_Other]) -> None:
    """Go on only if all other holders are dead. It may be necessary to watch them.

    Raises:
        StorageError: one of them is alive.
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
        for other in silent:  # the holder looks for this note after it renews; we look at its lease after the note
            workdir.put(layout.lease_gone(other.name), b"")
        alive += [other for other in silent if _changed(workdir, other)]
    if alive:
        other = alive[0]
        raise StorageError(
            f"another {other.holder.what} works in {workdir.url}: {other.holder}",
            hint="Wait for it, or stop it, and run the same command again."
            + (
                " With --share two runs go on: the output is right, some work is done twice." * other.shares(lease.what)
            ),
        )
    locks_of_gone = [layout.lease_lock(other.token) for other in gone if other.token]
    workdir.delete([*(other.path for other in gone), *locks_of_gone])


def _watch(workdir: Directory, others: Sequence[_Other], seconds: float) -> tuple[list[_Other], list[_Other]]:
    """Watch leases until one is renewed, or time is up: returns the renewed ones, and those that never were."""
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
    """Whether a lease was renewed. A lease that its holder has removed was not."""
    try:
        return workdir.get(other.path) != other.data
    except FileNotFoundError:
        return False


def _others(workdir: Directory, token: str = "") -> list[_Other]:
    """The leases in a work directory, except the one with this token."""
    found = (_read(workdir, path) for path, _ in sorted(workdir.sizes(f"{layout.LEASES}/", deep=False)))
    return [other for other in found if other is not None and other.token != token]


def _read(workdir: Directory, path: str) -> _Other | None:
    """Read a lease, if the path is that of one. Even if its content is damaged, somebody may hold it."""
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
