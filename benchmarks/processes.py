"""The processes that benchmarks start: a local Ray, and a Python of its own for what must not see what ran before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """A Ray on this machine that runs so many tasks at a time."""
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # as the command line does
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def measured_apart(script: str, write: Callable[[Path], object], *options: str) -> dict[str, Any]:
    """What `script --measure FOLDER` prints, as JSON, in a process of its own.

    Args:
        script: path of a benchmark.
        write: writes what it reads into the folder, which is deleted in the end.
        options: more of the script's.
    """
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        command = [sys.executable, script, "--measure", name, *options]
        own = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(own.stdout)
    return figures
