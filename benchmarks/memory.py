"""Peak memory of the pipeline's processes on corpora of 16, 64 and 256 MiB: it should depend on the work unit alone.

    python benchmarks/memory.py [--json FILE] [--sizes 16,64,256] [--unit 8]

The pipeline is Corpus, Split by paragraph, Score, Calibrate, Thresholds, Place, Render, on a local Ray with two
workers. Its scorer is a Python function whose cost is the same for each byte. There is no near-duplicate filter:
clustering is one process's work, whose memory grows with the corpus. A corpus is two shards of one row group each, so
that row groups grow with it; its documents have 4,000 bytes of random lower-case words in ten paragraphs. A unit is
8 MiB, the default, and training shards aim at as much, since a whole one is held while it is rendered.

Each size has processes of its own. They first run the same pipeline on a small corpus of 32 units, so that all is
imported. What a process holds then is its idle memory, and its peak is set back to that (`/proc/<pid>/clear_refs`).
Peaks are the kernel's own (VmHWM), read twenty times a second, less pages of Ray's object store that the process has
touched, which all processes share: the most that one has of these is listed apart ("store"). A model is an actor,
started anew for each run: its idle memory is what those of the first run held. `peak_16x_over_1x` is the peak above
idle of the worst worker or model, on the largest corpus over the smallest: close to 1 is good. Linux only.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from processes import local_ray, measured_apart
from report import parser, print_table, write_json
from watch import Watch, totals

from annotate import (
    Calibrate,
    Corpus,
    Options,
    Pipeline,
    Place,
    PythonScorer,
    Render,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    score,
)
from annotate.engine.events import Silent
from annotate.stages.tables import text_buffer

WORKERS = 2
SHARDS = 2
WARM_UP = 0.5  # MiB, in 32 units
PARAGRAPH, PARAGRAPHS = 400, 10  # bytes, a document
DOCUMENT = PARAGRAPH * PARAGRAPHS
MIB = 1 << 20
KINDS = ("worker", "model", "driver")


def main() -> None:
    """Measure each size in a process of its own, print tables, write JSON."""
    options = parser(__doc__, runs=3)
    options.add_argument("--sizes", default="16,64,256", help="of the corpora, in MiB, rising")
    options.add_argument("--unit", type=float, default=8, help="of work, in MiB")
    options.add_argument("--measure", type=Path, help="only measure the corpus in this folder, and print JSON")
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(watched(chosen.measure, chosen.unit)))
        return
    sizes = [float(size) for size in chosen.sizes.split(",")]
    runs: dict[float, list[dict[str, Any]]] = {size: [] for size in sizes}
    for _ in range(chosen.runs):
        for size in sizes:
            runs[size].append(one(size, chosen.unit))
    write_json(chosen.json, show(runs, chosen.unit), {"unit_mib": chosen.unit, "runs": runs})


def one(size: float, unit: float) -> dict[str, Any]:
    """Make the corpora of one size and measure them."""

    def write(folder: Path) -> None:
        write_corpus(folder / "small", WARM_UP, seed=1)
        write_corpus(folder / "corpus", size, seed=0)

    return measured_apart(__file__, write, "--unit", str(unit))


def write_corpus(folder: Path, mib: float, seed: int) -> None:
    """Write a corpus of about so many MiB: whole documents, each with four bytes for its length."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    documents = int(0.99 * mib * MIB / SHARDS / (DOCUMENT + 4))
    for shard in range(SHARDS):
        letters = rng.integers(ord("a"), ord("z") + 1, documents * DOCUMENT, dtype=np.uint8)
        letters[rng.integers(0, len(letters), len(letters) // 6)] = ord(" ")
        letters.reshape(-1, PARAGRAPH)[:, -2:] = ord("\n")
        edges = np.arange(documents + 1, dtype=np.int64) * DOCUMENT
        texts = pa.LargeStringArray.from_buffers(documents, pa.py_buffer(edges), pa.py_buffer(letters))
        pq.write_table(pa.table({"text": texts}), folder / f"{shard}.parquet", use_dictionary=False)


def mean_byte(table: pa.Table) -> npt.NDArray[np.float32]:
    """The mean byte of each text: as many operations a byte, whatever the text."""
    offsets, data = text_buffer(table["text"].combine_chunks())
    sums = np.add.reduceat(np.frombuffer(data, np.uint8), offsets[:-1], dtype=np.int64)
    return (sums / np.diff(offsets)).astype(np.float32)


def pipeline(corpus: Path, unit: float) -> Pipeline:
    """Corpus to shards, without a near-duplicate filter."""
    size = int(unit * MIB)
    documents = Corpus(str(corpus), id=None, unit_bytes=size)
    spans = Split(documents, Splitter(by="paragraph"))
    scores = score(spans, scorers=[PythonScorer(function=mean_byte, axes=("mean",), version=1)])
    scheme = TagScheme(tags=(Tag(name="high", rule="mean >= q(0.7)"),))
    placements = Place(scores, None, Thresholds(scores, None, Calibrate(scores), scheme))
    return Pipeline(Render(documents, None, placements, part_bytes=size))


class Stages(Silent):
    """Tells a watch which stage runs, and notes when each was finished."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.finishes = [time.monotonic()]
        self.names: list[str] = []

    def started(self, stage: str, units: int, detail: str) -> None:
        """Peaks from now on are of this stage."""
        self.watch.now_doing(stage)

    def finished(self, stage: str, detail: str) -> None:
        """A stage is done."""
        self.names.append(stage)
        self.finishes.append(time.monotonic())

    def seconds(self) -> dict[str, float]:
        """Time of each stage."""
        return dict(zip(self.names, np.diff(self.finishes).tolist(), strict=True))


def watched(folder: Path, unit: float) -> dict[str, Any]:
    """Run the pipeline on the small corpus, then on the corpus; figures of the second run, in bytes and seconds."""
    options = Options(workers=WORKERS)
    with local_ray(WORKERS), Watch() as watch:
        pipeline(folder / "small", WARM_UP / 32).run(str(folder / "small-out"), options)
        watch.settle()
        stages = Stages(watch)
        watch.now_doing("open")
        pipeline(folder / "corpus", unit).run(str(folder / "out"), options, stages)
    return {
        "seconds": stages.seconds(),
        "above_idle": watch.above_idle(),
        "idle": {kind: [m.now for m in watch.idle.values() if m.kind == kind] for kind in KINDS},
        "shared": max(memory.shared for seen in watch.peaks.values() for memory in seen.values()),
    }


def show(runs: dict[float, list[dict[str, Any]]], unit: float) -> dict[str, float]:
    """Print a table of processes and one of stages; the ratio."""
    print(f"MiB above idle, units of {unit:g} MiB")
    rows, worst = [], {}
    for size, several in runs.items():
        peaks = {k: float(np.median([totals(run["above_idle"])[k] for run in several])) / MIB for k in KINDS}
        worst[size] = max(peaks["worker"], peaks["model"])
        seconds = float(np.median([sum(run["seconds"].values()) for run in several]))
        rows.append(
            [
                f"{size:g} MiB",
                *(f"{peaks[kind]:.1f}" for kind in KINDS),
                f"{worst[size] / unit:.1f}",
                f"{max(run['shared'] for run in several) / MIB:.1f}",
                f"{seconds:.1f}",
            ]
        )
    print_table(["corpus", *KINDS, "worst / unit", "store", "s"], rows)
    largest = runs[max(runs)][0]
    print(f"\nstages of {max(runs):g} MiB")
    rows = [
        [stage, *(f"{peaks.get(kind, 0) / MIB:.1f}" for kind in KINDS), f"{largest['seconds'].get(stage, 0):.1f}"]
        for stage, peaks in largest["above_idle"].items()
    ]
    print_table(["stage", *KINDS, "s"], rows)
    return {"peak_16x_over_1x": worst[max(runs)] / worst[min(runs)]}


if __name__ == "__main__":
    main()
