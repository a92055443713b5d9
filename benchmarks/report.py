"""The common parts of all benchmarks: their options, timing jobs in turn, printing a table, writing JSON.

    python benchmarks/report.py

says what the machine is, and which instructions it has: figures of loops depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTILE = 0.7


def parser(description: str | None, *, runs: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have: `--json FILE` and `--runs N`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="write ratios and raw figures to this file")
    made.add_argument("--runs", type=int, default=runs, help="how often each job is timed; medians are shown")
    return made


def measure(
    jobs: Mapping[str, Callable[[], Any]],
    runs: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time jobs in turn (A B C A B C ...), so that all of them share a drift of the machine.

    Args:
        jobs: what is timed, by name.
        runs: how often each job is timed.
        warm_up: whether to run all jobs once before, without timing them.
        clock: gives the time in seconds.

    Returns:
        The seconds of each run, by job.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for run in range(runs + warm_up):
        for name, job in jobs.items():
            begin = clock()
            job()
            if run >= warm_up:
                seconds[name].append(clock() - begin)
    return seconds


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each list."""
    return {name: statistics.median(values) for name, values in samples.items()}


def fastest(jobs: Mapping[Any, Callable[[], Any]], *, warm_up: bool = True) -> Any:
    """The name of the fastest job. Each is timed once, after another run if it should be warm."""
    seconds = medians(measure(jobs, 1, warm_up=warm_up))
    return min(seconds, key=lambda name: seconds[name])


def flipped(exact: npt.NDArray[Any], near: npt.NDArray[Any]) -> float:
    """The share of scores that are on another side of their quantile 0.7 in `near` than in `exact`, both `[n]`."""
    sides = [each >= np.quantile(each, QUANTILE, method="inverted_cdf") for each in (exact, near)]
    return float((sides[0] != sides[1]).mean())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))


def machine() -> str:
    """The processor, its CPUs that this process may use, and those of its vector instructions that loops here use."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    used = ("sse4.2", "avx2", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512bf16", "amx-bf16", "neon", "sve")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{binding.get_host_cpu_name()}, {cpus} CPUs, with {' '.join(name for name in used if features.get(name))}"


def write_json(path: Path | None, ratios: Mapping[str, float | None], raw: Mapping[str, Any]) -> None:
    """Write `{"ratios": ..., "raw": ...}`, if there is a path. A ratio that could not be had is None."""
    if path is not None:
        path.write_text(json.dumps({"ratios": dict(ratios), "raw": {"machine": machine(), **raw}}, indent=2) + "\n")


if __name__ == "__main__":
    print(machine())
