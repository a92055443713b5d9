"""A log that is followed: each line once, whatever happens to the connection."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from annotate.errors import ConfigError
from annotate.jobs import running

LOG = [f"line {i}\n" for i in range(40)]


class Client:
    """Stands for Ray's client. Each connection begins with the first line, as Ray's do.

    Attributes:
        connections: for each, how many lines it gives, in pieces of some lines, and the error that then comes.
    """

    def __init__(self, *connections):
        self.connections = list(connections)

    async def tail_job_logs(self, job):
        lines, pieces, error = self.connections.pop(0)
        for at in range(0, lines, pieces):
            yield "".join(LOG[at : min(at + pieces, lines)])
            await asyncio.sleep(0)
        if error is not None:
            raise error

    def get_job_info(self, job):
        if job == "none":
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        status = JobStatus.RUNNING if self.connections else JobStatus.SUCCEEDED
        return SimpleNamespace(
            submission_id=job, job_id=None, status=status, metadata=None, entrypoint="x", message=None,
            driver_exit_code=0, start_time=1000, end_time=None,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(running.time, "sleep", lambda seconds: None)


def test_lines_come_once_though_connections_break_anywhere():
    client = Client(
        (7, 3, OSError("reset")), (7, 2, OSError("reset")), (25, 10, None), (3, 1, OSError()), (40, 7, None)
    )
    assert "".join(running._followed(client, "a")).splitlines(keepends=True) == LOG


def test_a_log_can_be_followed_where_a_loop_runs_already():
    async def in_a_notebook():
        return "".join(running._followed(Client((40, 9, None)), "a"))

    assert asyncio.run(in_a_notebook()) == "".join(LOG)


def test_a_cluster_that_is_gone_is_told_in_the_end(monkeypatch):
    now = iter(range(0, 100_000, 100))
    monkeypatch.setattr(running.time, "monotonic", lambda: float(next(now)))
    with pytest.raises(ConfigError, match="has not answered for 300 seconds: reset") as told:
        list(running._followed(Client(*[(0, 1, OSError("reset"))] * 50), "a"))
    assert "annotate status" in told.value.hint


def test_a_job_that_is_gone_ends_it():
    with pytest.raises(ConfigError, match="no job 'none'"):
        list(running._followed(Client((3, 1, None), (3, 1, None)), "none"))
