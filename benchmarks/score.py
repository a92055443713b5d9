"""Tokens/s of the whole scoring stage, compared with other ways to run the same model over the same texts.

    python benchmarks/score.py [--json FILE] [--spans 900] [--runs 3] [--threads 2] [--no-ray]

Texts are sentences of standard library docstrings, all distinct: 900 spans by default, about 22k tokens. The model is
all-MiniLM-L6-v2, in float32 unless said otherwise. These jobs run in one process, with `--threads` threads each:

    annotate               from corpus and spans to annotation tables of three axes: reading, dropping repeats,
                           tokenizing, sorting, batching, the forward pass with its heads, putting scores in order
    annotate_bfloat16      the same with `dtype="bfloat16"`; how far its scores are off is printed too
    bare_forward           the forward pass alone, with all six layers and no heads, on the same batches, which are made
                           beforehand
    bare_forward_same_layers  the same up to the highest layer that the heads read, where `annotate` stops too.
                           `annotate` less this is what the stage costs beside the model
    transformers_pipeline  a text-classification pipeline, at the best of a few batch sizes
    sentence_transformers  `SentenceTransformer.encode`, at the best of a few batch sizes; no heads

These two run on a local Ray with two models of one thread each, and are timed from the start of the actors to the last
byte written (`--no-ray` leaves them out):

    annotate_on_ray        a run of the stage by the engine, in eight units, with commits and manifests
    ray_data               `map_batches` on a pool of two actors, at the best of a few batch sizes, and `write_parquet`;
                           left out if pandas is not installed

Jobs are timed in turn, and their medians are compared. A ratio is their seconds over ours: above 1, ours is faster.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from peers import bare_forward, ray_data, sentence_transformers, transformers_pipeline, write_classifier
from report import fastest, measure, medians, parser, print_table, write_json
from stage import LoadedStage, probes, tolerance, write_corpus
from transformers.utils import logging

from annotate import Corpus, Encoder, Options, Pipeline, Split, score
from annotate.models.text_model import Dtype
from annotate.storage.store import Directory

MODELS = 2  # on Ray
UNITS = 8  # on Ray
PIPELINE_SIZES = (8, 32, 64)
ENCODE_SIZES = (16, 32, 64)
RAY_DATA_SIZES = ((64, 64), (512, 64))  # rows of a batch, and of a forward pass
AGAINST = ("bare_forward", "bare_forward_same_layers", "transformers_pipeline", "sentence_transformers")

Jobs = dict[str, Callable[[], Any]]
Raw = dict[str, Any]


def main() -> None:
    """Run, print a table, write JSON."""
    options = parser(__doc__, runs=3)
    options.add_argument("--spans", type=int, default=900)
    options.add_argument("--threads", type=int, default=2, help="threads of torch and of the tokenizer, in one process")
    options.add_argument("--no-ray", action="store_true", help="leave out the jobs on Ray")
    chosen = options.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(chosen.threads)  # the tokenizer's
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(chosen.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        raw = compare(Path(folder), chosen)
    ratios = show(raw)
    write_json(chosen.json, ratios, raw)


def compare(folder: Path, chosen: Namespace) -> Raw:
    """Time all jobs in turn; returns their seconds by name, and other figures for the JSON."""
    runs, threads = chosen.runs, chosen.threads
    texts = write_corpus(folder / "corpus.parquet", chosen.spans)
    encoder = Encoder().files().directory
    classifier = write_classifier(encoder, folder / "classifier")
    prepared = probes("float32")[0].backbone.prepare(pa.table({"text": texts}))
    layers = max(feature.layer for probe in probes("float32") for feature in probe.head().card.features)
    raw: Raw = {"spans": len(texts), "tokens": prepared.tokens, "threads": threads, "layers": layers}

    ours, bfloat16 = (load(folder, dtype, threads) for dtype in ("float32", "bfloat16"))
    raw["bfloat16"] = tolerance(ours(), bfloat16())
    # Batch sizes are chosen on a tenth of the texts.
    some = texts[::10]
    pipes = {size: transformers_pipeline(classifier, size) for size in PIPELINE_SIZES}
    encoders = {size: sentence_transformers(encoder, size, Encoder().window()) for size in ENCODE_SIZES}
    raw["pipeline_size"] = fastest({size: partial(run, some) for size, run in pipes.items()})
    raw["encode_size"] = fastest({size: partial(run, some) for size, run in encoders.items()})
    jobs: Jobs = {
        "annotate": ours,
        "annotate_bfloat16": bfloat16,
        "bare_forward": bare_forward(encoder, prepared, Encoder().pad_id()),
        "bare_forward_same_layers": bare_forward(encoder, prepared, Encoder().pad_id(), layers),
        "transformers_pipeline": lambda: pipes[raw["pipeline_size"]](texts),
        "sentence_transformers": lambda: encoders[raw["encode_size"]](texts),
    }
    raw["seconds"] = measure(jobs, runs, warm_up=False)
    if chosen.no_ray:
        return raw
    ray.init(address="local", num_cpus=2 * MODELS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        raw["seconds"] |= compare_on_ray(folder, classifier, texts, runs, raw)
    finally:
        ray.shutdown()
    return raw


def load(folder: Path, dtype: Dtype, threads: int) -> LoadedStage:
    """Load our stage, with all spans in one unit."""
    corpus = Corpus(str(folder / "corpus.parquet"), id=None, unit_bytes=1 << 30)
    return LoadedStage.load(corpus, probes(dtype), Directory.at(folder / f"in-process-{dtype}"), threads)


def compare_on_ray(folder: Path, classifier: Path, texts: Sequence[str], runs: int, raw: Raw) -> dict[str, list[float]]:
    """Time our engine and Ray Data in turn."""
    workdir, out = folder / "workdir", folder / "ray-data"
    corpus = Corpus(str(folder / "corpus.parquet"), id=None, unit_bytes=sum(map(len, texts)) // UNITS)
    spans = Split(corpus)
    stages = score(spans, scorers=probes("float32"))
    options = Options(workers=MODELS)
    Pipeline(spans).run(str(workdir), options)

    def engine() -> None:
        for stage in stages:
            shutil.rmtree(workdir / stage.dataset, ignore_errors=True)
        Pipeline(*stages).run(str(workdir), options)

    def peer(sizes: tuple[int, int]) -> None:
        shutil.rmtree(out, ignore_errors=True)
        ray_data(classifier, texts, out, MODELS, *sizes)

    jobs: Jobs = {"annotate_on_ray": engine}
    if importlib.util.find_spec("pandas"):
        raw["ray_data_sizes"] = fastest({sizes: partial(peer, sizes) for sizes in RAY_DATA_SIZES}, warm_up=False)
        jobs["ray_data"] = partial(peer, raw["ray_data_sizes"])
    else:
        print("ray_data is left out; to add it: `pip install pandas`")
    engine()  # a warm-up; choosing its sizes has warmed up the other
    return measure(jobs, runs, warm_up=False)


def show(raw: Raw) -> dict[str, float]:
    """Print a table, and how far bfloat16 is off; returns the ratios."""
    seconds = medians(raw["seconds"])
    ratios = {name: seconds[name] / seconds["annotate"] for name in AGAINST}
    if "ray_data" in seconds:
        ratios["ray_data"] = seconds["ray_data"] / seconds["annotate_on_ray"]
    ratios |= {f"bfloat16_vs_{name}": seconds[name] / seconds["annotate_bfloat16"] for name in AGAINST}
    print(
        f"{raw['spans']:,} distinct spans, {raw['tokens']:,} tokens, {raw['threads']} threads; heads read layers up "
        f"to {raw['layers']}"
    )
    rows = [
        [name, f"{taken:.2f}", f"{raw['tokens'] / taken:,.0f}"]
        + [f"{ratios[key]:.2f}" if key in ratios else "" for key in (name, f"bfloat16_vs_{name}")]
        for name, taken in seconds.items()
    ]
    print_table(["", "s", "tokens/s", "theirs / ours", "theirs / bfloat16"], rows)
    for axis, off in raw["bfloat16"].items():
        print(
            f"bfloat16, {axis}: off by {off['rms']:.2%} of a standard deviation (root mean square), {off['max']:.1%} "
            f"at most; {off['flipped']:.2%} of spans change sides of q(0.7)"
        )
    return ratios


if __name__ == "__main__":
    main()
