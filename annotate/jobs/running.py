"""Jobs on a cluster: their state, their log, and how they are ended."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from annotate.errors import ConfigError
from annotate.jobs.server import connect

State = Literal["pending", "running", "stopped", "succeeded", "failed"]
_STOP_SECONDS = 60.0
_LOST_SECONDS = 300.0  # without an answer of the server, while a log is followed


@dataclass(frozen=True)
class Job:
    """A job of a cluster.

    Attributes:
        id: its id.
        state: "pending", "running", "stopped" (it was cancelled), "succeeded" or "failed".
        pipeline: the name of its pipeline file; "" if it is not a run of ours.
        workdir: its work directory; "" if it is not a run of ours.
        command: what was started on the head.
        message: of Ray, on the state.
        exit_code: of the command, when it ended; see `annotate --help`.
        started: when it was submitted, in seconds since 1970; None if Ray does not say.
        ended: when it ended; None before.
    """

    id: str
    state: State
    pipeline: str
    workdir: str
    command: str
    message: str
    exit_code: int | None
    started: float | None
    ended: float | None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("pending", "running")


def list_jobs(address: str) -> tuple[Job, ...]:
    """The jobs that were submitted to a cluster, the newest last.

        [job.id for job in list_jobs("http://localhost:8265") if not job.over]

    Args:
        address: of the head's dashboard.

    Raises:
        ConfigError: the cluster can't be reached.
    """
    found = [_job(details) for details in connect(address).list_jobs() if details.submission_id]
    return tuple(sorted(found, key=lambda job: job.started or 0.0))


def find_job(job: str, *, address: str) -> Job:
    """A job by its id.

        find_job("mine-1f2e3d4c", address="http://localhost:8265").state

    Args:
        job: the id, as `submit` returned it.
        address: of the head's dashboard.

    Raises:
        ConfigError: there is no such job, or the cluster can't be reached.
    """
    return _find(connect(address), job)


def cancel_job(job: str, *, address: str) -> Job:
    """End a job and wait for its end. What it has committed stays: submit it again to go on.

        cancel_job("mine-1f2e3d4c", address="http://localhost:8265").state

    Args:
        job: the id, as `submit` returned it.
        address: of the head's dashboard.

    Returns:
        The job. It runs still if it did not end within a minute.

    Raises:
        ConfigError: there is no such job, or the cluster can't be reached.
    """
    client = connect(address)
    found = _find(client, job)
    if found.over:
        return found
    client.stop_job(job)
    until = time.monotonic() + _STOP_SECONDS
    while not (found := _find(client, job)).over and time.monotonic() < until:
        time.sleep(0.5)
    return found


def job_log(job: str, *, address: str, follow: bool = False) -> Iterator[str]:
    """The log of a job, in pieces of some lines: what its command printed.

        print("".join(job_log("mine-1f2e3d4c", address="http://localhost:8265")))

    Args:
        job: the id, as `submit` returned it.
        address: of the head's dashboard.
        follow: go on until the job ends. Where the connection breaks, it is made again, and nothing is repeated.

    Raises:
        ConfigError: there is no such job, or the cluster can't be reached, for 5 minutes if a log is followed.
    """
    client = connect(address)
    _find(client, job)
    return _followed(client, job) if follow else iter([str(client.get_job_logs(job))])


def _followed(client: Any, job: str) -> Iterator[str]:
    seen, lost_since = 0, None
    while True:
        skip = seen  # each connection begins with the first line
        try:
            for piece in _tail(client, job):
                lost_since = None
                new = piece[max(0, skip) :]
                skip -= len(piece)
                seen += len(new)
                if new:
                    yield new
            if _find(client, job).over:
                return
        except ConfigError:
            raise
        except Exception as error:  # of requests, aiohttp and Ray, which have no base in common
            now = time.monotonic()
            lost_since = lost_since or now
            if now - lost_since > _LOST_SECONDS:
                raise ConfigError(
                    f"the cluster has not answered for {_LOST_SECONDS:.0f} seconds: {str(error).partition(chr(10))[0]}",
                    hint="Whether the job goes on is not known from here. Its work directory tells: `annotate status`.",
                ) from error
        time.sleep(1.0)


def _tail(client: Any, job: str) -> Iterator[str]:
    """What `client.tail_job_logs` yields. It is asynchronous, and the caller may have a loop of its own."""
    pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

    async def pump() -> None:
        async for piece in client.tail_job_logs(job):
            pieces.put(piece)

    def run() -> None:
        try:
            asyncio.run(pump())
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    threading.Thread(target=run, name="job log", daemon=True).start()
    while (piece := pieces.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


def _find(client: Any, job: str) -> Job:
    try:
        return _job(client.get_job_info(job))
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        raise ConfigError(
            f"the cluster has no job {job!r}", hint="`annotate jobs list` names its jobs. A new head knows no old job."
        ) from error


def _job(details: Any) -> Job:
    about = details.metadata or {}
    return Job(
        id=str(details.submission_id or details.job_id),
        state=details.status.value.lower(),
        pipeline=about.get("pipeline", ""),
        workdir=about.get("workdir", ""),
        command=str(details.entrypoint),
        message=str(details.message or ""),
        exit_code=details.driver_exit_code,
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
    )
