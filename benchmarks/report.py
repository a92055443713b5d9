"""What every benchmark does alike: its options, timing jobs in turn, printing a table, writing JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def parser(description: str | None, *, runs: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have: `--json FILE` and `--runs N`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="write ratios and raw figures to this file")
    made.add_argument("--runs", type=int, default=runs, help="of which the medians are taken")
    return made


def measure(
    jobs: Mapping[str, Callable[[], Any]],
    runs: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each job, all of them in turn (A B C A B C ...), so that a drift of the machine is in all of them.

    Args:
        jobs: what is timed, by name.
        runs: how often.
        warm_up: whether to do all once before, without counting.
        clock: what tells the time, in seconds.
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


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))


def write_json(path: Path | None, ratios: Mapping[str, float], raw: Mapping[str, Any]) -> None:
    """Write `{"ratios": ..., "raw": ...}`, where a path was given."""
    if path is not None:
        path.write_text(json.dumps({"ratios": dict(ratios), "raw": dict(raw)}, indent=2) + "\n")
