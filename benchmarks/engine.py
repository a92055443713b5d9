"""What the engine costs: against a plain loop, against raw Ray tasks, and against Ray Data.

    python benchmarks/engine.py [--units 2000] [--seconds 20] [--json FILE] [--runs 3]

- `overhead_1s_units`: the time of a map whose units take 1 s (`--seconds` of them) on one worker, over that of a plain
  loop that calls the same function and commits the same units, less 1.
- `units_vs_ray_tasks`: units in a second of a map that does no work, over those of raw Ray tasks, one for each unit,
  that write the same bytes with the same conditional create. Two workers.
- `driver_ms_per_unit`: CPU time of the driver for a unit of that map, in milliseconds; and of a stage with a model that
  does no work, which the table shows too.
- `vs_ray_data`: units in a second of that map, over blocks in a second of Ray Data, which maps as many blocks and
  writes each to a Parquet file. Left out if pandas, which Ray Data needs, is not installed.

The first and the third are better if small. Times do not include the start of Ray. CPU time of the driver includes that
of Ray's threads in it.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import overlap
import pyarrow as pa
import ray
from obstore.store import LocalStore
from overlap import Scores, Units, Work, write_schema
from report import measure, medians, parser, print_table, write_json

from annotate.engine import run as engine
from annotate.engine.options import Options
from annotate.graph import Stage
from annotate.storage import layout
from annotate.storage.parts import Entry, Part, UnitOutput, commit, parquet_bytes
from annotate.storage.store import Directory, checksum


def main() -> None:
    """Print the figures, and write them where `--json` says."""
    arguments = parser(__doc__, runs=3)
    arguments.add_argument("--units", type=int, default=2000)
    arguments.add_argument("--seconds", type=int, default=20)
    options = arguments.parse_args()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(overlap)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        figures = compare(root, write_schema(root), options.units, options.seconds, options.runs)
    seconds, cpu = figures["seconds"], figures["driver_cpu"]
    ratios = {
        "overhead_1s_units": seconds["slow_engine"] / seconds["slow_loop"] - 1,
        "units_vs_ray_tasks": seconds["ray_tasks"] / seconds["engine"],
        "driver_ms_per_unit": 1000 * cpu["engine"] / options.units,
    }
    if "ray_data" in seconds:
        ratios["vs_ray_data"] = seconds["ray_data"] / seconds["engine"]
    model_ms = 1000 * cpu["engine_model"] / options.units
    print(f"{options.units:,} units without work, two workers; {options.seconds} units of 1 s, one worker")
    print_table(["", "s"], [[name, f"{taken:.2f}"] for name, taken in seconds.items()])
    for name, value in ratios.items():
        print(f"{name}: {value:.3f}")
    print(f"driver_ms_per_unit, with a model: {model_ms:.3f}")
    write_json(options.json, ratios, {**figures, "units": options.units, "driver_ms_per_unit_model": model_ms})


def compare(root: Path, schema: str, units: int, slow: int, runs: int) -> dict[str, dict[str, float]]:
    """Run everything in turn; returns the median seconds, and the CPU seconds of the driver."""
    cpu: dict[str, list[float]] = {"engine": [], "engine_model": []}

    def counted(name: str, last: Stage) -> None:
        before = time.process_time()
        run(last, root, workers=2)
        cpu[name].append(time.process_time() - before)

    jobs: dict[str, Callable[[], Any]] = {
        "engine": partial(counted, "engine", Work("map", Units(units), 0.0, schema)),
        "engine_model": partial(counted, "engine_model", Scores(Units(units), 0.0, False, schema)),
        "ray_tasks": partial(raw_tasks, root, units),
    }
    if importlib.util.find_spec("pandas"):
        jobs["ray_data"] = partial(ray_data, root, units)
    seconds = medians(measure(jobs, runs))
    one = Work("slow", Units(slow), 1.0, schema)
    seconds |= medians(
        measure(
            {"slow_engine": partial(run, one, root, workers=1), "slow_loop": partial(plain_loop, one, root, slow)},
            1,
            warm_up=False,
        )
    )
    return {"seconds": seconds, "driver_cpu": medians({name: each[1:] for name, each in cpu.items()})}


def run(last: Stage, root: Path, *, workers: int) -> None:
    """Make the dataset of a stage in a new work directory."""
    options = Options(workers=workers, by_value=("__main__",))
    engine.run({"last": last}, str(root / f"run-{time.monotonic_ns()}"), options)


def plain_loop(last: Work, root: Path, units: int) -> None:
    """Make and commit the same units, one after the other, without the engine."""
    folder = Directory.at(root / f"loop-{time.monotonic_ns()}")
    for n in range(units):
        overlap.spend(last.seconds, busy=True)
        commit(folder, f"{n:024x}", UnitOutput(table_of(n)), schema=last.schema)


def raw_tasks(root: Path, units: int) -> None:
    """Make the same units, each in a Ray task of its own, which is all there is."""
    folder = root / f"tasks-{time.monotonic_ns()}"

    @ray.remote(num_cpus=1)
    def make(n: int) -> str:
        store = LocalStore(str(folder), mkdir=True)
        data = parquet_bytes(table_of(n))
        digest, key = checksum(memoryview(data)), f"{n:024x}"
        part = Part(layout.part(key, digest), 1, data.size, digest)
        obstore.put(store, part.path, memoryview(data).cast("B"))
        obstore.put(store, layout.entry(key), json.dumps(Entry(key, part).to_json()).encode(), mode="create")
        return key

    ray.get([make.remote(n) for n in range(units)])


def ray_data(root: Path, units: int) -> None:
    """Map as many blocks with Ray Data, and write each to a file."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    blocks = ray.data.range(units, override_num_blocks=units)
    blocks.map_batches(lambda batch: {"row": batch["id"], "value": batch["id"] + 1}).write_parquet(
        str(root / f"data-{time.monotonic_ns()}")
    )


def table_of(n: int) -> pa.Table:
    """The table of a unit."""
    return pa.table({"row": pa.array([n], pa.int64()), "value": pa.array(np.array([n + 1]), pa.int64())})


if __name__ == "__main__":
    main()
