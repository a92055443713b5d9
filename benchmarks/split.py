"""MB/s of UTF-8 text that `Splitter.split` splits on one core. Texts are docstrings of the standard library.

    python benchmarks/split.py [--megabytes 8] [--json FILE] [--runs 5]

`python_regex` is there to compare with: a loop over documents that finds ends of sentences with one regular expression
and makes the same table. The ratio is the rate of the sentence splitter over that of the loop. Jobs run in turn; rates
are medians, in CPU time of the process. Memory is measured in a process of its own: its peak less what it held before
the split (Linux only).
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import feather
from report import measure, medians, parser, print_table, write_json
from texts import docstrings

from annotate.text.splitting import SPANS, Splitter

SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s)|(?=\n\s*\n)")


def main() -> None:
    """Print the rates, and write them where `--json` says."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--megabytes", type=float, default=8.0)
    arguments.add_argument("--peak", type=Path, help="only print the peak memory of splitting this Arrow file, in MiB")
    options = arguments.parse_args()
    if options.peak:
        print(peak_mib(options.peak))
        return
    texts = corpus(options.megabytes)
    megabytes = sum(map(len, (text.encode() for text in texts.to_pylist()))) / 1e6
    ways: dict[str, Callable[[pa.Array], pa.Table]] = {
        by: Splitter(by=by).split for by in ("sentence", "line", "paragraph", "document")
    }
    ways["python_regex"] = python_regex
    jobs = {name: partial(split, texts) for name, split in ways.items()}
    seconds = measure(jobs, options.runs, clock=time.process_time)
    rates = {name: megabytes / taken for name, taken in medians(seconds).items()}
    peak = peak_of_own_process(texts)
    ratios = {"python_regex": rates["sentence"] / rates["python_regex"]}
    print(f"{len(texts):,} documents, {megabytes:.1f} MB")
    print_table(["", "MB/s"], [[name, f"{rate:.1f}"] for name, rate in rates.items()])
    print(f"sentence over python_regex: {ratios['python_regex']:.2f}")
    print(f"peak memory over text: {peak * 2**20 / megabytes / 1e6:.2f}")
    write_json(options.json, ratios, {"mb_per_s": rates, "megabytes": megabytes, "peak_mib": peak})


def corpus(megabytes: float) -> pa.Array:
    """Docstrings of the standard library, repeated until there are this many megabytes."""
    once = list(docstrings())
    texts, size = [], 0
    while size < megabytes * 1e6:
        for text in once:
            texts.append(text)
            size += len(text.encode())
            if size >= megabytes * 1e6:
                break
    return pa.array(texts, pa.large_string())


def python_regex(texts: pa.Array) -> pa.Table:
    """The loop that one would write first. It makes the same table, but knows neither abbreviations nor layouts."""
    columns: list[list[int]] = [[], [], [], [], []]
    for document, text in enumerate(texts.to_pylist()):
        start = byte_start = 0
        ends = sorted({*(match.end() for match in SENTENCE_END.finditer(text)), len(text)} - {0})
        for end in ends:
            byte_end = byte_start + len(text[start:end].encode())
            for column, value in zip(columns, (document, start, end, byte_start, byte_end), strict=True):
                column.append(value)
            start, byte_start = end, byte_end
    return pa.table([pa.array(column, pa.int64()) for column in columns], schema=SPANS)


def peak_of_own_process(texts: pa.Array) -> float:
    """Peak memory in MiB of a process that only splits by sentence, less what it held before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.arrow"
        feather.write_feather(pa.table({"text": texts}), file, compression="uncompressed")
        own = subprocess.run([sys.executable, __file__, "--peak", file], check=True, capture_output=True, text=True)
    return float(own.stdout)


def peak_mib(file: Path) -> float:
    """By how many MiB the resident memory of this process rises when it splits a file's texts, the result included."""
    texts = feather.read_table(file, memory_map=False)["text"].combine_chunks()
    Splitter().split(pa.array(["Warm up."]))
    before, peak, done = resident_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    spans = Splitter().split(texts)
    peak = max(peak, resident_mib())
    done.set()
    watcher.join()
    return peak - before if len(spans) else 0.0


def resident_mib() -> float:
    """Resident memory of this process in MiB, from Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
