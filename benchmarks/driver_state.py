"""What the driver needs for a corpus of many units: its memory and its time, one kind of stage after the other.

    python benchmarks/driver_state.py [--units 1000000] [--workers 4096] [--json FILE]

All of the driver is real: the list of units of a source and its manifest; the steps of a map, of a reduce and of a
shuffle of two levels; the scheduler; the manifests that they write. Only the calls are not made: each returns at once
what a worker would have committed. In each step the first call comes back last, so that all that may be ahead of it is
there at the same time. What would be sent to workers is pickled, and its bytes are counted. The ratio is the driver's
peak of memory over that for a tenth of the units.
"""

from __future__ import annotations

import itertools
import json
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from levels import Links
from overlap import Units, write_schema
from overlap import Work as Once
from processes import measured_apart
from report import parser, print_table, write_json

from annotate.engine.calls import Job
from annotate.engine.datasets import Dataset
from annotate.engine.events import Events, Silent
from annotate.engine.facts import forget_peak, peak_memory
from annotate.engine.kinds import MAKERS
from annotate.engine.options import Options
from annotate.engine.running import Running
from annotate.engine.scheduler import Scheduler
from annotate.engine.sharing import Share
from annotate.engine.source import open_source
from annotate.graph import Reduce, Stage
from annotate.storage import layout
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, Part, UnitOutput
from annotate.storage.store import Directory, checksum

MIB = 1 << 20


def main() -> None:
    """Print the figures, and write them where `--json` says."""
    arguments = parser(__doc__, runs=1)
    arguments.add_argument("--units", type=int, default=1_000_000)
    arguments.add_argument("--workers", type=int, default=4096)
    arguments.add_argument("--measure", type=Path)
    options = arguments.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.units, options.workers)))
        return
    figures = driver_figures(options.units, options.workers)
    print_table(["", "s", "peak, MiB", "sent, MiB"], rows_of(figures))
    write_json(options.json, {"memory_for_ten_times": ratio(figures)}, figures)


def driver_figures(units: int, workers: int) -> dict[str, Any]:
    """What the driver needs for these units, and for a tenth of them, each in a process of its own."""
    more = ("--workers", f"{workers}")
    return {
        f"{count}": measured_apart(__file__, lambda folder: None, "--units", f"{count}", *more)
        for count in (units // 10, units)
    }


def rows_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """The figures as rows of a table."""
    return [
        [f"{int(units):,} units, {stage}", *(f"{each[name]:.1f}" for name in ("seconds", "peak_mib", "sent_mib"))]
        for units, stages in figures.items()
        for stage, each in stages.items()
    ]


def ratio(figures: Mapping[str, Any]) -> float:
    """The memory of the driver over that for a tenth of the units."""
    few, many = (max(each["peak_mib"] for each in stages.values()) for stages in figures.values())
    return many / few


def measured(folder: Path, units: int, workers: int) -> dict[str, dict[str, float]]:
    """The CPU seconds, the peak of memory above that of the start, and the bytes sent, of each stage."""
    schema, workdir = write_schema(folder), Directory.at(folder / "out")
    source = Units(units)
    stages: list[Stage] = [Once("map", source, 0.0, schema), Kept(source, schema), Ranges(source)]
    running = Dry(workdir, Options(), Events(workdir, Silent()), Held(), share=Share(workers, 2 * workers))  # type: ignore[arg-type]
    idle, found = peak_memory(), {}

    def measure(name: str, work: Callable[[], Any]) -> Any:
        forget_peak()
        running.sent, began = 0, time.process_time()
        result = work()
        seconds = time.process_time() - began
        found[name] = {
            "seconds": seconds,
            "peak_mib": (peak_memory() - idle) / MIB,
            "sent_mib": running.sent / MIB,
        }
        return result

    opened = measure("source", partial(open_source, source, workdir))
    for stage in stages:
        dataset = Dataset(stage, workdir.child(stage.dataset), stage.fingerprint({}), {"of": opened}, stage.label)
        measure(stage.made_as, partial(make, dataset, running))
    return found


def make(dataset: Dataset, running: Dry) -> None:
    """Make a dataset, by the real steps and the real scheduler."""
    maker = MAKERS[dataset.stage.made_as]
    scheduler = Scheduler(lambda: running.share, 60.0, check=running.let_go)
    scheduler.run([Job(dataset.label, lambda: True, maker.steps([dataset], running))])
    assert dataset.manifest is not None, "it was committed"


class Held:
    """Stands for a lease."""

    def check(self) -> None:
        """It is held."""


@dataclass(frozen=True)
class Ref:
    """Stands for what is in Ray's memory."""

    size: int


@dataclass(eq=False)
class Result:
    """Stands for the reference of a result: `later` is one that comes when nothing else is to do."""

    made: Future[Any]

    def future(self) -> Future[Any]:
        """The result."""
        return self.made


@dataclass
class Dry(Running):
    """A run whose calls return at once, and make nothing.

    Attributes:
        share: what the run may have of the cluster.
        sent: bytes that were sent to workers.
    """

    share: Share = field(default_factory=lambda: Share(1, 1))
    sent: int = 0
    _calls: int = 0
    _seen: int = 0
    _last: str = ""
    _waits: list[tuple[Future[Any], Any]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def workers(self) -> int:
        """Number of tasks at a time."""
        return self.share.workers

    def put(self, data: Any) -> Any:
        """Count the bytes."""
        size = len(pickle.dumps(data, 5))
        self.sent += size
        return Ref(size)

    def task(
        self, function: Callable[..., Any], cpus: float, *arguments: Any, stage: str, units: str, retries: int = 0
    ) -> Any:
        """What a worker would have committed. The first of each step waits for all that may be ahead of it."""
        del cpus, stage, units, retries
        self._calls += 1
        self.sent += len(pickle.dumps(arguments, 5))
        made = getattr(self, function.__name__)(*arguments[1:])
        future: Future[Any] = Future()
        if function.__name__ != self._last:
            self._last = function.__name__
            self._waits.append((future, made))
        else:
            future.set_result(made)
        return Result(future)

    def let_go(self) -> None:
        """Return what was held back, if no more was sent since the scheduler looked last."""
        if self._calls == self._seen and self._waits:
            future, made = self._waits.pop()
            future.set_result(made)
        self._seen = self._calls

    def _unit(self, *place: Any, slices: bool = False) -> Unit:
        key = checksum(repr(next(self._number)).encode())
        name = layout.sliced_part if slices else layout.part
        return Unit(*(place or ("", 0, 0, 0)), (Entry(key[:24], Part(name(key[:24], key), 1, 1 << 20, key)),))

    def make(self, groups: Sequence[Sequence[Any]]) -> Any:
        """The units of a map."""
        return [[self._unit(work.shard, work.start, work.stop, work.text_bytes) for work in group] for group in groups]

    def make_piece(self, *_: Any) -> Any:
        """The piece of a reduce."""
        return self._unit()

    merge_pieces = finish = make_piece

    def send(self, *_: Any) -> Any:
        """What a task of a shuffle sends."""
        return self._unit(slices=True)

    def regroup(self, groups: range, *_: Any) -> Any:
        """What a task of the middle level sends on."""
        return [self._unit(slices=True) for _ in groups]

    def receive(self, works: Sequence[Any], *_: Any) -> Any:
        """The units of partitions."""
        return [self._unit() for _ in works]


@dataclass(frozen=True)
class Kept(Reduce):
    """Reads units one by one, and is one unit."""

    of: Stage
    schema: str  # type: ignore[misc]

    name: ClassVar[str] = "kept"
    piece_schema: ClassVar[str] = "corpus"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The source."""
        return {"of": self.of}

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def piece(self, tables: Any) -> pa.Table:
        """No piece is made."""
        raise NotImplementedError

    def merge(self, pieces: Any) -> pa.Table:
        """Nothing is merged."""
        raise NotImplementedError

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Nothing is made."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ranges(Links):
    """A shuffle whose partitions are ranges of units."""

    of: Stage

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The source."""
        return {"of": self.of}


if __name__ == "__main__":
    main()
