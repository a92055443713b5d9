"""Starts processes for benchmarks: a local Ray, or a fresh Python for what an earlier measurement must not affect."""

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
def local_ray(cpus: int, gpus: int = 0) -> Iterator[None]:
    """Start a Ray on this machine that runs this many tasks at a time, and end it after the block."""
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # as the command line does
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()


def measured_apart(script: str, write: Callable[[Path], object], *options: str) -> dict[str, Any]:
    """Run `script --measure FOLDER` in a process of its own, and return the JSON that it prints.

    Args:
        script: path of a benchmark.
        write: writes the input of the script into the folder, which is deleted in the end.
        options: more options of the script.
    """
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        command = [sys.executable, script, "--measure", name, *options]
        own = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(own.stdout)
    return figures
