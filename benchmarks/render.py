"""MB/s from annotations to tagged text, compared with a loop that joins strings and with one copy of the bytes.

    python benchmarks/render.py [--json FILE] [--megabytes 64] [--runs 5]

Annotations are spans with three scores. They and the texts are in memory, and thresholds are fitted beforehand. The
jobs are:

    annotate       place the tags and render the text
    to_parquet     the same, and write text and placements as Parquet bytes (Zstandard)
    python_join    a loop over documents that slices the text and joins the pieces with the tags whose rules hold
    memory_copy    copy the bytes of the rendered text once, into memory that is already there

All jobs run in turn, and their medians are compared. MB are of untagged text. By default, rules are computed on all
cores, which is about a twentieth of the time: set POLARS_MAX_THREADS=1 for one thread throughout. The corpus is
synthetic: lower-case words in documents of about 1 KB, with spans of about 100 bytes. Takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import measure, medians, parser, print_table, write_json

from annotate.tags import DEFAULT_SCHEME
from annotate.tags.conditions import Quantile
from annotate.tags.group_quantiles import fit_quantiles
from annotate.tags.placing import place
from annotate.tags.rendering import render
from annotate.tags.rules import ThresholdValues
from annotate.tags.states import Measured

SCHEME = replace(DEFAULT_SCHEME, document_dropout=0.0)  # the loop has no dropout

MEAN_DOCUMENT, MEAN_SPAN = 1024, 100  # bytes


def synthetic(size: int, seed: int = 0) -> tuple[pa.LargeStringArray, pa.Table, dict[str, np.ndarray]]:
    """Make texts of `size` bytes in all, their spans, and float32 scores by axis."""
    rng = np.random.default_rng(seed)
    letters = rng.integers(ord("a"), ord("z") + 1, size, dtype=np.uint8)
    letters[rng.integers(0, size, size // 6)] = ord(" ")
    starts = np.unique(np.concatenate(([0, size], rng.integers(0, size, size // MEAN_DOCUMENT))))
    texts = pa.Array.from_buffers(
        pa.large_string(), len(starts) - 1, [None, pa.py_buffer(starts.astype(np.int64)), pa.py_buffer(letters)]
    )
    cuts = np.unique(np.concatenate((starts, rng.integers(0, size, size // MEAN_SPAN - len(starts)))))
    row = np.searchsorted(starts, cuts[:-1], side="right") - 1
    start, end = cuts[:-1] - starts[row], cuts[1:] - starts[row]
    span = np.arange(len(row)) - np.searchsorted(row, row)
    spans = pa.table({"row": row, "span": span, "start": start, "end": end, "byte_start": start, "byte_end": end})
    scores = {axis: rng.normal(size=len(row)).astype(np.float32) for axis in DEFAULT_SCHEME.axes}
    return texts, spans, scores


def python_join(
    texts: pa.LargeStringArray,
    spans: pa.Table,
    scores: dict[str, np.ndarray],
    thresholds: ThresholdValues,
) -> pa.LargeStringArray:
    """The loop that one would write first: over documents and spans, with slices and a join."""
    nice, tone, correct = (thresholds[Quantile(axis, 0.7)] for axis in ("niceness", "tone", "correctness"))
    rows, starts, ends = (spans[name].to_pylist() for name in ("row", "start", "end"))
    niceness, tones, correctness = (scores[axis].tolist() for axis in ("niceness", "tone", "correctness"))
    tagged = []
    span, n = 0, len(rows)
    for document, text in enumerate(texts.to_pylist()):
        pieces = []
        while span < n and rows[span] == document:
            if niceness[span] >= nice:
                pieces.append("<nice>")
            if tones[span] >= tone:
                pieces.append("<authoritative_tone>")
            if correctness[span] >= correct:
                pieces.append("<correct>")
            pieces.append(text[starts[span] : ends[span]])
            span += 1
        tagged.append("".join(pieces))
    return pa.array(tagged, pa.large_string())


def parquet_bytes(tagged: pa.LargeStringArray, placements: pa.Table) -> int:
    """Write the tagged text and the placements as Parquet in memory; returns the number of bytes."""
    size = 0
    for table in (pa.table({"text": tagged}), placements):
        sink = pa.BufferOutputStream()
        # Whole texts hardly repeat: a dictionary of them costs time to build and would be thrown away.
        pq.write_table(table, sink, compression="zstd", use_dictionary=["tag", "kind"])
        size += sink.getvalue().size
    return size


def main() -> None:
    """Run, print a table, write JSON."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--megabytes", type=float, default=64)
    options = arguments.parse_args()

    pa.set_cpu_count(1)
    texts, spans, scores = synthetic(int(options.megabytes * 1_000_000))
    thresholds = fit_quantiles(DEFAULT_SCHEME.quantiles, scores, {})
    measured = Measured(spans=spans, scores=scores, thresholds=thresholds, curves={}, columns={}, shard="")

    def annotate() -> tuple[pa.LargeStringArray, pa.Table]:
        placements = place(measured, SCHEME)
        return render(texts, placements), placements

    tagged, placements = annotate()
    if not tagged.equals(python_join(texts, spans, scores, thresholds)):
        raise SystemExit("the two ways gave different text")
    rendered = np.frombuffer(tagged.buffers()[2], np.uint8)
    there = np.zeros_like(rendered)
    jobs: dict[str, Callable[[], Any]] = {
        "annotate": annotate,
        "to_parquet": lambda: parquet_bytes(*annotate()),
        "python_join": lambda: python_join(texts, spans, scores, thresholds),
        "memory_copy": lambda: np.copyto(there, rendered),
    }
    seconds = measure(jobs, options.runs)
    median = medians(seconds)
    ratios = {name: median[name] / median["annotate"] for name in ("python_join", "memory_copy")}
    print(f"{len(texts):,} documents, {spans.num_rows:,} spans, {placements.num_rows:,} placements")
    rows = [
        [
            name,
            f"{taken * 1e3:.1f}",
            f"{options.megabytes / taken:.0f}",
            f"{ratios[name]:.2f}" if name in ratios else "",
        ]
        for name, taken in median.items()
    ]
    print_table(["", "ms", "MB/s", "theirs / ours"], rows)
    raw = {
        "seconds": seconds,
        "megabytes": options.megabytes,
        "documents": len(texts),
        "spans": spans.num_rows,
        "placements": placements.num_rows,
        "tagged_bytes": len(rendered),
        "parquet_bytes": parquet_bytes(tagged, placements),
    }
    write_json(options.json, ratios, raw)


if __name__ == "__main__":
    main()
