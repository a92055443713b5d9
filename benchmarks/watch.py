"""Watches the memory of this process and of the workers of its local Ray. Figures are from Linux."""

from __future__ import annotations

import os
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

SAMPLES_PER_SECOND = 20
SAMPLES_PER_LOOK = 5
"""New processes are looked for after so many samples. Their peaks count from their start, if they live that long."""
PROC = Path("/proc")

Kind = str
"""What a process is: "driver", "worker" (it runs tasks) or "model" (an actor, or a worker that became one)."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes.

    Attributes:
        kind: of the process.
        resident: peak of its resident memory (VmHWM), with the pages of Ray's object store that it has touched.
        shared: size of these pages now.
        now: what it holds now without these pages.
        peak: the most that it held without these pages: `resident` less their size at the sample before.
    """

    kind: Kind
    resident: int
    shared: int
    now: int
    peak: int


class Watch(threading.Thread):
    """A context that keeps the peak of each process, by what was being done; several things can be done at once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.idle: dict[int, Memory] = {}
        self.peaks: defaultdict[str, dict[int, Memory]] = defaultdict(dict)
        self._doing: tuple[str, ...] = ("start",)
        self._pids: list[int] = []
        self._shared: dict[int, int] = {}
        self._models: set[int] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Sample until the end."""
        while not self._done.is_set():
            self._pids = list(_family(os.getpid()))
            for _ in range(SAMPLES_PER_LOOK):
                self._sample()
                if self._done.wait(1 / SAMPLES_PER_SECOND):
                    break

    def settle(self) -> None:
        """Take as idle memory what each process holds now, or last held before it ended."""
        self._sample()
        with self._lock:
            for seen in self.peaks.values():
                self.idle |= seen
            self.peaks.clear()

    def now_doing(self, *what: str) -> None:
        """Set the peaks back. From now on, peaks count for each of these things, which are done at the same time."""
        self._sample()
        with self._lock:
            self._doing = what
            for pid in self._pids:
                try:
                    (PROC / str(pid) / "clear_refs").write_text("5")
                except OSError:
                    continue  # it ended

    def above_idle(self) -> dict[str, dict[Kind, int]]:
        """Peak above idle of the worst process of each kind, in bytes, by what was done."""
        usual: defaultdict[Kind, list[int]] = defaultdict(list)
        for memory in self.idle.values():
            usual[memory.kind].append(memory.now)
        found: dict[str, dict[Kind, int]] = {}
        for doing, seen in self.peaks.items():
            worst = found.setdefault(doing, {})
            for pid, memory in seen.items():
                before = self.idle.get(pid)
                idle = before.now if before else statistics.median(usual[memory.kind] or usual["worker"])
                worst[memory.kind] = max(worst.get(memory.kind, 0), int(memory.peak - idle))
        return found

    def _sample(self) -> None:
        with self._lock:
            for pid in self._pids:
                if memory := _memory(pid, self._shared.get(pid, 0)):
                    self._shared[pid] = memory.shared
                    if memory.kind == "model":
                        self._models.add(pid)
                    elif pid in self._models:  # while it works on a call, its title may not tell
                        memory = replace(memory, kind="model")
                    for doing in self._doing:
                        self._keep(pid, memory, self.peaks[doing])

    def _keep(self, pid: int, memory: Memory, seen: dict[int, Memory]) -> None:
        before = seen.get(pid)
        # Pages that were touched stay touched. So if the peak is no higher, what is not shared was no more either.
        if before is not None and memory.resident <= before.resident:
            memory = replace(memory, peak=before.peak)
        seen[pid] = memory


def _family(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    for children in (PROC / str(pid) / "task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue  # the thread ended
        for child in found:
            yield from _family(int(child))


def _memory(pid: int, shared_before: int) -> Memory | None:
    """Memory of this process or of a worker; None for other processes, and for those that have ended."""
    try:
        title = (PROC / str(pid) / "cmdline").read_bytes()
        status = dict(line.split(":", 1) for line in (PROC / str(pid) / "status").read_text().splitlines())
        now, peak, shared = (int(status[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM", "RssShmem"))
    except (OSError, KeyError):
        return None
    kind = _kind(pid, title)
    return Memory(kind, peak, shared, now - shared, peak - shared_before) if kind else None


def _kind(pid: int, title: bytes) -> Kind | None:
    if pid == os.getpid():
        return "driver"
    if not title.startswith(b"ray::") or b"Agent" in title:
        return None
    # The title of a process that works on a call is the call's: its stage, its step, its units.
    return "model" if title.startswith(b"ray::ModelActor") or b": forward" in title else "worker"


def totals(by_kind: Mapping[str, Mapping[Kind, int]]) -> dict[Kind, int]:
    """The largest figure of each kind of process, over all that was done."""
    return {kind: max(seen.get(kind, 0) for seen in by_kind.values()) for kind in ("driver", "worker", "model")}
