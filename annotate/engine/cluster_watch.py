"""Watches the cluster during a run: nodes that come and go, and processes of workers that die, with their logs."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import ray

from annotate.engine import head, metrics, nodes
from annotate.engine.events import Events
from annotate.engine.facts import node_name
from annotate.engine.last_words import UNSAID, last_words

LOOK_SECONDS = 15.0
NOT_READ = "its process is gone, and its log could not be read, as when its node is lost"
MOST_TOLD = 1000
"""Most deaths of workers that a run has events of: a cluster whose workers all die again and again ends in an error."""


@dataclass(frozen=True)
class DeadWorker:
    """A process that died, of those that Ray did not end itself.

    Attributes:
        id: Ray's id of it.
        node_id: Ray's id of its node.
        node: the node, as in facts of calls.
        pid: number of the process.
        why: what Ray knows of it; empty if that is only that the process is gone.
        log: path of its log on the node; `*` stands for the number of a job.
    """

    id: str
    node_id: str
    node: str
    pid: int
    why: str
    log: str


@dataclass
class ClusterWatch:
    """Looks at the cluster from time to time, and tells events and metrics what has changed."""

    events: Events
    _nodes: Mapping[str, str] = field(default_factory=dict)
    _leaving: frozenset[str] = frozenset()
    _told: set[str] = field(default_factory=set)
    _looked: float = 0.0

    def start(self) -> None:
        """Begin to watch: what is dead by now is not told of."""
        self._nodes = nodes.alive()
        self._told = {worker.id for worker in dead_workers()}
        self._looked = time.monotonic()
        metrics.gauge("annotate_nodes", len(self._nodes))

    def hear(self) -> bool:
        """A call has ended: look, if the last time is long ago; whether it looked."""
        due = time.monotonic() - self._looked > LOOK_SECONDS
        if due:
            self.look()
        return due

    def look(self) -> None:
        """Look at the cluster, unless its head does not answer: then Ray would stand still."""
        if head.is_silent():
            return
        before, self._nodes, self._looked = self._nodes, nodes.alive(), time.monotonic()
        lost = [name for node, name in before.items() if node not in self._nodes]
        joined = [name for node, name in self._nodes.items() if node not in before]
        if lost or joined:
            self.events.nodes(lost, joined)
            metrics.gauge("annotate_nodes", len(self._nodes))
            metrics.count("annotate_lost_nodes", len(lost))
        earlier, self._leaving = self._leaving, nodes.leaving()
        if names := sorted(self._nodes[node] for node in self._leaving - earlier if node in self._nodes):
            left = f"about to leave the cluster: {', '.join(names)}; no more work goes there"
            self.events.said("warning", left)
        dead = [worker for worker in dead_workers() if worker.id not in self._told]
        told = dead[: max(0, MOST_TOLD - len(self._told))]
        self._told.update(worker.id for worker in dead)
        logs: defaultdict[str, list[str]] = defaultdict(list)
        for worker in told:
            logs[worker.node_id].append(worker.log)
        words = last_words(logs) if logs else {}
        for worker in told:
            said = words.get(worker.log, NOT_READ)
            why = worker.why if worker.why and said in (UNSAID, NOT_READ) else said
            self.events.died(worker.node, worker.pid, why, worker.log)
            metrics.count("annotate_lost_workers", 1, node=worker.node)


def dead_workers() -> Iterator[DeadWorker]:
    """The processes of this job's workers that died, as far as Ray still knows them.

    Ray has no public function for this that works without its dashboard. If another version of Ray has another private
    one, no death is told of.
    """
    with suppress(ImportError, AttributeError):
        from ray._private.state import state
        from ray.core.generated import gcs_pb2

        job = bytes.fromhex(ray.get_runtime_context().get_job_id())
        for data in state._connect_and_get_accessor().get_worker_table():
            worker = gcs_pb2.WorkerTableData.FromString(data)
            # The worker of another job, or one that never had a job, says nothing of this run.
            if not worker.is_alive and worker.job_id == job and not _intended(worker):
                yield _dead(worker)


def _intended(worker: Any) -> bool:
    kind: str = type(worker).DESCRIPTOR.fields_by_name["exit_type"].enum_type.values_by_number[worker.exit_type].name
    return kind.startswith("INTENDED")


def _why(worker: Any) -> str:
    """Why a worker died, if Ray knows more than that it is gone."""
    detail: str = worker.exit_detail
    if code := re.search(r"exits with an exit code (-?\d+)", detail):
        return f"it ended itself with exit code {code[1]}"
    gone = "connection error" in detail or "RPC error" in detail
    return "" if gone else detail.split(". ")[0]


def _dead(worker: Any) -> DeadWorker:
    address, found = worker.worker_address, worker.worker_info
    session = PurePosixPath(found["plasma_store_socket"].decode()).parent.parent
    name = address.worker_id.hex()
    return DeadWorker(
        id=name,
        node_id=address.node_id.hex(),
        node=node_name(address.ip_address, address.node_id.hex()),
        pid=worker.pid,
        why=_why(worker),
        log=str(session / "logs" / f"worker-{name}-*-{worker.pid}.err"),
    )
