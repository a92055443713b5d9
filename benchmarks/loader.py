"""Samples/s of `annotate.training.ShardDataset` through a DataLoader, against `datasets` and MosaicML streaming.

    python benchmarks/loader.py [--windows 2000] [--workers 0] [--streaming-python PYTHON] [--json FILE] [--runs 5]

All jobs give the same windows of 2,048 tokens, from four parts, in batches of 16, with `input_ids` and `labels` as
int64 tensors. A check compares the sums of all ids and labels. The windows are docstrings of the standard library with
tags, made as in `tokens.py` and repeated until there are enough. An epoch is timed, of a DataLoader that is already
built:

    annotate           ShardDataset on the Hugging Face export
    datasets           the same export, with `load_dataset(streaming=True)` and `with_format("torch")`
    datasets_batches   the same with `with_format("numpy").batch(16)`, so that the DataLoader makes no batches: its
                       fastest way
    streaming          StreamingDataset on the MDS export; labels are made from ids and mask
    streaming_lean     StreamingDataset on MDS shards of only the two columns, by MDSWriter: its fastest way

Then the same is timed with shuffling: `datasets` has a buffer of 1,000 samples, the others have their defaults
(annotate mixes 16 row groups). `datasets` is left out if it is not installed. MosaicML streaming needs an older NumPy
than this project, so it runs in a process of its own, which answers through a pipe. `--streaming-python` names the
Python for it (default: that of `make consumers`); it is left out if there is none.

A ratio is our rate over theirs. Jobs run in turn; rates are medians, in CPU time of all threads and worker processes.
Wall times are in the JSON: with workers, reading and training overlap.
"""

from __future__ import annotations

import importlib.util
import os

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from loader_peer import CHECK, COLUMNS, TIME, Pass, one_pass
from report import medians, parser, print_table, write_json
from texts import docstrings
from tokens import END, TAGS, WINDOW, annotated, byte_level, packed
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from annotate.exports.huggingface import HuggingFace
from annotate.exports.mds import Mds
from annotate.exports.windows import Vocabulary
from annotate.exports.write import write_export
from annotate.storage.store import Directory
from annotate.tokens import TextTokenizer, add_tags, token_table
from annotate.training import ShardDataset

BATCH, PARTS, BUFFER = 16, 4, 1000
PEER = Path(__file__).with_name("loader_peer.py")
CONSUMER = Path(__file__).parents[1] / ".consumers" / "mds" / "bin" / "python"
LEAN = "mds-lean"
CLOCKS = ("cpu", "wall")

Job = Callable[[str], Pass]
"""Makes a pass: "check" also sums up the ids and labels in it, "time" only times it."""


def write_shards(folder: Path, windows: int) -> None:
    """Write this many windows as a Hugging Face export and as an MDS export."""
    documents = list(docstrings())
    tokenizer = byte_level(documents)
    tagged, vocabulary = add_tags(PreTrainedTokenizerFast(tokenizer_object=tokenizer), TAGS)
    end = tokenizer.token_to_id(END)
    megabytes = min(sum(len(text.encode()) for text in documents), windows * WINDOW * 4) / 1e6
    table = token_table(*packed(annotated(documents, megabytes), TextTokenizer(tagged), vocabulary, end))
    table = pa.concat_tables([table] * -(-windows // table.num_rows)).slice(0, windows)
    rows = -(-windows // PARTS)
    parts = [table.slice(start, rows) for start in range(0, windows, rows)]
    known = Vocabulary(tokenizer="benchmark", size=len(tagged), eos=end, pad=end)
    for form in (HuggingFace(), Mds()):
        write_export(parts, Directory.at(folder / form.name), form, known)


def write_lean(folder: Path, python: Path) -> None:
    """Write the two columns of the Hugging Face export as MDS shards, by MDSWriter."""
    table = pq.read_table(folder / HuggingFace.name / "data", columns=list(COLUMNS))
    flat = {name: table[name].combine_chunks().flatten().to_numpy() for name in COLUMNS}
    np.savez(folder / "windows.npz", **{name: values.reshape(-1, WINDOW) for name, values in flat.items()})
    command = [str(python), str(PEER), "write", str(folder / "windows.npz"), str(folder / LEAN)]
    subprocess.run(command, check=True)


def annotate_loader(folder: Path, workers: int, *, shuffle: bool) -> DataLoader[Any]:
    """The DataLoader of annotate."""
    shards = ShardDataset(folder / HuggingFace.name, batch_size=BATCH, shuffle=shuffle, columns=COLUMNS)
    return DataLoader(shards, batch_size=BATCH, num_workers=workers)


def datasets_loader(folder: Path, workers: int, *, shuffle: bool, batches: bool) -> DataLoader[Any]:
    """The DataLoader of `datasets`, by samples or by batches."""
    from datasets import load_dataset

    files = str(folder / HuggingFace.name / "data" / "*.parquet")
    stream = load_dataset("parquet", data_files=files, split="train", streaming=True, columns=list(COLUMNS))
    if shuffle:
        stream = stream.shuffle(seed=0, buffer_size=BUFFER)
    if batches:
        # A DataLoader makes tensors of arrays, also if it makes no batches.
        return DataLoader(stream.with_format("numpy").batch(BATCH), batch_size=None, num_workers=workers)
    return DataLoader(stream.with_format("torch"), batch_size=BATCH, num_workers=workers)


@contextmanager
def streaming_job(shards: Path, python: Path, workers: int, *, shuffle: bool) -> Iterator[Job]:
    """Give passes over MDS shards by StreamingDataset, in a process that lives as long as the context."""
    command = [str(python), "-W", "ignore", str(PEER), "read", str(shards), str(BATCH), str(workers), str(shuffle)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as peer:
        questions, answers = peer.stdin, peer.stdout
        assert questions is not None and answers is not None

        def answer() -> str:
            if not (line := answers.readline()):
                raise SystemExit(f"MosaicML streaming ended before it answered: {' '.join(command)}")
            return line

        def ask(what: str) -> Pass:
            print(what, file=questions, flush=True)
            return Pass(**json.loads(answer()))

        answer()  # wait for its start: two that start at once would take the same name for their shared memory
        yield ask
        questions.close()


@contextmanager
def all_jobs(folder: Path, workers: int, python: Path | None) -> Iterator[dict[str, Job]]:
    """Give all jobs that are timed, by name."""
    jobs: dict[str, Job] = {}
    with ExitStack() as stack:
        for suffix, shuffle in {"": False, "_shuffled": True}.items():
            jobs[f"annotate{suffix}"] = partial(one_pass, annotate_loader(folder, workers, shuffle=shuffle))
            if importlib.util.find_spec("datasets") is not None:
                for name, batches in {"datasets": False, "datasets_batches": True}.items():
                    loader = datasets_loader(folder, workers, shuffle=shuffle, batches=batches)
                    jobs[f"{name}{suffix}"] = partial(one_pass, loader)
            for name, shards in {"streaming": Mds.name, "streaming_lean": LEAN}.items() if python is not None else ():
                own = folder / f"{shards}{suffix}"  # two StreamingDatasets can't share a folder
                if not own.exists():
                    own.symlink_to(folder / shards)
                jobs[f"{name}{suffix}"] = stack.enter_context(streaming_job(own, python, workers, shuffle=shuffle))
        yield jobs


def check(jobs: Mapping[str, Job], windows: int) -> None:
    """Check that all jobs give the same windows. This also warms them up."""
    found = {name: job(CHECK) for name, job in jobs.items()}
    expected = (windows, found["annotate"].sums)
    for name, one in found.items():
        if (one.windows, one.sums) != expected:
            raise SystemExit(f"{name} gave {one.windows} windows with sums {one.sums}, not {expected}")


def report(passes: Mapping[str, Sequence[Pass]], windows: int, json_file: Path | None) -> None:
    """Print a table, write JSON."""
    seconds = {clock: {name: [getattr(p, clock) for p in each] for name, each in passes.items()} for clock in CLOCKS}
    rates = {clock: {name: windows / s for name, s in medians(seconds[clock]).items()} for clock in CLOCKS}
    cpu = rates["cpu"]
    ours = {name: "annotate_shuffled" if name.endswith("_shuffled") else "annotate" for name in cpu}
    ratios = {name: cpu[ours[name]] / rate for name, rate in cpu.items() if name != ours[name]}
    rows = [
        [name, f"{rate:,.0f}", f"{rates['wall'][name]:,.0f}", f"{ratios[name]:.2f}" if name in ratios else ""]
        for name, rate in cpu.items()
    ]
    print_table(["", "windows / s of CPU", "windows / s", "ours / theirs"], rows)
    write_json(json_file, ratios, {"windows": windows, "seconds": seconds, "windows_per_second": rates})


def main() -> None:
    """Run, print a table, write JSON."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--windows", type=int, default=2000, help="a multiple of 16")
    arguments.add_argument("--workers", type=int, default=0, help="processes of each DataLoader")
    arguments.add_argument("--streaming-python", type=Path, default=CONSUMER if CONSUMER.exists() else None)
    options = arguments.parse_args()
    if options.windows % BATCH:
        raise SystemExit(f"--windows must be a multiple of {BATCH}, so that no batch is short; got {options.windows}")
    python = options.streaming_python
    if python is None:
        print("MosaicML streaming is left out; to add it, name a Python that has it: --streaming-python")
    if importlib.util.find_spec("datasets") is None:
        print("datasets is left out; to add it: `pip install datasets`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, options.windows)
        if python is not None:
            write_lean(folder, python)
        passes: dict[str, list[Pass]] = {}
        with all_jobs(folder, options.workers, python) as jobs:
            check(jobs, options.windows)
            for _ in range(options.runs):
                for job_name, job in jobs.items():
                    passes.setdefault(job_name, []).append(job(TIME))
    report(passes, options.windows, options.json)


if __name__ == "__main__":
    main()
