"""A stand-in for the job server of a Ray head: a real HTTP server on loopback, with jobs that never run."""

from __future__ import annotations

import json
import platform
from typing import Any

import ray
from loopback_server import Handler, LoopbackServer


class JobServer(LoopbackServer):
    """Answers as a head does, and keeps what it was sent.

    Attributes:
        ray, python: versions that it says.
        ended: how its jobs ended, as Ray tells it.
        busy: how many submissions it puts off, as a head that has just started.
        token: what it asks for; None for nothing.
        submitted: what jobs were asked for.
        packages: what was uploaded, by name.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.ray, self.python, self.token = ray.__version__, platform.python_version(), None
        self.busy = 0
        self.ended: dict[str, Any] = {"status": "SUCCEEDED"}
        self.submitted: list[dict[str, Any]] = []
        self.packages: dict[str, bytes] = {}


class _Handler(Handler):
    server: JobServer

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, "Unauthorized: Missing authentication token")
        elif self.path == "/api/version":
            self._answer(200, {"version": "4", "ray_version": self.server.ray, "ray_commit": "", "session_name": ""})
        elif self.path == "/api/v0/cluster_metadata":
            self._answer(200, {"result": True, "data": {"pythonVersion": self.server.python}})
        elif self.path == "/api/jobs/":
            self._answer(200, [self._details(job) for job in self.server.submitted])
        elif self.path.startswith("/api/jobs/"):
            found = [job for job in self.server.submitted if job["submission_id"] == name]
            self._answer(200, self._details(found[0])) if found else self._answer(404, f"Job {name} does not exist")
        else:
            self._answer(200 if name in self.server.packages else 404, {})

    def do_PUT(self) -> None:
        self.server.packages[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def do_POST(self) -> None:
        job = json.loads(self._body())
        if self.server.busy > 0:
            self.server.busy -= 1
            self._answer(500, "No available agent to submit job, please try again later.")
            return
        self.server.submitted.append(job)
        self._answer(200, {"job_id": job["submission_id"], "submission_id": job["submission_id"]})

    def _details(self, job: dict[str, Any]) -> dict[str, Any]:
        kept = ("entrypoint", "submission_id", "metadata", "runtime_env")
        return {"type": "SUBMISSION", "start_time": 1, **self.server.ended, **{name: job[name] for name in kept}}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
