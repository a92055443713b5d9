"""How well scores follow labels.

Everything is float64 and exact; only the bootstrap draws, from a generator with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from annotate.errors import ConfigError

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

BOOTSTRAP_ROUNDS = 1000
CALIBRATION_BINS = 10


def auroc(scores: FloatVector, labels: BoolVector) -> float:
    """Probability that a span with the label scores above one without; ties count half (Mann-Whitney U).

    Raises:
        ConfigError: there are no labels of one kind.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not (positives and negatives):
        raise ConfigError(f"AUROC needs labels of both kinds, got {positives} of {len(labels)} true")
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def spearman(scores: FloatVector, ratings: FloatVector) -> float:
    """Correlation of the ranks; 0 where one side is constant."""
    a, b = rankdata(scores), rankdata(ratings)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def bootstrap_interval(measure: Callable[[npt.NDArray[np.int64]], float], n: int, *, seed: int) -> tuple[float, float]:
    """95 % interval of a measure of `n` rows, by percentiles over resampled rows (Efron 1979).

    Args:
        measure: takes int64 row numbers, some repeated; NaN where a draw can't be measured, which is left out.
        n: number of rows.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed)
    values = np.array([measure(draws.integers(0, n, n)) for _ in range(BOOTSTRAP_ROUNDS)])
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def brier(probabilities: FloatVector, labels: BoolVector, weights: FloatVector) -> float:
    """Mean squared error of the probabilities; `weights` say what each label counts."""
    return float(np.average((probabilities - labels) ** 2, weights=weights))


def calibration_error(probabilities: FloatVector, labels: BoolVector, weights: FloatVector) -> float:
    """Expected calibration error over ten equal bins of probability (Naeini et al. 2015)."""
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=weights * (probabilities - labels), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / weights.sum())
