"""Time for each document, and memory of a process, of the near-duplicate filter, as the corpus grows 4 and 16 times.

    python benchmarks/duplicates_scale.py [--json FILE] [--documents 40000,160000,640000]

Documents are synthetic, with 40 to 240 words out of 20,000, and with clusters like those of real corpora: 30 % of the
documents are copies of an earlier one. A third of the copies are exact; in the others, one to eight words are changed.

The whole filter runs on a local Ray with two workers. Each size has a process of its own, which first runs the filter
on a small corpus, so that all modules are imported. Memory is the worst worker's peak above what it held after this
first run; it is read as in `memory.py`. Units are 1 MiB, so that the smallest corpus has several ranges of units. Linux
only.

Two ratios compare the largest corpus with the smallest: `time_per_document_16x_over_1x` and `peak_16x_over_1x`. Close
to 1 is good. The bytes that the filter writes for each document and the rows of each shuffle are printed too.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from processes import local_ray, measured_apart
from report import parser, print_table, write_json
from watch import Watch, totals

from annotate import Corpus, NearDuplicates, Options, Pipeline
from annotate.graph import Shuffle
from annotate.pipeline import make

WORKERS = 2
SHARDS = 4
SMALL = 2000
UNIT = 1 << 20
MIB = 1 << 20


def main() -> None:
    """Measure each size in a process of its own, print a table, write JSON."""
    options = parser(__doc__, runs=1)
    options.add_argument("--documents", default="40000,160000,640000", help="numbers of documents, smallest first")
    options.add_argument("--measure", type=Path, help="only measure the corpus in this folder, and print JSON")
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(watched(chosen.measure)))
        return
    runs: dict[int, list[dict[str, Any]]] = {}
    for documents in map(int, chosen.documents.split(",")):
        runs[documents] = [one(documents) for _ in range(chosen.runs)]
    write_json(chosen.json, show(runs), {"runs": runs})


def one(documents: int) -> dict[str, Any]:
    """Make the corpora of one size and measure them."""

    def write(folder: Path) -> None:
        write_corpus(folder / "small", SMALL, seed=1)
        write_corpus(folder / "corpus", documents, seed=0)

    return measured_apart(__file__, write)


def write_corpus(folder: Path, documents: int, seed: int) -> None:
    """Write documents, some of them copies, in four shards."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i:x}" for i in range(20_000)], object)
    texts: list[str] = []
    originals: list[list[str]] = []
    for copied, exact in zip(rng.random(documents) < 0.3, rng.random(documents) < 1 / 3, strict=True):
        if copied and originals:
            own = list(originals[rng.integers(len(originals))])
            for place in rng.integers(0, len(own), 0 if exact else rng.integers(1, 9)):
                own[place] = f"x{rng.integers(1 << 30):x}"
        else:
            own = words[rng.integers(0, len(words), rng.integers(40, 240))].tolist()
            originals.append(own)
        texts.append(" ".join(own))
    for shard in range(SHARDS):
        pq.write_table(pa.table({"text": texts[shard::SHARDS]}), folder / f"{shard}.parquet")


def watched(folder: Path) -> dict[str, Any]:
    """Filter the small corpus, then the corpus; returns figures of the second run, in bytes and seconds."""
    with local_ray(WORKERS), Watch() as watch:
        filtered(folder / "small", folder / "small-out")
        watch.settle()
        watch.now_doing("filter")
        started = time.perf_counter()
        result, verdicts = filtered(folder / "corpus", folder / "out")
        seconds = time.perf_counter() - started
    manifest = result.datasets[verdicts].manifest
    assert manifest is not None
    written: dict[str, int] = {}
    rows: dict[str, int] = {}
    for stage, dataset in result.datasets.items():
        directory = folder / "out" / stage.dataset
        written[dataset.label] = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        if isinstance(stage, Shuffle) and dataset.manifest is not None:
            rows[dataset.label] = dataset.manifest.rows
    return {
        "seconds": seconds,
        "above_idle": watch.above_idle(),
        "counts": dict(manifest.counts),
        "written": written,
        "rows": rows,
    }


def filtered(corpus: Path, workdir: Path) -> tuple[Any, NearDuplicates]:
    """Run the filter."""
    verdicts = NearDuplicates(Corpus(str(corpus), id=None, unit_bytes=UNIT))
    return make(Pipeline(verdicts), workdir, Options(workers=WORKERS)), verdicts


def show(runs: dict[int, list[dict[str, Any]]]) -> dict[str, float]:
    """Print a table, and the bytes written; returns the ratios."""
    rows, peaks, times = [], [], []
    for documents, several in runs.items():
        seconds = float(np.median([run["seconds"] for run in several]))
        found = [totals(run["above_idle"]) for run in several]
        peak, driver = (float(np.median([each[kind] for each in found])) / MIB for kind in ("worker", "driver"))
        times.append(seconds / documents)
        peaks.append(peak)
        dropped = several[0]["counts"]["near_duplicates"] / documents
        figures = (f"{dropped:.1%}", f"{seconds:.1f}", f"{times[-1] * 1e3:.3f}", f"{peak:.0f}", f"{driver:.1f}")
        rows.append([f"{documents:,}", *figures])
    print_table(["documents", "dropped", "s", "ms a document", "worker MiB", "driver MiB"], rows)
    documents, (largest, *_) = list(runs.items())[-1]
    print("\nwritten, bytes a document")
    for label, size in sorted(largest["written"].items(), key=lambda item: -item[1]):
        pairs = largest["rows"].get(label)
        print(f"{label:24} {size / documents:8.1f}" + (f"   {pairs / documents:6.2f} rows a document" if pairs else ""))
    return {"time_per_document_16x_over_1x": times[-1] / times[0], "peak_16x_over_1x": peaks[-1] / peaks[0]}


if __name__ == "__main__":
    main()
