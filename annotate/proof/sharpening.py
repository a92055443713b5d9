"""Metric 4: whether a measure grows with training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.probes.metrics import spearman
from annotate.proof.intervals import Float64, Int64, Interval, mean_interval


@dataclass(frozen=True, kw_only=True)
class Sharpening:
    """How a measure of spans goes with the steps of training.

    Attributes:
        spearman: correlation of the ranks of steps and means, from -1 to 1; 0 where the means are all equal.
        per_doubling: by how much the mean grows when the steps double: the slope of the line of least squares over
            log2 of the steps.
        last_less_first: by how much the mean at the last checkpoint is above that at the first, pair by pair.
    """

    spearman: float
    per_doubling: Interval
    last_less_first: Interval


def sharpening(steps: npt.NDArray[np.int64], values: Float64, documents: Int64, *, seed: int = 0) -> Sharpening:
    """Measure it.

    Args:
        steps: int64 `[checkpoints]`, above 0, rising; two at least.
        values: float64 `[checkpoints, seeds, n]`, such as swap gaps; NaN for spans that do not count.
        documents: int64 `[n]`, the document of each span.
        seed: of the draws.

    Raises:
        ConfigError: there are fewer than two checkpoints, or steps do not rise.
    """
    if len(steps) < 2 or steps[0] < 1 or (np.diff(steps) <= 0).any():
        raise ConfigError(f"sharpening needs two checkpoints at least, in rising order from 1 on, got {steps.tolist()}")
    x = np.log2(steps.astype(np.float64))
    x -= x.mean()
    # The slope is linear in the values: that of the means is the mean of the spans' slopes.
    slopes = np.tensordot(x / (x @ x), values, axes=1)
    return Sharpening(
        spearman=spearman(steps.astype(np.float64), np.nanmean(values, axis=(1, 2))),
        per_doubling=mean_interval(slopes, documents, seed=seed),
        last_less_first=mean_interval(values[-1] - values[0], documents, seed=seed),
    )
