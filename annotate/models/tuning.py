"""Tries settings of a model that change its speed: how fast it is with each, here, and how far its scores move."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from annotate.errors import ConfigError
from annotate.models.base import Backbone, FloatArray, Forward, Prepared
from annotate.models.device import find_device, forget_peak, is_gpu, peak_memory
from annotate.models.text_model import Dtype, TextModel
from annotate.models.trials import QUANTILE, SECONDS, Trial, Trials

CPU_TOKENS = (512, 1024, 2048, 4096)
GPU_TOKENS = (2048, 8192, 32_768, 131_072)
CPU_DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
GPU_DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16")

_FIRST, _TIMES = 64, 4
"""Spans of the first sample, and how much larger each next one is."""
_PASSES = 2
"""The faster one counts: other processes slow some down."""
_BATCHES = 3
"""A sample has so many at least, of the size as it is and of each larger one that is tried."""
_LONGEST = 10
"""But one pass takes no longer than so many times the seconds that were asked for."""
_HOPELESS = 3.0
"""A dtype that is so much slower than the settings as they are is tried with one size alone."""


def try_settings(
    backbone: TextModel,
    scorers: Sequence[Any],
    spans: pa.Table,
    device: str,
    *,
    seconds: float = SECONDS,
    tell: Callable[[Trial], None] = lambda trial: None,
) -> Trials:
    """Time a model with its settings as they are, and with others.

    Args:
        backbone: the model with its settings.
        scorers: those that have this backbone.
        spans: a sample, with the columns that the backbone reads; as much of it is used as takes `seconds`.
        device: "cpu" or "cuda", or "cuda:all" for a model that is spread.
        seconds: about what one pass takes with the settings as they are.
        tell: is given each trial when it is done.

    Raises:
        ConfigError: the model can't be used with the settings as they are.
    """
    trying = _Trying(backbone, scorers, device)
    trying.load(backbone.dtype)
    trying.take_sample(spans, seconds)
    tried = []
    for trial in trying.all():
        tell(trial)
        tried.append(trial)
    return Trials(
        model=backbone.name,
        device=trying.device.type,
        threads=torch.get_num_threads(),
        spans=len(trying.exact),
        tokens=trying.tokens,
        prepared_per_second=trying.prepared_per_second,
        tried=tried,
    )


class _Trying:
    """One model on one sample. Of several dtypes one at a time is loaded: two may not fit on a device."""

    def __init__(self, backbone: TextModel, scorers: Sequence[Any], name: str) -> None:
        self.backbone, self.scorers, self.name, self.device = backbone, scorers, name, find_device(name)
        self.reading = backbone.reading()
        self.forward: Forward | None = None
        self.sample = pa.table({})
        self.tokens = 0
        self.prepared_per_second = 0.0
        self.exact: FloatArray = np.empty((0, 0), np.float32)

    def load(self, dtype: Dtype) -> None:
        self.forward = None
        self.forward = self.with_settings(dtype=dtype).load(self.scorers, self.name)

    def take_sample(self, spans: pa.Table, seconds: float) -> None:
        """Keep the first spans: so many that a pass takes about `seconds`, and makes a few batches at least."""
        self.sample = spans.slice(0, _FIRST)
        self.timed(self.prepare(self.backbone.batch_tokens))  # the first batches of a process are slow
        while True:
            started = time.perf_counter()
            prepared = self.prepare(self.backbone.batch_tokens)
            self.prepared_per_second = prepared.tokens / (time.perf_counter() - started)
            taken, self.exact, _ = self.timed(prepared)
            enough = taken >= seconds and len(prepared.arrays["bounds"]) > _BATCHES
            if enough or taken >= _LONGEST * seconds or len(self.sample) == len(spans):
                self.tokens = prepared.tokens
                return
            more = max(1.5, min(_TIMES, 1.1 * seconds / taken))
            self.sample = spans.slice(0, int(more * len(self.sample)) + 1)

    def prepare(self, batch_tokens: int) -> Prepared:
        return self.with_settings(batch_tokens=batch_tokens).prepare(self.sample, self.reading)

    def with_settings(self, **settings: Any) -> Backbone:
        return cast("Backbone", dataclasses.replace(self.backbone, **settings))

    def timed(self, prepared: Prepared) -> tuple[float, FloatArray, bool]:
        """Seconds, scores of all axes, and whether all batches fitted in memory."""
        assert self.forward is not None
        started = time.perf_counter()
        found = self.forward(prepared, range(len(self.scorers)))
        taken = time.perf_counter() - started
        return taken, np.concatenate([each.values for each in found], axis=1), not any(each.too_large for each in found)

    def all(self) -> Iterator[Trial]:
        """The settings as they are, then each dtype with each size."""
        own, own_size = self.backbone.dtype, self.backbone.batch_tokens
        gpu = is_gpu(self.device)
        sizes = [size for size in (GPU_TOKENS if gpu else CPU_TOKENS) if size != own_size]
        now = self.trial(own, own_size)
        yield now
        yield from (self.trial(own, size) for size in sizes)
        for dtype in GPU_DTYPES if gpu else CPU_DTYPES:
            if dtype != own:
                yield from self.of(dtype, [own_size, *sizes], now.tokens_per_second / _HOPELESS)

    def of(self, dtype: Dtype, sizes: Sequence[int], hopeless: float) -> Iterator[Trial]:
        """One dtype; after the first size, the others only if that was not hopelessly slow."""
        try:
            self.load(dtype)
        except ConfigError as error:
            yield Trial(dtype=dtype, batch_tokens=sizes[0], problem=error.message)
            return
        first = self.trial(dtype, sizes[0])
        yield first
        if first.problem or first.tokens_per_second > hopeless:
            yield from (self.trial(dtype, size) for size in sizes[1:])

    def trial(self, dtype: Dtype, size: int) -> Trial:
        """Time the loaded model with batches of this size."""
        prepared = self.prepare(size)
        trial = Trial(dtype=dtype, batch_tokens=size)
        if len(prepared.arrays["bounds"]) < _BATCHES + 1 and size > self.backbone.batch_tokens:
            return dataclasses.replace(trial, problem="the sample has too few batches of this size")
        forget_peak(self.device)
        seconds, values, fits = min((self.timed(prepared) for _ in range(_PASSES)), key=lambda timed: timed[0])
        now = (dtype, size) == (self.backbone.dtype, self.backbone.batch_tokens)
        if not fits and not now:  # as it is, it runs in halves
            return dataclasses.replace(trial, problem="does not fit in memory")
        off, flipped = apart(self.exact, values)
        return dataclasses.replace(
            trial,
            tokens_per_second=prepared.tokens / seconds,
            off=off,
            flipped=flipped,
            memory=peak_memory(self.device),
        )


def apart(exact: FloatArray, other: FloatArray) -> tuple[float, float]:
    """How far apart two sets of scores are, by the axis where it is most.

    Args:
        exact: float32 `[n, n_axes]`.
        other: likewise. Rows with a NaN in either count as on the other side, and not as apart.

    Returns:
        The root mean square of the differences, as a share of the standard deviation of `exact`; and the share of rows
        that are on the other side of the quantile 0.7, each set with its own.
    """
    both = np.isfinite(exact) & np.isfinite(other)
    apart, flipped = 0.0, 0.0
    for axis in range(exact.shape[1]):
        kept = both[:, axis]
        one, two = exact[kept, axis], other[kept, axis]
        moved = int((np.isfinite(exact[:, axis]) & ~np.isfinite(other[:, axis])).sum())
        if len(one):
            spread = float(one.std()) or 1.0
            apart = max(apart, float(np.sqrt(np.mean((one - two) ** 2))) / spread)
            moved += int(((one >= np.quantile(one, QUANTILE)) != (two >= np.quantile(two, QUANTILE))).sum())
        flipped = max(flipped, moved / max(len(exact), 1))
    return apart, flipped
