"""A Ray cluster in a process of its own, whose workers have another environment than the tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
import sys, ray
context = ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                   object_store_memory=200 << 20)
print(context.address_info["address"], context.address_info["session_dir"], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster; `environment` is that of its workers, and lets other processes find it."""

    environment: Mapping[str, str]
    session: Path

    def run(self, *command: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments, connected to the cluster."""
        return subprocess.run(
            [sys.executable, *command],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextlib.contextmanager
def cluster(environment: Mapping[str, str | None]) -> Iterator[Cluster]:
    """Run a cluster of three CPUs whose processes have this environment beside that of the tests; None is unset."""
    own = {**os.environ, **environment, "RAY_AUTH_MODE": "disabled"}  # else only its own children have its token
    own = {name: value for name, value in own.items() if value is not None and name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline().split()
        assert len(line) == 2, "Ray did not start"
        yield Cluster({**own, "RAY_ADDRESS": line[0]}, Path(line[1]))
    finally:
        process.stdin.close()
        process.wait(60)
