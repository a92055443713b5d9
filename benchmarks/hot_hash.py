"""What meets in one task when millions of documents share a hash, after each unit has folded its copies.

    python benchmarks/hot_hash.py [--units 1000000] [--json FILE]

One page is in each of `--units` work units, many times: two rows of a unit go to the partition of its exact hash, one
to that of each band; one to the range of the earliest copy, where they are joined; and eight to the choice of the
keeper. In the last line as many different pages share one band, which no unit can fold. The real functions of the
stages are given these rows. Memory is what a task takes above the rows. The ratio is the time for a million different
pages of one band, over that for as many copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from report import parser, print_table, write_json

from annotate import Corpus, NearDuplicates
from annotate.engine.facts import forget_peak, peak_memory
from annotate.graph import Received, Shuffle, graph
from annotate.stages.duplicates.candidates import Candidates
from annotate.stages.duplicates.clusters import LISTED, Keepers
from annotate.stages.duplicates.components import Components
from annotate.storage.contracts import contract

MIB = 1 << 20


def main() -> None:
    """Print the figures, and write them where `--json` says."""
    arguments = parser(__doc__, runs=1)
    arguments.add_argument("--units", type=int, default=1_000_000)
    options = arguments.parse_args()
    n = options.units
    stages: dict[type, Any] = {type(stage): stage for stage in graph([NearDuplicates(Corpus("none"))])}
    one, unit = np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64) << np.uint64(32)
    jobs: dict[str, Callable[[], dict[str, float]]] = {
        "exact hash": partial(measured, stages[Candidates], [copies(unit, 2), *[np.repeat(one, 2)] * 2], (1, 0, 2)),
        "band": partial(measured, stages[Candidates], [unit, one, one], (1, 0, 2)),
        "joined": partial(measured, stages[Components], [one, unit + np.uint64(1)], (0, 1)),
        "keeper": partial(
            measured,
            stages[Keepers],
            [np.repeat(one, LISTED), copies(unit, LISTED), np.ones(LISTED * n), ones(n)],
            range(4),
        ),
        "different pages, band": partial(measured, stages[Candidates], [unit, one, unit], (1, 0, 2)),
    }
    figures = {name: job() for name, job in jobs.items()}
    rows = [
        [name, *(f"{each[key]:,.1f}" for key in ("rows_in", "rows_out", "seconds", "peak_mib"))]
        for name, each in figures.items()
    ]
    print_table(["", "rows in", "rows out", "s", "MiB above"], rows)
    ratio = figures["different pages, band"]["seconds"] / figures["band"]["seconds"]
    write_json(options.json, {"different_over_equal": ratio}, {"units": n, **figures})


def copies(unit: np.ndarray, number: int) -> np.ndarray:
    """The first copies in each unit."""
    return (unit[:, None] | np.arange(number, dtype=np.uint64)).ravel()


def ones(units: int) -> np.ndarray:
    """For how many documents each listed copy stands."""
    return np.tile(np.array([1] * (LISTED - 1) + [993]), units)


def measured(stage: Shuffle, columns: list[np.ndarray], order: Any) -> dict[str, float]:
    """What the partition takes that receives these rows."""
    schema = contract(stage.sent_schema).schema
    arrays = [np.zeros(len(columns[0]), np.int32), *(columns[at] for at in order)]
    sent = pa.table(
        [pa.array(array).cast(kind) for array, kind in zip(arrays, schema.types, strict=True)], schema=schema
    )

    def receive(table: pa.Table) -> int:
        outputs: Iterator[Any] = stage.receive(Received(0, lambda: iter([table])))
        return sum(output.table.num_rows for output in outputs)

    receive(sent.slice(0, 10))  # modules are imported
    forget_peak()
    idle, began = peak_memory(), time.process_time()
    made = receive(sent)
    seconds = time.process_time() - began
    return {"rows_in": sent.num_rows, "rows_out": made, "seconds": seconds, "peak_mib": (peak_memory() - idle) / MIB}


if __name__ == "__main__":
    main()
