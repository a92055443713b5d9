"""What calls wait for that are sent and have not begun, and who holds it, as the head of the cluster tells it.

Ray notes by itself when a call is sent and when it begins. It is asked only when no result has come for a while, so
this costs nothing while all goes well. Ray's public functions for it need its dashboard, so its head is asked directly.
If another version of Ray has other private modules, nothing is known, and calls that wait count as if they ran.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, ParamSpec

import ray

from annotate.engine import head, nodes
from annotate.engine.sharing import NAME, amounts

P = ParamSpec("P")

ANSWER_SECONDS = 5.0
"""Within which the head answers."""
MOST = 10_000
"""Most calls, actors, placement groups and jobs that are looked at."""
MOST_TOLD = 5
"""Most that are named."""


def _as_far_as_known(question: Callable[P, list[str]]) -> Callable[P, list[str]]:
    """Answer with nothing where the head gives no answer, or another version of Ray a different one."""

    @functools.wraps(question)
    def asked(*args: P.args, **kwargs: P.kwargs) -> list[str]:
        try:
            import grpc
        except ImportError:
            return []
        with contextlib.suppress(ImportError, AttributeError, ValueError, TypeError, grpc.RpcError):
            return [] if head.is_silent() else question(*args, **kwargs)
        return []

    return asked


@_as_far_as_known
def waited_for() -> list[str]:
    """What the calls of this process wait for, if none of them works; for people.

    Empty if one works, if a node has room for one that waits (then it should begin), or if nothing is known.
    """
    with _cluster() as cluster:
        claims = []
        for task in cluster.tasks({"FINISHED": False, "FAILED": False}, job=_own_job()):
            state = cluster.state(task)
            if state.startswith(("SUBMITTED", "RUNNING", "GETTING")):
                return []
            if state == "PENDING_NODE_ASSIGNMENT" and not task.task_info.actor_id:  # else it waits for its actor
                claims.append(dict(task.task_info.required_resources))
        free = cluster.free()
    if any(_fits(each, free) for each in claims):
        return []
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = Counter(amounts(each) + ("" if _fits(each, there) else ", more than any node has") for each in claims)
    return [f"room for a call, which needs {each}" for each, _ in needs.most_common(MOST_TOLD)]


@_as_far_as_known
def holders() -> list[str]:
    """Who holds CPUs or GPUs: jobs of Ray, those that hold most first; for people."""
    with _cluster() as cluster:
        held = {job: claims for job, claims in cluster.held().items() if claims["CPU"] or claims["GPU"]}
        names = cluster.names()
    ranked = sorted(held, key=lambda job: (-held[job]["GPU"], -held[job]["CPU"], job))
    told = [f"{names.get(job, f'job {job.hex()}')} holds {amounts(held[job])}" for job in ranked]
    return told[:MOST_TOLD] + ([f"{len(told) - MOST_TOLD:,} others hold the rest"] if told[MOST_TOLD:] else [])


def _fits(claims: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> bool:
    return any(all(node.get(kind, 0.0) >= of for kind, of in claims.items()) for node in nodes)


def _own_job() -> bytes:
    return bytes.fromhex(ray.get_runtime_context().get_job_id())


@contextlib.contextmanager
def _cluster() -> Iterator[_Cluster]:
    from ray._private.grpc_utils import init_grpc_channel

    channel = init_grpc_channel(ray.get_runtime_context().gcs_address)
    try:
        yield _Cluster(channel)
    finally:
        channel.close()


class _Cluster:
    """Asks the head of the cluster."""

    def __init__(self, channel: Any) -> None:
        from ray.core.generated import common_pb2, gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc

        self._channel, self._common, self._tables = channel, common_pb2, gcs_pb2
        self._messages, self._services = gcs_service_pb2, gcs_service_pb2_grpc

    def _ask(self, service: str, question: str, **about: Any) -> Any:
        ask = getattr(getattr(self._services, f"{service}GcsServiceStub")(self._channel), question)
        return ask(getattr(self._messages, f"{question}Request")(**about), timeout=ANSWER_SECONDS)

    def tasks(self, states: Mapping[str, bool], job: bytes | None = None) -> Any:
        """The tasks whose state is one of `states`, or is not where this is False; of one job, or of all."""
        kinds = self._messages.FilterPredicate
        filters = self._messages.GetTaskEventsRequest.Filters(exclude_driver=True)
        for state, wanted in states.items():
            filters.state_filters.add(state=state, predicate=kinds.EQUAL if wanted else kinds.NOT_EQUAL)
        if job is not None:
            filters.job_filters.add(job_id=job, predicate=kinds.EQUAL)
        return self._ask("TaskInfo", "GetTaskEvents", filters=filters, limit=MOST).events_by_task

    def state(self, task: Any) -> str:
        """The state of a task: the last that it has reached."""
        name: str = self._common.TaskStatus.Name(max(task.state_updates.state_ts_ns, default=0))
        return name

    def free(self) -> list[dict[str, float]]:
        """What each node has free; nothing is placed on those that are about to leave."""
        found, gone = self._ask("NodeResourceInfo", "GetAllAvailableResources").resources_list, nodes.leaving()
        return [dict(node.resources_available) for node in found if node.node_id.hex() not in gone]

    def held(self) -> dict[bytes, Counter[str]]:
        """What each job holds, by kind of resource: its placement groups, actors and tasks."""
        held: defaultdict[bytes, Counter[str]] = defaultdict(Counter)
        for group in self._groups():
            for bundle in group.bundles:
                held[group.creator_job_id].update(bundle.unit_resources)
        alive = self._messages.GetAllActorInfoRequest.Filters(state=self._tables.ActorTableData.ALIVE)
        for actor in self._ask("ActorInfo", "GetAllActorInfo", filters=alive, limit=MOST).actor_table_data:
            if not actor.placement_group_id:
                held[actor.job_id].update(actor.required_resources)
        for task in self.tasks({"RUNNING": True}):
            if not task.task_info.actor_id and not task.task_info.placement_group_id:
                held[task.job_id].update(task.task_info.required_resources)
        return held

    def names(self) -> dict[bytes, str]:
        """The names of jobs: of the run, or the program, without its arguments, which may be secret."""
        runs = {group.creator_job_id: group.name for group in self._groups() if group.name.startswith(NAME)}
        jobs = self._ask("JobInfo", "GetAllJobInfo", limit=MOST, skip_submission_job_info_field=True).job_info_list
        found = {}
        for job in jobs:
            program = " ".join(PurePath(word).name for word in job.entrypoint.split()[:2] if not word.startswith("-"))
            what = "this program" if job.job_id == _own_job() else runs.get(job.job_id, program)
            found[job.job_id] = f"job {job.job_id.hex()} ({what}, process {job.driver_pid} at {job.driver_ip_address})"
        return found

    def _groups(self) -> list[Any]:
        created = self._tables.PlacementGroupTableData.CREATED
        found = self._ask("PlacementGroupInfo", "GetAllPlacementGroup", limit=MOST).placement_group_table_data
        return [group for group in found if group.state == created]
