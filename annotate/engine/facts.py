"""Facts of the calls that workers make: where and when each ran, what it did, and the memory that it took.

A worker returns its result together with the facts of the call, see `worker.told`. The driver takes the two apart in
one place, `Heard.heard`.
"""

from __future__ import annotations

import functools
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray

from annotate import tally
from annotate.engine.cost import Cost
from annotate.engine.versions import versions

T = TypeVar("T")
LONGEST_TITLE = 200
UNKNOWN = "unknown"
"""The node of a lost call, where the driver does not know it."""


@dataclass(frozen=True)
class Place:
    """Where a process runs: the id of its node, the name of this node as `this_node` has it, and its number there."""

    node_id: str
    node: str
    pid: int

    @staticmethod
    def this() -> Place:
        """This process. Without Ray, which a question would start, the node is known by the name of the host."""
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else socket.gethostname()
        return Place(node, this_node(), os.getpid())


@dataclass(frozen=True)
class Driver:
    """The driver: its node, as `this_node` names it, and its versions."""

    node: str
    versions: Mapping[str, str]

    @staticmethod
    def this() -> Driver:
        """This process."""
        return Driver(this_node(), versions())


@dataclass(frozen=True)
class Sent:
    """What the driver says of a call when it sends it.

    Attributes:
        stage: label of the stage, or of the stages that are made together.
        step: what the call does for the stage: the name of the worker's function.
        units: name of the units, for people.
        time: when it was sent, in seconds since the epoch.
        driver: who sent it.
    """

    stage: str
    step: str
    units: str
    time: float
    driver: Driver = field(default_factory=Driver.this)

    @property
    def name(self) -> str:
        """Its name in Ray's dashboard. It has no unit: Ray's metrics keep nine time series for each name, for ever."""
        return f"{self.stage}: {self.step}"


@dataclass(frozen=True)
class Facts:
    """Facts of one call.

    Attributes:
        sent: what the driver said of it.
        node: the node, as `this_node` names it.
        pid: number of the process.
        waited: seconds between the time when the call could have started and its start. It could have when it was sent
            and the calls whose results it takes had ended. Clocks of nodes may differ by parts of a second.
        start: in seconds since the epoch, by the clock of the node.
        end: likewise.
        counts: what `annotate.tally` has counted, by name; a name that begins with `tally.SECONDS` is a phase.
        peak: the most memory that the process held during the call, in bytes.
        cpu: seconds of CPU that the process spent during the call, in all its threads.
        gpus: number of GPUs that the process holds.
        said: warnings, by subject.

    Of a lost call, the step is `tally.LOST`, since it is not known what the worker was doing. Nor are counts or memory.
    """

    sent: Sent
    node: str
    pid: int
    waited: float
    start: float
    end: float
    counts: Mapping[str, float]
    peak: int
    cpu: float = 0.0
    gpus: float = 0
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """What the call has taken."""
        seconds = self.end - self.start
        return Cost(max(seconds, self.cpu) / 3600, seconds * self.gpus / 3600)


@dataclass(frozen=True)
class Held:
    """What the driver knows of the worker that a call was sent to.

    Attributes:
        since: time before which it worked on other calls, by `time.monotonic`.
        node: the node, as `this_node` names it.
        pid: number of the process; 0 if that is not known.
        gpus: number of GPUs that it holds.
    """

    since: float = 0.0
    node: str = UNKNOWN
    pid: int = 0
    gpus: float = 0


def facts_of_lost(stage: str, units: str, sent: float, began: float, ended: float, held: Held) -> Facts:
    """Facts of a call whose worker was lost, as far as the driver knows them.

    Args:
        stage: label of the stage.
        units: name of the units, for people.
        sent: when the call was sent; this and the other times are by `time.monotonic`.
        began: when a worker began to work on it.
        ended: when the loss was seen.
        held: what the worker held.
    """
    epoch = time.time() - time.monotonic()
    said = Sent(stage, tally.LOST, units, sent + epoch)
    counts = {tally.SECONDS + tally.LOST: ended - began}
    return Facts(said, held.node, held.pid, began - sent, began + epoch, ended + epoch, counts, 0, gpus=held.gpus)


@dataclass(frozen=True)
class Told:
    """The result of a call, and the facts of all calls that it came from, in order."""

    result: Any
    facts: tuple[Facts, ...]

    @property
    def seconds(self) -> float:
        """The time of the longest of these calls."""
        return max(facts.end - facts.start for facts in self.facts)


@dataclass
class Heard:
    """Takes results and facts apart, in the driver.

    Attributes:
        tell: is given the facts of each call, once.
        peaks: the most memory that a call has held, in bytes, by stage and step.
        queue: gives the number of calls in flight, by job.
        workers: gives the number of calls that may run at a time now; it changes with the cluster, and with other runs.
        check: raises an error if the run should not go on, since its budget is spent.
    """

    tell: Callable[[Facts], None] = lambda facts: None
    peaks: dict[tuple[str, str], int] = field(default_factory=dict)
    queue: Callable[[], Mapping[str, int]] = dict
    workers: Callable[[], int] = lambda: 0
    check: Callable[[], None] = lambda: None

    def heard(self, told: Told) -> Any:
        """The result of a call; its facts are passed on."""
        for facts in told.facts:
            at = (facts.sent.stage, facts.sent.step)
            self.peaks[at] = max(self.peaks.get(at, 0), facts.peak)
            self.tell(facts)
        return told.result


@functools.cache
def gpus_held() -> float:
    """The GPUs that this process has claimed: an actor that holds a model has, a worker of tasks has not."""
    if ray.is_initialized():
        with suppress(AssertionError):  # this process is no worker, as where tests call everything in their own
            return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))
    return 0.0


def this_node() -> str:
    """The name of this node: its address and the first digits of Ray's id; without Ray, the name of the host."""
    if not ray.is_initialized():
        return socket.gethostname()
    return _this_node(ray.get_runtime_context().get_node_id())


@functools.cache
def _this_node(node_id: str) -> str:
    return node_name(ray.util.get_node_ip_address(), node_id)


def node_name(address: str, node_id: str) -> str:
    """The name of a node: its address and the first digits of Ray's id, since nodes may share an address."""
    return f"{address} ({node_id[:6]})"


def this_log() -> str:
    """The path of this worker's log; `*` stands for the number of a job. "unknown" outside of Ray."""
    with suppress(ImportError, AttributeError):
        from ray._private.worker import global_worker

        name = f"worker-{ray.get_runtime_context().get_worker_id()}-*-{os.getpid()}.err"
        return str(Path(global_worker.node.get_logs_dir_path()) / name)
    return "unknown"


_title = ""
"""The title of this process while it works on a call."""


def show_as(sent: Sent) -> None:
    """Give this process a title with the units of a call, as Ray's dashboard and `ps` show it, if it is a worker.

    Ray gives it another title when the call ends.
    """
    global _title
    _title = f"ray::{sent.name} {sent.units}"[:LONGEST_TITLE]
    _show(_title)


def in_turn(units: Sequence[T]) -> Iterator[T]:
    """Pass on the units of a call, and show in the title which of them this process works on, if there are several."""
    for number, unit in enumerate(units, 1):
        if units[1:]:
            _show(f"{_title}, now {number} of {len(units)}")
        yield unit


def _show(title: str) -> None:
    with suppress(ImportError, AttributeError):
        from ray._private.worker import global_worker
        from ray._raylet import setproctitle  # type: ignore[attr-defined]

        if global_worker.mode == ray.WORKER_MODE:
            setproctitle(in_title(title))


def in_title(text: str) -> str:
    """Text as the title of a process has it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def forget_peak() -> None:
    """Begin to measure the peak of this process's memory anew, where the kernel can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most memory that this process has held since `forget_peak`, or since it began, in bytes."""
    with suppress(OSError):
        for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
