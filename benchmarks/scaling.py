"""What a large corpus takes, and what stops it: one and two workers measured, clusters of up to 4,096 simulated.

    python benchmarks/scaling.py [--megabytes 4] [--units 32] [--driver-units 1000000] [--json FILE]

The whole pipeline, from the near-duplicate filter to shards in training order, runs on a synthetic corpus on a local
Ray, with one worker and with two. The event log says what each stage took: calls, seconds of workers, requests to the
store. Two more runs, with four times the units and with four times the text, tell what grows with which.

From these the time of a large corpus is simulated, with units of the size that a run would choose, in this model:

- **Workers.** The seconds of all calls, by units and by bytes of text, over the workers. Models are not in it: the
  scorer is a function that costs nothing.
- **Driver.** One process makes all calls. Its CPU time for a unit is measured in the finer run, over all stages, with
  small units in one call as in any run. Its memory for `--driver-units` is measured as `driver_state.py` does.
- **Requests.** Requests of a unit are measured; those of shuffles are computed, in one level or two, for pieces and
  partitions in the numbers a unit that each shuffle had. Each waits for `--latency` seconds, and all of them go to
  prefixes that take `--rate` requests a second, one prefix for each dataset.
- **Last reduce.** A reduce merges 64 pieces at a time; each round waits for its slowest merge.

What takes longest is what stops it. A ratio is the speed of two workers over that of one.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from driver_state import driver_figures, rows_of
from processes import local_ray
from report import parser, print_table, write_json

from annotate import (
    Calibrate,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Place,
    PythonScorer,
    Render,
    Schedule,
    Split,
    Tag,
    TagScheme,
    Thresholds,
    score,
)
from annotate.engine.reduce import PIECES
from annotate.engine.shuffle import SMALL_READS
from annotate.engine.source import unit_size
from annotate.pipeline import make
from annotate.tally import REQUESTS

MIB = 1 << 20
TIMES = 4
WORKERS = (64, 512, 4096)
CORPORA = {"1 TB": 10**12, "100 TB": 10**14}


@dataclass(frozen=True)
class Measured:
    """What one run took.

    Attributes:
        workers: tasks at a time.
        units: work units.
        text_bytes: bytes of text.
        seconds: wall time.
        driver_seconds: CPU time of the driver.
        calls: of workers.
        worker_seconds: of these calls.
        requests: to the store.
        busiest: requests to the dataset that had most.
        merge_seconds: the longest call that ends a reduce.
        shuffles: pieces and partitions of each shuffle.
    """

    workers: int
    units: int
    text_bytes: int
    seconds: float
    driver_seconds: float
    calls: int
    worker_seconds: float
    requests: float
    busiest: float
    merge_seconds: float
    shuffles: Mapping[str, tuple[float, float]]


def main() -> None:
    """Measure, simulate, print, and write JSON."""
    arguments = parser(__doc__, runs=1)
    arguments.add_argument("--megabytes", type=float, default=4)
    arguments.add_argument("--units", type=int, default=32)
    arguments.add_argument("--latency", type=float, default=0.03, help="seconds that a request waits")
    arguments.add_argument(
        "--rate", type=float, default=3500, help="requests a second that a prefix takes (S3: writes)"
    )
    arguments.add_argument("--driver-units", type=int, default=1_000_000)
    options = arguments.parse_args()
    base, units = options.megabytes, options.units
    (one,) = measured(1, (base, units))
    two, finer, larger = measured(2, (base, units), (base, TIMES * units), (TIMES * base, units))
    all_ = (one, two, finer, larger)
    rows = [
        [f"{m.workers}", f"{m.units}", f"{m.text_bytes / 1e6:.1f}", f"{m.seconds:.1f}", f"{m.worker_seconds:.1f}"]
        for m in all_
    ]
    print_table(["workers", "units", "MB", "s", "s of all calls"], rows)
    costs = Costs.of(two, finer, larger)
    print("\n" + ", ".join(f"{name} {value:.4g}" for name, value in asdict(costs).items() if name != "shuffles") + "\n")
    simulated = {
        name: {
            workers: simulate(costs, size, workers, latency=options.latency, rate=options.rate) for workers in WORKERS
        }
        for name, size in CORPORA.items()
    }
    table = [
        [f"{name}, {workers:,}", *(f"{hours:,.2f}" for hours in limits.values()), max(limits, key=limits.__getitem__)]
        for name, by_workers in simulated.items()
        for workers, limits in by_workers.items()
    ]
    limits = list(next(iter(next(iter(simulated.values())).values())))
    print_table(["corpus, workers: hours", *limits, "limit"], table)
    raw = {
        "measured": [asdict(each) for each in all_],
        "costs": asdict(costs),
        "hours": {name: {str(n): limits for n, limits in each.items()} for name, each in simulated.items()},
        "latency": options.latency,
        "rate": options.rate,
        "driver": driver_figures(options.driver_units, max(WORKERS)),
    }
    print_table(["driver", "s", "peak, MiB", "sent, MiB"], rows_of(raw["driver"]))
    write_json(options.json, {"two_workers_over_one": one.seconds / two.seconds}, raw)


@dataclass(frozen=True)
class Costs:
    """What work costs.

    Attributes:
        worker_seconds_a_unit: seconds of workers for a unit, over all stages, however little text it has.
        worker_seconds_a_mb: and for a MB of text.
        driver_ms_a_unit: CPU time of the driver for a unit, over all stages.
        requests_a_unit: without the reads of slices.
        busiest_a_unit: those of the dataset that has most.
        merge_seconds: the end of a reduce.
        shuffles: pieces and partitions of each shuffle, for a unit.
    """

    worker_seconds_a_unit: float
    worker_seconds_a_mb: float
    driver_ms_a_unit: float
    requests_a_unit: float
    busiest_a_unit: float
    merge_seconds: float
    shuffles: Mapping[str, tuple[float, float]]

    @staticmethod
    def of(base: Measured, finer: Measured, larger: Measured) -> Costs:
        """What grows with the units, and what with the text: differences of runs, which are 0 at least."""

        def grown(name: str, more: Measured, by: str) -> float:
            difference = getattr(more, name) - getattr(base, name)
            return max(0.0, difference / max(1, getattr(more, by) - getattr(base, by)))

        return Costs(
            worker_seconds_a_unit=grown("worker_seconds", finer, "units"),
            worker_seconds_a_mb=1e6 * grown("worker_seconds", larger, "text_bytes"),
            driver_ms_a_unit=1e3 * grown("driver_seconds", finer, "units"),
            requests_a_unit=grown("requests", finer, "units"),
            busiest_a_unit=grown("busiest", finer, "units"),
            merge_seconds=larger.merge_seconds,
            shuffles={
                name: (pieces / finer.units, partitions / finer.units)
                for name, (pieces, partitions) in finer.shuffles.items()
            },
        )


def simulate(costs: Costs, size: int, workers: int, *, latency: float, rate: float) -> dict[str, float]:
    """Hours that a corpus would take if each of these were the only limit; a run takes at least the longest."""
    units = math.ceil(size / unit_size(size))
    reads = [slice_reads(units * pieces, units * partitions) for pieces, partitions in costs.shuffles.values()]
    slices = sum(reads)
    requests = units * costs.requests_a_unit + slices
    rounds = max(1, math.ceil(math.log(max(units / PIECES, 2), PIECES)))
    seconds = {
        "workers": (costs.worker_seconds_a_mb * size / 1e6 + costs.worker_seconds_a_unit * units) / workers,
        "waiting for requests": requests * latency / workers,
        "driver": units * costs.driver_ms_a_unit / 1e3,
        "requests to a prefix": (units * costs.busiest_a_unit + max(reads)) / rate,
        "slices of shuffles": slices * latency / workers,
        "last reduce": rounds * costs.merge_seconds,
    }
    return {name: taken / 3600 for name, taken in seconds.items()}


def slice_reads(pieces: float, partitions: float) -> float:
    """Slices that are read in a shuffle, in one level or two."""
    if pieces * partitions <= SMALL_READS:
        return pieces * partitions
    group = math.sqrt(partitions)
    return pieces * group + partitions * pieces / max(1, group // 2)


def measured(workers: int, *sizes: tuple[float, int]) -> list[Measured]:
    """Run the pipeline on new corpora of these megabytes and units, each in a new work directory, on one Ray."""
    with tempfile.TemporaryDirectory() as name, local_ray(workers):
        write_corpus(Path(name, "small"), MIB // 8)
        options = Options(workers=workers, by_value=("__main__",))
        make(pipeline(Path(name, "small"), MIB), Path(name, "warm"), options)  # modules are imported
        return [_measured(Path(name, str(n)), options, *size) for n, size in enumerate(sizes)]


def _measured(folder: Path, options: Options, megabytes: float, units: int) -> Measured:
    folder.mkdir()
    text_bytes = write_corpus(folder / "corpus", int(megabytes * MIB))
    began, own = time.perf_counter(), time.process_time()
    result = make(pipeline(folder / "corpus", text_bytes // units), folder / "out", options)
    seconds, own = time.perf_counter() - began, time.process_time() - own
    corpus = result.datasets[next(stage for stage in result.datasets if isinstance(stage, Corpus))]
    assert options.workers is not None and corpus.manifest is not None, "it was opened"
    calls, busy, requests, longest, shuffles = sums(folder / "out")
    return Measured(
        workers=options.workers,
        units=corpus.manifest.units,
        text_bytes=text_bytes,
        seconds=seconds,
        driver_seconds=own,
        calls=calls,
        worker_seconds=busy,
        requests=sum(requests.values()),
        busiest=max(n for stage, n in requests.items() if stage),
        merge_seconds=longest,
        shuffles=shuffles,
    )


def sums(workdir: Path) -> tuple[int, float, Mapping[str, float], float, dict[str, tuple[float, float]]]:
    """From the events: calls, their seconds, requests by stage, the slowest step that ends a reduce, and shuffles."""
    calls, seconds, longest = 0, 0.0, 0.0
    requests: defaultdict[str, float] = defaultdict(float)
    created: defaultdict[tuple[str, str], float] = defaultdict(float)
    for path in (workdir / "events").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if event.get("event") != "calls":
                continue
            made, taken = event.get("calls", 0), event.get("seconds", 0.0)
            calls, seconds = calls + made, seconds + taken
            if made and event["step"] in ("finish", "merge_pieces") and "annotations" not in event["stage"]:
                longest = max(longest, taken / made)
            created[event["stage"], event["step"]] += event["counts"].get(f"{REQUESTS}create", 0)
            for name, number in event["counts"].items():
                if name.startswith(REQUESTS):
                    requests[event["stage"]] += number
    shuffles = {stage: (n, created[stage, "receive"]) for (stage, step), n in created.items() if step == "send"}
    return calls, seconds, requests, longest, shuffles


def write_corpus(folder: Path, size: int) -> int:
    """Write four shards of documents of about 0.8 kB, of random words; returns the bytes of their text."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = np.array([f"w{i:x}" for i in range(20_000)], object)

    def sentence() -> str:
        return " ".join(words[rng.integers(0, len(words), 12)].tolist()).capitalize() + "."

    texts = [" ".join(sentence() for _ in range(11)) for _ in range(max(8, size // 800))]
    for shard in range(4):
        own = texts[shard::4]
        table = pa.table({"id": [f"{shard}-{i}" for i in range(len(own))], "text": own})
        pq.write_table(table, folder / f"{shard}.parquet", row_group_size=500)
    return sum(map(len, texts))


def lengths(table: pa.Table) -> npt.NDArray[np.float32]:
    """The length of each text: a score that costs next to nothing."""
    return pc.utf8_length(table["text"]).to_numpy().astype(np.float32)


def pipeline(corpus: Path, unit_bytes: int) -> Pipeline:
    """From the filter to shards in training order."""
    documents = Corpus(str(corpus), unit_bytes=unit_bytes)
    scorer = PythonScorer(function=lengths, axes=["length"], version="1")
    scores = score(Split(documents), skip=NearDuplicates(documents), scorers=[scorer])
    scheme = TagScheme(tags=[Tag(name="long", rule="length >= q(0.7)")])
    placements = Place(Thresholds(Calibrate(scores), scheme), schedule=Schedule())
    return Pipeline(Render(placements, part_bytes=8 * unit_bytes))


if __name__ == "__main__":
    main()
