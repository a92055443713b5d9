"""Whether the kernel of a node has ended a process for want of memory: to Ray, its worker looks like one that crashed.

The kernel counts such kills. Each node is asked when a run begins, and again when a worker was lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import ray

from annotate.engine import head, nodes

SECONDS = 10.0
"""Within which a node answers; the first answer may need a new process. The driver waits for it."""
PAUSE = 60.0
"""A node that does not answer, as one that is being lost, is not asked again for so long."""
GROUPS = Path("/sys/fs/cgroup")
COUNT = "oom_kill"


@dataclass
class KernelKills:
    """Knows when the kernel has ended a process for want of memory, on the nodes of a cluster."""

    _counts: dict[str, int] = field(default_factory=dict)  # by node
    _risen: float | None = None
    _asked: float = -math.inf  # when the nodes were asked the last time
    _paused: dict[str, float] = field(default_factory=dict)  # by node: the time before which it is not asked

    def start(self) -> None:
        """Ask how many there have been so far. On the driver's own node, no worker is needed for that."""
        own = ray.get_runtime_context().get_node_id()
        self._counts[own] = kills_here()
        if others := [node for node in nodes.alive("CPU") if node != own]:
            self._ask(others)

    def _ask(self, those: Iterable[str]) -> None:
        if head.is_silent():
            return
        self._asked = time.monotonic()
        asked = {node for node in those if self._paused.get(node, -math.inf) <= self._asked}
        # A node may have no annotate, or another: then what it counts is not known.
        answers = nodes.on_each_node(kills_here, SECONDS, only=asked, strict=False) if asked else {}
        self._paused.update(dict.fromkeys(asked - answers.keys(), time.monotonic() + PAUSE))
        for node, count in answers.items():
            if count > self._counts.get(node, count):
                self._risen = time.monotonic()
            self._counts[node] = count

    def since(self, sent: float, came: float) -> bool:
        """Whether a process was ended so, as far as is known, between two times by `time.monotonic`.

        It may have been the worker of another call. Then this one is tried again, too, and nothing is held against it.

        Args:
            sent: when a call was sent.
            came: when its loss came. If the nodes were asked later than that, they are not asked again.
        """
        if (self._risen is None or self._risen < sent) and self._asked <= came:
            self._ask(nodes.alive("CPU"))
        return self._risen is not None and self._risen >= sent


def kills_here() -> int:
    """How many processes the kernel has ended for want of memory: in the control group of this process, or on the node.

    Returns 0 where no kernel counts them.
    """
    groups = _groups()
    paths = [
        GROUPS / groups.get("", "").lstrip("/") / "memory.events",
        GROUPS / "memory" / groups.get("memory", "").lstrip("/") / "memory.oom_control",
        # Where only a part of the tree can be seen, as in a container, its root is the group.
        GROUPS / "memory.events",
        GROUPS / "memory" / "memory.oom_control",
        Path("/proc/vmstat"),
    ]
    return next((count for path in paths if (count := _count(path)) is not None), 0)


def _groups() -> Mapping[str, str]:
    """The control groups of this process: by the name of a controller, or "" for the group of all of them."""
    found = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _count(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == COUNT:
                return int(value)
    return None
