"""What the scoring stage makes of a GPU, against other ways to run the same models over the same texts.

    python benchmarks/gpu.py [--json FILE] [--runs 3] [--device cuda] [--models NAME,NAME] [--seconds 1.5] [--small]

It needs torch, transformers, numba and pyarrow, and no Ray and no Polars. Models have the sizes of real ones and random
weights (`gpu_models.py` has them); texts are sentences of standard library docstrings. Each model runs in bfloat16 with
the `batch_tokens` that is fastest of a few, which are measured first. Rates are of tokens without padding, after a
warm-up. The jobs, in turn:

    annotate               units of about 250 kB of text are prepared by other processes, three ahead, and come to this
                           one, which runs the model and puts scores in order. (The engine keeps three calls ahead, each
                           of one such unit or more.)
    annotate_float32       the same in float32
    bare_forward           the model alone, all its weights in bfloat16, on the same batches, made beforehand and pinned
    bare_forward_float32   the same in float32
    transformers_pipeline  a text-classification pipeline in bfloat16, at the best of a few batch sizes
    sentence_transformers  `SentenceTransformer.encode` in bfloat16, likewise; no head, and no chats
    ray_data               `map_batches` on one actor with the model in bfloat16, where Ray and pandas are installed

A job that can't run is null, and the reason is beside it. A ratio is our rate over theirs: above 1, ours is faster. For
each model there are also

    busy_share             of the time of `annotate`, in which the card runs a kernel (CUDA alone)
    share_of_card          matrix products of `annotate` in a second, as a share of those of one large matrix product
    prepare_tokens_per_s   of one process that prepares; how many of them keep up with the card follows from it
    flipped                the share of spans that change sides of the quantile 0.7: float32 to bfloat16, and CPU to GPU
    same_bytes             whether units give equal bytes when they are scored in another order
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import tempfile
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from gpu_models import SHAPES, Shape, matrix_flops, write_model
from peers import ray_data, sentence_transformers, transformers_pipeline
from report import fastest, flipped, measure, medians, parser, print_table, write_json
from texts import docstrings
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from annotate.models.base import FloatArray, Prepared, expand
from annotate.models.batches import Batches
from annotate.models.reading import Reading
from annotate.models.sequence_classifier import SequenceClassifier
from annotate.models.text_model import Dtype
from annotate.text.splitting import Splitter

UNIT_BYTES = 250_000
AHEAD = 3  # calls in front of a model, as `annotate.engine.pool` has them
BATCH_TOKENS = (2_048, 8_192, 32_768, 131_072)
BATCH_ROWS = (32, 128, 512)
PROMPT = "Explain this to me."
WINDOW = 512
MATRIX = 8_192

Raw = dict[str, Any]


def main() -> None:
    """Run all models, print a table for each, write JSON."""
    options = parser(__doc__, runs=3)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--models", default=",".join(SHAPES), help="some of the models, with commas between them")
    options.add_argument("--seconds", type=float, default=1.5, help="about how long each job takes")
    options.add_argument("--feeders", type=int, default=AHEAD, help="processes that prepare")
    options.add_argument("--small", action="store_true", help="tiny models and little text, for tests")
    chosen = options.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    raw: Raw = {"card": card(chosen.device), "flops_per_s": matrix_product(chosen), "models": {}}
    print(f"{raw['card']}: {raw['flops_per_s'] / 1e12:.3g} TFLOP/s in one large matrix product in bfloat16")
    texts = spans(40_000 if chosen.small else None)
    ratios: dict[str, float | None] = {}
    with ProcessPoolExecutor(chosen.feeders, mp_context=get_context("spawn")) as pool:
        for name in chosen.models.split(","):
            with tempfile.TemporaryDirectory() as folder:
                found = Benchmark(SHAPES[name], texts, Path(folder), pool, chosen).run()
            found["share_of_card"] = found["flops_per_s"] / raw["flops_per_s"]
            raw["models"][name] = found
            ratios |= show(name, found)
    write_json(chosen.json, ratios, raw)


def card(device: str) -> str:
    """What the models run on, for people."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU with {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def matrix_product(chosen: Namespace) -> float:
    """Floating point operations a second of a large matrix product in bfloat16: what can be had of a card."""
    size = 256 if chosen.small else MATRIX
    one, other = (torch.randn(size, size, device=chosen.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = medians(measure({"matrix": lambda: wait(torch.matmul(one, other))}, chosen.runs + 2))["matrix"]
    return 2.0 * size**3 / seconds


def wait(result: torch.Tensor) -> None:
    """Wait until a result is there."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def spans(most_bytes: int | None) -> list[str]:
    """Distinct sentences of docstrings, in order."""
    documents, size = [], 0
    for text in docstrings():
        documents.append(text)
        size += len(text)
        if most_bytes is not None and size > most_bytes:
            break
    table = Splitter().split(pa.array(documents, pa.large_string()))
    edges = zip(*(table[name].to_pylist() for name in ("document", "start", "end")), strict=True)
    return list(dict.fromkeys(documents[document][start:end] for document, start, end in edges))


class First:
    """A scorer that reads the first logit."""

    def readout(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The first column."""
        return lambda logits: logits[:, 0]


def prepare(backbone: SequenceClassifier, texts: Sequence[str], reading: Reading | None = None) -> Prepared:
    """What a task of the engine prepares for a model, in a process of its own."""
    return backbone.prepare(pa.table({"text": pa.array(texts, pa.large_string())}), reading)


@dataclass(frozen=True)
class Stage:
    """Our stage: a loaded model, and the processes that prepare units for it."""

    backbone: SequenceClassifier
    forward: Any
    pool: Executor

    @staticmethod
    def load(backbone: SequenceClassifier, device: str, pool: Executor) -> Stage:
        """Load the model."""
        return Stage(backbone, backbone.load([First()], device), pool)

    def __call__(self, units: Sequence[Sequence[str]]) -> list[FloatArray]:
        """Scores of each unit: float32 `[n_spans, 1]`."""
        scores = []
        for prepared in self._prepared(units):
            (scored,) = self.forward(prepared, [0])
            scores.append(expand(prepared, scored)[0])
        return scores

    def _prepared(self, units: Sequence[Sequence[str]]) -> Iterator[Prepared]:
        reading = self.backbone.reading()
        calls = (self.pool.submit(prepare, self.backbone, texts, reading) for texts in units)
        waiting = deque(itertools.islice(calls, AHEAD))
        while waiting:
            prepared = waiting.popleft().result()
            waiting.extend(itertools.islice(calls, 1))
            yield prepared


class Benchmark:
    """All that is measured of one model."""

    def __init__(self, shape: Shape, texts: Sequence[str], folder: Path, pool: Executor, chosen: Namespace) -> None:
        self.shape, self.texts, self.pool, self.chosen, self.device = shape, texts, pool, chosen, chosen.device
        self.model = write_model(shape, texts, folder / "model", self.device, small=chosen.small)

    def run(self) -> Raw:
        """Find the best settings, time the jobs in turn, look at scores."""
        chosen = self.chosen
        sweep = self.sweep()
        batch_tokens = max(sweep, key=lambda size: sweep[size])
        stages = {dtype: Stage.load(self.backbone(dtype, batch_tokens), self.device, self.pool) for dtype in DTYPES}
        slow = self.rate(stages["float32"])
        units = {"bfloat16": self.units(sweep[batch_tokens]), "float32": self.units(slow)}
        jobs: dict[str, tuple[Callable[[], Any], int]] = {}
        lengths = {}
        for dtype, end in (("bfloat16", ""), ("float32", "_float32")):
            these = units[dtype]
            batches = [prepare(stages[dtype].backbone, texts) for texts in these]
            count = sum(each.tokens for each in batches)
            lengths[dtype] = np.concatenate([each.arrays["lengths"] for each in batches])
            jobs["annotate" + end] = partial(stages[dtype], these), count
            jobs["bare_forward" + end] = self.bare(batches, dtype), count
        peers, reasons = self.peers(units["bfloat16"])
        jobs |= peers
        seconds = measure({name: job for name, (job, _) in jobs.items()}, chosen.runs)
        rates = {name: jobs[name][1] / each for name, each in medians(seconds).items()}
        flops = matrix_flops(stages["bfloat16"].forward.model, lengths["bfloat16"].tolist())
        return {
            "tokens_per_s": rates,
            "left_out": reasons,
            "seconds": seconds,
            "batch_tokens": batch_tokens,
            "sweep": sweep,
            "mean_tokens": float(lengths["bfloat16"].mean()),
            "flops_per_s": flops * rates["annotate"] / jobs["annotate"][1],
            "prepare_tokens_per_s": self.prepare_rate(stages["bfloat16"].backbone),
            "busy_share": self.busy(jobs["annotate"][0]),
            "flipped": self.flips(stages),
            "same_bytes": self.same_bytes(stages["bfloat16"], units["bfloat16"]),
        }

    def backbone(self, dtype: Dtype, batch_tokens: int) -> SequenceClassifier:
        """The model with these settings."""
        if self.shape.chat:
            return SequenceClassifier(
                str(self.model), inputs="chat", prompt=PROMPT, dtype=dtype, batch_tokens=batch_tokens, max_length=WINDOW
            )
        return SequenceClassifier(str(self.model), dtype=dtype, batch_tokens=batch_tokens, max_length=WINDOW)

    def sweep(self) -> dict[int, float]:
        """Tokens/s in bfloat16 by `batch_tokens`."""
        return {
            size: self.rate(Stage.load(self.backbone("bfloat16", size), self.device, self.pool))
            for size in BATCH_TOKENS[: 2 if self.chosen.small else None]
        }

    def rate(self, stage: Stage) -> float:
        """Tokens/s on a few units, after a first."""
        (first,) = self.cut(1)
        stage([first])
        prepared = prepare(stage.backbone, first)
        began = time.perf_counter()
        stage.forward(prepared, [0])
        return prepared.tokens / (time.perf_counter() - began)

    def units(self, rate: float) -> list[list[str]]:
        """As many units as take about so many seconds as were asked for, at this rate; three at least."""
        tokens = prepare(self.backbone("bfloat16", BATCH_TOKENS[0]), self.cut(1)[0]).tokens
        return self.cut(max(3, round(rate * self.chosen.seconds / tokens)))

    def cut(self, count: int) -> list[list[str]]:
        """So many units; if there is not enough text, it is read again."""
        size = 8_000 if self.chosen.small else UNIT_BYTES
        texts = itertools.cycle(self.texts)
        found = []
        for _ in range(count):
            unit: list[str] = []
            held = 0
            while held < size:
                unit.append(next(texts))
                held += len(unit[-1])
            found.append(unit)
        return found

    def bare(self, units: Sequence[Prepared], dtype: Dtype) -> Callable[[], Any]:
        """The model over tensors that wait in pinned memory, one batch after the other."""
        model = AutoModelForSequenceClassification.from_pretrained(self.model, dtype=getattr(torch, dtype))
        model = model.to(self.device).eval()
        model.config.use_cache = False
        inputs = []
        for prepared in units:
            batches = Batches(prepared, 0)
            for start, stop in batches.ranges():
                batch = batches.read(start, stop)
                given = {"input_ids": batch.ids} | ({} if batch.mask is None else {"attention_mask": batch.mask})
                inputs.append({name: self.pinned(array) for name, array in given.items()})

        def forward() -> None:
            with torch.inference_mode():
                for given in inputs:
                    moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in given.items()}
                    logits = model(**moved).logits
            wait(logits)

        return forward

    def pinned(self, array: Any) -> torch.Tensor:
        """A tensor in memory that the card can read."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.device.startswith("cuda") else tensor

    def peers(self, units: Sequence[Sequence[str]]) -> tuple[dict[str, Any], dict[str, str]]:
        """The jobs of others, on a part of the texts where they would take long; and why some are left out."""
        some = units[: max(1, len(units) // 8)]
        texts = self.conversations([text for unit in some for text in unit])
        backbone = self.backbone("bfloat16", BATCH_TOKENS[0])
        count = sum(prepare(backbone, unit).tokens for unit in some)
        jobs: dict[str, Any] = {}
        reasons = {}
        pipes = {
            rows: partial(transformers_pipeline(self.model, rows, self.device, torch.bfloat16, WINDOW), texts)
            for rows in BATCH_ROWS[: 1 if self.chosen.small else None]
        }
        jobs["transformers_pipeline"] = best(pipes), count
        if self.shape.chat:
            reasons["sentence_transformers"] = "it reads no conversations"
        elif importlib.util.find_spec("sentence_transformers") is None:
            reasons["sentence_transformers"] = "it is not installed"
        else:
            encoders = {
                rows: partial(sentence_transformers(self.model, rows, WINDOW, self.device, torch.bfloat16), texts)
                for rows in BATCH_ROWS[: 1 if self.chosen.small else None]
            }
            jobs["sentence_transformers"] = best(encoders), count
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pandas") is None:
            reasons["ray_data"] = "Ray and pandas are not both installed"
        else:
            jobs["ray_data"] = partial(on_ray, self.model, texts, self.device), count
        return jobs, reasons

    def conversations(self, texts: Sequence[str]) -> list[str]:
        """The texts, or for a model that reads conversations, what its template writes."""
        if not self.shape.chat:
            return list(texts)
        turns = ([{"role": "user", "content": PROMPT}, {"role": "assistant", "content": text}] for text in texts)
        tokenizer = self.backbone("bfloat16", 2048).tokenizer()
        return [tokenizer.apply_chat_template(turn, tokenize=False) for turn in turns]

    def prepare_rate(self, backbone: SequenceClassifier) -> float:
        """Tokens/s of one process that prepares units."""
        (unit,) = self.cut(1)
        seconds = medians(measure({"prepare": partial(prepare, backbone, unit, backbone.reading())}, self.chosen.runs))[
            "prepare"
        ]
        return prepare(backbone, unit).tokens / seconds

    def busy(self, job: Callable[[], Any]) -> float | None:
        """The share of a job's time in which the card runs a kernel."""
        if not self.device.startswith("cuda"):
            return None
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            began = time.perf_counter()
            job()
            taken = time.perf_counter() - began
        kernels = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        return covered([(event.time_range.start, event.time_range.end) for event in kernels]) / 1e6 / taken

    def flips(self, stages: dict[Dtype, Stage]) -> dict[str, float | None]:
        """The share of spans on another side of a quantile: in another dtype, and on another device."""
        unit = self.cut(1)[0][: 64 if self.chosen.small else 4000]
        exact, near = (stages[dtype]([unit])[0][:, 0] for dtype in ("float32", "bfloat16"))
        found: dict[str, float | None] = {"bfloat16": flipped(exact, near), "cpu": None}
        if self.device.startswith("cuda"):
            some = unit[:400]
            cpu = Stage.load(stages["float32"].backbone, "cpu", self.pool)([some])[0][:, 0]
            found["cpu"] = flipped(stages["float32"]([some])[0][:, 0], cpu)
        return found

    def same_bytes(self, stage: Stage, units: Sequence[Sequence[str]]) -> bool:
        """Whether three units have equal bytes when they are scored in another order."""
        some = units[:3]
        forwards, backwards = stage(some), stage(some[::-1])
        return all(one.tobytes() == other.tobytes() for one, other in zip(forwards, backwards[::-1], strict=True))


DTYPES: tuple[Dtype, ...] = ("bfloat16", "float32")


def best(jobs: dict[int, Callable[[], Any]]) -> Callable[[], Any]:
    """The fastest of some jobs, each timed once after a warm-up."""
    return next(iter(jobs.values())) if len(jobs) == 1 else jobs[fastest(jobs)]


def on_ray(model: Path, texts: Sequence[str], device: str) -> None:
    """Ray Data on a Ray of its own, from its start to the last byte written."""
    from processes import local_ray  # which imports Ray

    with local_ray(2, gpus=int(device.startswith("cuda"))), tempfile.TemporaryDirectory() as out:
        ray_data(model, texts, Path(out), 1, 1024, 256, device, torch.bfloat16)


def covered(ranges: Sequence[tuple[float, float]]) -> float:
    """The length of what some ranges cover together."""
    total, end = 0.0, -np.inf
    for start, stop in sorted(ranges):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def show(name: str, found: Raw) -> dict[str, float | None]:
    """Print a table for a model; returns its ratios."""
    rates = found["tokens_per_s"]
    against = [job for job in (*rates, *found["left_out"]) if not job.startswith("annotate")]
    ratios: dict[str, float | None] = {}
    for job in against:
        ours = "annotate_float32" if job.endswith("_float32") else "annotate"
        ratios[f"{name}_vs_{job}"] = rates[ours] / rates[job] if job in rates else None
    print(f"\n{name}: batch_tokens={found['batch_tokens']:,}, {found['mean_tokens']:.0f} tokens a span")
    rows = []
    for job, rate in rates.items():
        ratio = ratios.get(f"{name}_vs_{job}")
        rows.append([job, f"{rate:,.0f}", "" if ratio is None else f"{ratio:.2f}"])
    print_table(["", "tokens/s", "ours / theirs"], rows)
    for job, reason in found["left_out"].items():
        print(f"{job} is left out: {reason}")
    sweep = ", ".join(f"{size:,}: {rate:,.0f}" for size, rate in found["sweep"].items())
    print(f"tokens/s by batch_tokens: {sweep}")
    busy = "not measured here" if found["busy_share"] is None else f"{found['busy_share']:.0%}"
    print(f"{found['share_of_card']:.1%} of the matrix products that the card can do; busy: {busy}")
    print(f"one process prepares {found['prepare_tokens_per_s']:,.0f} tokens/s; flipped: {found['flipped']}")
    print(f"equal bytes in another order: {found['same_bytes']}")
    gc.collect()
    return ratios


if __name__ == "__main__":
    main()
