"""How well scores follow labels, and curves from a score to the probability of the label.

Everything is float64 and exact; only the bootstrap draws, from a generator with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit
from scipy.stats import rankdata

from annotate.errors import ConfigError
from annotate.scorers.probe_file import Isotonic, Platt

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

BOOTSTRAP_ROUNDS = 1000
CALIBRATION_BINS = 10
ISOTONIC_MIN = 1000
"""Held-out labels from which an isotonic curve is fitted; with fewer, a Platt curve."""
ISOTONIC_GROUP = 50
"""Labels that share a point of an isotonic curve, so that no probability rests on a handful."""


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


def fit_curve(scores: FloatVector, labels: BoolVector, weights: FloatVector) -> Platt | Isotonic:
    """Fit an isotonic curve where there are 1,000 labels or more, else a Platt curve.

    Args:
        scores: `[n]`, of spans that the scorer was not fitted on.
        labels: `[n]`, both kinds.
        weights: `[n]`, what each label counts.
    """
    fit = fit_isotonic if len(scores) >= ISOTONIC_MIN else fit_platt
    return fit(scores, labels, weights)


def fit_platt(scores: FloatVector, labels: BoolVector, weights: FloatVector) -> Platt:
    """Fit a rising logistic curve by maximum likelihood, on Platt's smoothed targets (Platt 1999).

    Args:
        scores: `[n]`.
        labels: `[n]`, both kinds.
        weights: `[n]`, what each label counts.
    """
    positives = int(labels.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2)
    targets = np.where(labels, high, low)
    middle, scale = scores.mean(), scores.std() or 1.0
    z, share = (scores - middle) / scale, weights / weights.sum()

    def loss(v: FloatVector) -> tuple[float, FloatVector]:
        logits = v[0] * z + v[1]
        error = share * (expit(logits) - targets)
        return float(share @ (np.logaddexp(0, logits) - targets * logits)), np.array([error @ z, error.sum()])

    # A curve that falls would turn the axis round: no slope below 0.
    fit = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    slope = float(fit.x[0] / scale)
    return Platt(a=slope, b=float(fit.x[1] - slope * middle))


def fit_isotonic(scores: FloatVector, labels: BoolVector, weights: FloatVector) -> Isotonic:
    """Fit a rising curve by least squares over groups of about 50 labels with neighbouring scores.

    Args:
        scores: `[n]`.
        labels: `[n]`, both kinds.
        weights: `[n]`, what each label counts.
    """
    # Equal scores stay in one group, so that the order of rows does not matter.
    ranks = rankdata(scores, method="min").astype(np.int64) - 1
    _, group = np.unique(ranks * (len(scores) // ISOTONIC_GROUP) // len(scores), return_inverse=True)
    total = np.bincount(group, weights=weights)
    middles = np.bincount(group, weights=weights * scores) / total
    fit = isotonic_regression(np.bincount(group, weights=weights * labels) / total, weights=total)
    # A point a level: the mean score of its groups. Between levels the curve is a straight line.
    level = np.repeat(np.arange(len(fit.blocks) - 1), np.diff(fit.blocks))
    mass = np.bincount(level, weights=total)
    xs = np.bincount(level, weights=total * middles) / mass
    ys = np.clip(np.bincount(level, weights=total * fit.x) / mass, 0.0, 1.0)
    return Isotonic(scores=tuple(xs.tolist()), probabilities=tuple(np.maximum.accumulate(ys).tolist()))


def apply_curve(curve: Platt | Isotonic, scores: FloatVector) -> FloatVector:
    """Probability of each score."""
    if isinstance(curve, Platt):
        return np.asarray(expit(curve.a * scores + curve.b), np.float64)
    return np.asarray(np.interp(scores, curve.scores, curve.probabilities), np.float64)
