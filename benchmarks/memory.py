"""Peak memory of the pipeline's processes on corpora of 16, 64 and 256 MiB. It should depend only on the work unit.

    python benchmarks/memory.py [--json FILE] [--sizes 16,64,256] [--unit 8] [--columns 20] [--outputs text,...]
                                [--warm-up 32]

The pipeline is Corpus, Split by paragraph, Score, Calibrate, Thresholds, Place, Render, on a local Ray with two
workers. Its scorer is a Python function with the same cost for each byte. There is no near-duplicate filter:
`duplicates_scale.py` measures it. A corpus has two shards of one row group each, so that row groups grow with it. Its
documents have 4,000 bytes of random lower-case words in ten paragraphs. A unit is 8 MiB, the default. Training shards
aim at as much, since a whole one is held while it is rendered.

Each size has processes of its own. They first run the same pipeline on a small corpus of `--warm-up` units, so that all
modules are imported. What a process holds after that is its idle memory, and the record of its peak is set back to it
(`/proc/<pid>/clear_refs`). A model is an actor that is started anew for each run, so its idle memory is what the models
of the first run held.

A peak is the kernel's (VmHWM), read twenty times a second, without the pages of Ray's object store that the process has
touched. All processes share these pages; the column "store" shows the most that one process has touched. Stages run at
the same time: a peak counts for each stage that was running. `peak_16x_over_1x` is the peak above idle of the worst
worker or model, on the largest corpus over the smallest: close to 1 is good. Linux only.

Then the smallest corpus is measured again with other columns, which are copied to the shards. They have `--columns`
times the size of the text: most of it is a string, the rest a list of structs. Pages have about a megabyte, because a
page is read whole (by default pyarrow would look at the size of a page only after each 1,024 values). There are four
outputs to choose from with `--outputs`: text shards and token shards, in corpus order and in training order. For each,
`columns_<output>` is the peak with other columns over the peak without. In training order, the pieces that are sent to
shards have several units each: `--sizes 32` has four units. `--outputs none` leaves this part out; `--sizes` with one
size leaves out the growth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from processes import local_ray, measured_apart
from report import parser, print_table, write_json
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from watch import Watch, totals

from annotate import (
    Corpus,
    Options,
    Pipeline,
    Place,
    PythonScorer,
    Render,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    TokenShards,
    score,
)
from annotate.engine.events import Silent
from annotate.stages.shared.tables import text_buffer

WORKERS = 2
SHARDS = 2
WARM_UP = 0.5  # MiB
PARAGRAPH, PARAGRAPHS = 400, 10  # bytes of a paragraph, paragraphs of a document
DOCUMENT = PARAGRAPH * PARAGRAPHS
MIB = 1 << 20
KINDS = ("worker", "model", "driver")
OUTPUTS = ("text", "text_shuffled", "tokens", "tokens_shuffled")
SNIPPET = 500  # bytes of a struct in a list
TOKENIZER, END = "tokenizer", "<|endoftext|>"

Runs = Mapping[Any, Sequence[Mapping[str, Any]]]


def main() -> None:
    """Measure each corpus in a process of its own, print tables, write JSON."""
    options = parser(__doc__, runs=3)
    options.add_argument("--sizes", default="16,64,256", help="sizes of the corpora in MiB, smallest first")
    options.add_argument("--unit", type=float, default=8, help="size of a work unit in MiB")
    options.add_argument("--columns", type=float, default=20, help="size of the other columns, over that of the text")
    options.add_argument("--outputs", default=",".join(OUTPUTS), help="measured with and without other columns")
    options.add_argument("--warm-up", type=int, default=32, help="units of the small corpus that is run first")
    options.add_argument("--measure", type=Path, help="only measure the corpus in this folder, and print JSON")
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(watched(chosen.measure, chosen.unit, chosen.outputs, chosen.warm_up)))
        return
    sizes = [float(size) for size in chosen.sizes.split(",")]
    outputs = [output for output in OUTPUTS if output in chosen.outputs.split(",")]
    runs: dict[float, list[dict[str, Any]]] = {size: [] for size in sizes if len(sizes) > 1}
    beside: dict[str, list[dict[str, Any]]] = {}
    for _ in range(chosen.runs):
        for size in runs:
            runs[size].append(one(size, chosen.unit, "text", chosen.warm_up))
        for output in outputs:
            for name, columns in ((output, 0.0), (f"{output}, columns", chosen.columns)):
                beside.setdefault(name, []).append(one(min(sizes), chosen.unit, output, chosen.warm_up, columns))
    ratios = show(runs, chosen.unit) if runs else {}
    ratios |= show_columns(beside, chosen.unit, outputs) if beside else {}
    write_json(chosen.json, ratios, {"unit_mib": chosen.unit, "runs": runs, "columns": beside})


def one(size: float, unit: float, output: str, warm_up: int, columns: float = 0.0) -> dict[str, Any]:
    """Make the corpora of one size and measure them."""

    def write(folder: Path) -> None:
        write_corpus(folder / "small", WARM_UP, seed=1, columns=columns)
        write_corpus(folder / "corpus", size, seed=0, columns=columns)
        if output.startswith("tokens"):
            write_tokenizer(folder / TOKENIZER, folder / "small")

    return measured_apart(__file__, write, "--unit", str(unit), "--outputs", output, "--warm-up", str(warm_up))


def write_corpus(folder: Path, mib: float, seed: int, columns: float = 0.0) -> None:
    """Write a corpus of about this many MiB: whole documents, each with four bytes for its length.

    Other columns have `columns` times the size of the text: three quarters are a string, the rest is a list of structs.
    Pages have few values; with the default, those of the string would have 60 MB.
    """
    folder.mkdir()
    rng = np.random.default_rng(seed)
    documents = int(0.99 * mib * MIB / SHARDS / (DOCUMENT + 4))
    html, snippets = int(DOCUMENT * columns * 3 / 4), round(DOCUMENT * columns / 4 / SNIPPET)
    for shard in range(SHARDS):
        letters = rng.integers(ord("a"), ord("z") + 1, documents * DOCUMENT, dtype=np.uint8)
        letters[rng.integers(0, len(letters), len(letters) // 6)] = ord(" ")
        letters.reshape(-1, PARAGRAPH)[:, -2:] = ord("\n")
        table = pa.table({"text": _strings(letters, DOCUMENT)})
        if columns:
            values = pa.StructArray.from_arrays(
                [pa.array(np.arange(documents * snippets)), _strings(_letters(rng, documents * snippets), SNIPPET)],
                names=["at", "text"],
            )
            edges = pa.array(np.arange(documents + 1) * snippets, pa.int32())
            table = table.append_column("html", _strings(_letters(rng, documents, html), html))
            table = table.append_column("snippets", pa.ListArray.from_arrays(edges, values))
        pq.write_table(table, folder / f"{shard}.parquet", use_dictionary=False, write_batch_size=16)


def _letters(rng: np.random.Generator, rows: int, length: int = SNIPPET) -> npt.NDArray[np.uint8]:
    """Random letters for this many strings."""
    return rng.integers(ord("a"), ord("z") + 1, rows * length, dtype=np.uint8)


def _strings(letters: npt.NDArray[np.uint8], length: int) -> pa.LargeStringArray:
    """Cut letters into strings of one length."""
    edges = np.arange(len(letters) // length + 1, dtype=np.int64) * length
    return pa.LargeStringArray.from_buffers(len(edges) - 1, pa.py_buffer(edges), pa.py_buffer(letters))


def write_tokenizer(folder: Path, corpus: Path) -> None:
    """Train a byte-level BPE on a corpus."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, special_tokens=[END], show_progress=False)
    made.train_from_iterator(pq.read_table(corpus, columns=["text"])["text"].to_pylist(), trainer)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END).save_pretrained(folder)


def mean_byte(table: pa.Table) -> npt.NDArray[np.float32]:
    """The mean byte of each text. The cost of a byte does not depend on the text."""
    offsets, data = text_buffer(table["text"].combine_chunks())
    sums = np.add.reduceat(np.frombuffer(data, np.uint8), offsets[:-1], dtype=np.int64)
    return (sums / np.diff(offsets)).astype(np.float32)


def pipeline(corpus: Path, unit: float, output: str, tokenizer: Path) -> Pipeline:
    """The pipeline from corpus to shards, without a near-duplicate filter."""
    size = int(unit * MIB)
    documents = Corpus(str(corpus), id=None, unit_bytes=size)
    spans = Split(documents, Splitter(by="paragraph"))
    scores = score(spans, scorers=[PythonScorer(function=mean_byte, axes=("mean",), version=1)])
    scheme = TagScheme(tags=(Tag(name="high", rule="mean >= q(0.7)"),))
    placements = Place(scores, scheme, schedule=Schedule() if output.endswith("shuffled") else None)
    if output.startswith("text"):
        return Pipeline(Render(placements, part_bytes=size))
    return Pipeline(TokenShards(placements, tokenizer=tokenizer, window=2048, loss="mask", part_bytes=size))


class Stages(Silent):
    """Tells a watch which stages are running (there can be several), and notes how long each took."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.going: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def started(self, stage: str, units: int, detail: str) -> None:
        """From now on, peaks count for this stage too."""
        self.going[stage] = time.monotonic()
        self.watch.now_doing(*self.going)

    def finished(self, stage: str, detail: str) -> None:
        """A stage is done."""
        if stage in self.going:
            self.seconds[stage] = time.monotonic() - self.going.pop(stage)
        self.watch.now_doing(*self.going or ["between stages"])


def watched(folder: Path, unit: float, output: str, warm_up: int) -> dict[str, Any]:
    """Run the pipeline on the small corpus, then on the corpus; returns figures of the second run (bytes, seconds)."""
    options = Options(workers=WORKERS)
    with local_ray(WORKERS), Watch() as watch:
        small = pipeline(folder / "small", WARM_UP / warm_up, output, folder / TOKENIZER)
        small.run(str(folder / "small-out"), options)
        watch.settle()
        stages = Stages(watch)
        watch.now_doing("open")
        began = time.monotonic()
        pipeline(folder / "corpus", unit, output, folder / TOKENIZER).run(str(folder / "out"), options, stages)
        wall = time.monotonic() - began
    return {
        "wall": wall,
        "seconds": stages.seconds,
        "above_idle": watch.above_idle(),
        "idle": {kind: [m.now for m in watch.idle.values() if m.kind == kind] for kind in KINDS},
        "shared": max(memory.shared for seen in watch.peaks.values() for memory in seen.values()),
    }


def show(runs: Runs, unit: float) -> dict[str, float]:
    """Print a table of processes and one of stages; returns the ratio."""
    print(f"MiB above idle, units of {unit:g} MiB")
    worst = _show_processes("corpus", {f"{size:g} MiB": several for size, several in runs.items()}, unit)
    largest = runs[max(runs)][0]
    print(f"\nstages of {max(runs):g} MiB")
    rows = [
        [stage, *(f"{peaks.get(kind, 0) / MIB:.1f}" for kind in KINDS), f"{largest['seconds'].get(stage, 0):.1f}"]
        for stage, peaks in largest["above_idle"].items()
    ]
    print_table(["stage", *KINDS, "s"], rows)
    return {"peak_16x_over_1x": worst[f"{max(runs):g} MiB"] / worst[f"{min(runs):g} MiB"]}


def show_columns(runs: Runs, unit: float, outputs: Sequence[str]) -> dict[str, float]:
    """Print a table of outputs with and without other columns, and one of their worst stages; returns the ratios."""
    print(f"\nMiB above idle, units of {unit:g} MiB, with other columns and without")
    worst = _show_processes("output", runs, unit)
    print("\nworst stages")
    rows = []
    for name, several in runs.items():
        peaks = {stage: max(seen.values(), default=0) for stage, seen in several[0]["above_idle"].items()}
        most = sorted(peaks, key=lambda stage: -peaks[stage])[:3]
        rows.append([name, ", ".join(f"{stage} {peaks[stage] / MIB:.1f}" for stage in most)])
    print_table(["output", "MiB"], rows)
    return {f"columns_{output}": worst[f"{output}, columns"] / worst[output] for output in outputs}


def _show_processes(what: str, runs: Runs, unit: float) -> dict[str, float]:
    """Print the peak of each kind of process in MiB, as a median of runs; returns that of the worst worker or model."""
    rows, worst = [], {}
    for name, several in runs.items():
        peaks = {k: float(np.median([totals(run["above_idle"])[k] for run in several])) / MIB for k in KINDS}
        worst[name] = max(peaks["worker"], peaks["model"])
        seconds = float(np.median([run["wall"] for run in several]))
        rows.append(
            [
                name,
                *(f"{peaks[kind]:.1f}" for kind in KINDS),
                f"{worst[name] / unit:.1f}",
                f"{max(run['shared'] for run in several) / MIB:.1f}",
                f"{seconds:.1f}",
            ]
        )
    print_table([what, *KINDS, "worst / unit", "store", "s"], rows)
    return worst


if __name__ == "__main__":
    main()
