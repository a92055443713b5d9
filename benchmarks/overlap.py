"""Time that is saved by stages that run at the same time: a CPU stage, a model stage, and a CPU stage.

    python benchmarks/overlap.py [--units 40] [--seconds 0.5] [--json FILE] [--runs 3]

Each stage takes `--seconds` for a unit; the two CPU stages are maps. There is one model, and two tasks run at a time. A
unit goes to the next stage as soon as it is committed (`flowing`); `staged` is the same run with one stage after the
other. A ratio is the time of `staged` over that of `flowing`. There is one for a model that waits, like a model on a
GPU, which leaves the CPUs to the other stages, and one for a model that computes on a CPU. All runs must make the same
bytes, which is checked. Times do not include the start of Ray, but that of the actor.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pyarrow as pa
import ray
from report import measure, medians, parser, print_table, write_json

from annotate.engine import run as engine
from annotate.engine.calls import Job
from annotate.engine.cluster import Resources
from annotate.engine.options import Options
from annotate.engine.scheduler import Scheduler
from annotate.graph import Listing, Map, Model, Rows, Source, Stage, Tables
from annotate.storage.manifests import Unit
from annotate.storage.parts import UnitOutput
from annotate.storage.store import Directory


def main() -> None:
    """Print the times, and write them where `--json` says."""
    arguments = parser(__doc__, runs=3)
    arguments.add_argument("--units", type=int, default=40)
    arguments.add_argument("--seconds", type=float, default=0.5)
    options = arguments.parse_args()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        schema = write_schema(root)
        jobs, made = {}, {}
        for kind, busy in (("waiting", False), ("computing", True)):
            last = pipeline(schema, options.units, options.seconds, busy=busy)
            for how in ("flowing", "staged"):
                name = f"{kind}_{how}"
                made[name] = []
                jobs[name] = partial(once, last, root, made[name], staged=how == "staged")
        run(pipeline(schema, 4, 0.0, busy=False), root / "warm")
        seconds = medians(measure(jobs, options.runs))
    assert len({bytes_ for each in made.values() for bytes_ in each}) == 1, "all runs must make the same bytes"
    ratios = {kind: seconds[f"{kind}_staged"] / seconds[f"{kind}_flowing"] for kind in ("waiting", "computing")}
    print(f"{options.units} units, {options.seconds} s a unit in each of three stages, one model, two tasks at a time")
    print_table(["", "s"], [[name, f"{taken:.1f}"] for name, taken in seconds.items()])
    for kind, ratio in ratios.items():
        print(f"staged over flowing, {kind} model: {ratio:.2f}")
    write_json(options.json, ratios, {"seconds": seconds, "units": options.units, "seconds_a_unit": options.seconds})


def write_schema(root: Path) -> str:
    """Write the contract of the stages here; returns its path."""
    columns = [{"name": "row", "type": "int64"}, {"name": "value", "type": "int64"}]
    (root / "values.json").write_text(json.dumps({"name": "values", "columns": columns, "other_columns": None}))
    return str(root / "values.json")


def once(last: Stage, root: Path, made: list[bytes], *, staged: bool) -> None:
    """Run in a new work directory, and add the bytes that the last stage has made to `made`."""
    workdir = root / f"run-{time.monotonic_ns()}"
    one_at_a_time = Scheduler.run

    def each(scheduler: Scheduler, jobs: Sequence[Job]) -> None:
        for job in jobs:
            one_at_a_time(scheduler, [job])

    with mock.patch.object(Scheduler, "run", each) if staged else nullcontext():
        run(last, workdir)
    parts = sorted((workdir / last.dataset / "parts").iterdir())
    made.append(b"".join(part.read_bytes() for part in parts))


def run(last: Stage, workdir: Path) -> None:
    """Make the dataset of the last stage."""
    options = Options(workers=2, by_value=("__main__",))
    with mock.patch("annotate.engine.cluster.Resources.of_models", one_model):
        engine.run({"last": last}, str(workdir), options)


def one_model(*asked: object) -> Resources:
    """The resources of one model, and what is left to tasks."""
    del asked
    return Resources(1, False, 0.2, 0.9)


def pipeline(schema: str, units: int, seconds: float, *, busy: bool) -> Stage:
    """A CPU stage, a model stage that computes or waits, and a CPU stage."""
    before = Work("before", Units(units), seconds, schema)
    return Work("after", Scores(before, seconds, busy, schema), seconds, schema)


def spend(seconds: float, *, busy: bool) -> None:
    """Compute, or wait."""
    if not busy:
        time.sleep(seconds)
        return
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@dataclass(frozen=True)
class Units(Source):
    """Units of one row."""

    units: int

    name: ClassVar[str] = "units"
    schema: ClassVar[str] = "corpus"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """None: it is a source."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def listing(
        self,
        new: Callable[[], Listing],
        found: Any,
        inputs: Mapping[str, Iterator[Unit]],
        *,
        limit: int | None,
        readers: Mapping[str, str],
    ) -> Listing:
        """List the units, each as large as a task may be."""
        listing = new()
        listing.add(Unit("units", n, n + 1, 8 << 20) for n in range(self.units))
        listing.writer.count("documents", self.units)
        return listing

    def read(self, directory: Directory, unit: Unit) -> pa.Table:
        """The number of the row."""
        return pa.table({"row": [unit.start], "value": [unit.start]})


@dataclass(frozen=True)
class Work(Map):
    """Computes for some time, and adds one."""

    called: str
    of: Stage
    seconds: float
    schema: str  # type: ignore[misc]

    name: ClassVar[str] = "work"

    @property
    def label(self) -> str:
        """Before or after."""
        return self.called

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The stage before it."""
        return {"of": self.of}

    def settings(self) -> Mapping[str, Any]:
        """Before or after."""
        return {"called": self.called}

    def unit(self, tables: Tables) -> UnitOutput:
        """Add one."""
        spend(self.seconds, busy=True)
        table = tables["of"]
        return UnitOutput(pa.table({"row": table["row"], "value": table["value"].to_numpy() + 1}))


@dataclass(frozen=True)
class Scores(Model):
    """Doubles, on a model that computes or waits."""

    of: Stage
    seconds: float
    busy: bool
    schema: str  # type: ignore[misc]
    threads: int = 1

    name: ClassVar[str] = "scores"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The stage before it."""
        return {"of": self.of}

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    @property
    def shared(self) -> Stage:
        """The stage before it; no other stage shares that."""
        return self.of

    def together(self, stages: Sequence[Stage]) -> str:
        """No other stage runs with this model."""
        return self.label

    def wanted(self, tables: Tables) -> Rows:
        """All rows."""
        rows: Rows = tables["of"]["row"].to_numpy()
        return rows

    def prepare(self, tables: Tables, rows: Rows) -> pa.Table:
        """The rows as they are."""
        return tables["of"]

    def load(self, stages: Sequence[Stage], device: str) -> str:
        """There is nothing to load."""
        return device

    def forward(
        self, model: Callable[[], str], prepared: pa.Table, stages: Sequence[Stage], wanted: Sequence[int]
    ) -> list[np.ndarray]:
        """Compute or wait, and double the values."""
        model()
        spend(self.seconds, busy=self.busy)
        return [prepared["value"].to_numpy() * 2 for _ in wanted]

    def finish(self, shard: str, prepared: pa.Table, result: np.ndarray, device: str, covered: Rows) -> UnitOutput:
        """Put the result beside the rows."""
        fresh = ~np.isin(prepared["row"].to_numpy(), covered)
        return UnitOutput(pa.table({"row": prepared["row"], "value": result}).filter(pa.array(fresh)))


if __name__ == "__main__":
    main()
