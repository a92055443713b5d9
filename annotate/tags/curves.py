"""Probability curves: from a raw score to the probability that a person would say yes, fitted on labels.

`Platt` is a logistic curve with two parameters (Platt 1999, "Probabilistic outputs for support vector machines");
`Isotonic` is a non-decreasing curve through the means of pooled scores (pool adjacent violators), which needs more
labels and gives ties. Both are small frozen values that go to JSON and back without loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from annotate.errors import ConfigError

Scores = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Platt:
    """`p = 1 / (1 + exp(-(a * score + b)))`."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b)):
            raise ConfigError(f"a Platt curve must have finite parameters, got a={self.a}, b={self.b}.")

    def probability(self, scores: Scores) -> Probabilities:
        """Probability of each score, float64 of the same shape; NaN stays NaN."""
        return np.asarray(expit(self.a * np.asarray(scores, np.float64) + self.b), np.float64)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `curve_from_json` reads it."""
        return {"kind": "platt", "a": self.a, "b": self.b}


@dataclass(frozen=True, kw_only=True)
class Isotonic:
    """Straight lines between the points (xs, ys), level outside them."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xs", tuple(float(x) for x in self.xs))
        object.__setattr__(self, "ys", tuple(float(y) for y in self.ys))
        if not self.xs or len(self.xs) != len(self.ys):
            raise ConfigError(f"an isotonic curve needs points, got {len(self.xs)} xs and {len(self.ys)} ys.")
        if not (np.diff(self.xs) > 0).all():
            raise ConfigError(f"the xs of an isotonic curve must rise, got {self.xs}.")
        if not (self.ys[0] >= 0 and self.ys[-1] <= 1 and (np.diff(self.ys) >= 0).all()):
            raise ConfigError(f"the ys of an isotonic curve must not fall and lie in [0, 1], got {self.ys}.")

    def probability(self, scores: Scores) -> Probabilities:
        """Probability of each score, float64 of the same shape; NaN stays NaN."""
        return np.asarray(np.interp(np.asarray(scores, np.float64), self.xs, self.ys), np.float64)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `curve_from_json` reads it."""
        return {"kind": "isotonic", "xs": list(self.xs), "ys": list(self.ys)}


Curve = Platt | Isotonic


def curve_from_json(data: Mapping[str, Any]) -> Curve:
    """Read what `to_json` made.

    Raises:
        ConfigError: not a curve.
    """
    settings = {key: value for key, value in data.items() if key != "kind"}
    try:
        match data.get("kind"):
            case "platt":
                return Platt(**settings)
            case "isotonic":
                return Isotonic(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"not a probability curve: {dict(data)} ({error}).") from None
    raise ConfigError(f"the kind of a probability curve must be 'platt' or 'isotonic', got {data.get('kind')!r}.")


def fit_platt(scores: Scores, labels: npt.ArrayLike) -> Platt:
    """Fit a logistic curve by maximum likelihood on Platt's smoothed targets, so that separable labels stay finite.

    Args:
        scores: float32 `[n]`, finite.
        labels: `[n]` of 0 and 1, or bool.

    Raises:
        ConfigError: lengths differ, a score is not finite, a label is neither 0 nor 1, or only one of the two occurs.
    """
    x, y = _checked(scores, labels)
    positives = y.sum()
    targets = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    # Standardised scores keep the problem well conditioned whatever the scale of the scorer.
    middle, scale = x.mean(), x.std() or 1.0
    z = (x - middle) / scale

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = parameters[0] * z + parameters[1]
        error = (expit(logits) - targets) / len(z)
        return float(np.mean(np.logaddexp(0, logits) - targets * logits)), np.array([error @ z, error.sum()])

    start = np.array([1.0, math.log(positives / (len(y) - positives))])
    fit = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    return Platt(a=float(fit.x[0] / scale), b=float(fit.x[1] - fit.x[0] * middle / scale))


def fit_isotonic(scores: Scores, labels: npt.ArrayLike) -> Isotonic:
    """Fit a non-decreasing curve by least squares; equal scores are pooled first, so their order does not matter.

    Args:
        scores: float32 `[n]`, finite.
        labels: `[n]` of 0 and 1, or bool.

    Raises:
        ConfigError: as for `fit_platt`.
    """
    x, y = _checked(scores, labels)
    xs, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    ys = np.clip(isotonic_regression(means, weights=counts.astype(np.float64)).x, 0.0, 1.0)
    # Only the two ends of each level piece are needed to draw the same curve.
    change = np.diff(ys) != 0
    ends = np.concatenate(([True], change)) | np.concatenate((change, [True]))
    return Isotonic(xs=tuple(xs[ends]), ys=tuple(ys[ends]))


def _checked(scores: Scores, labels: npt.ArrayLike) -> tuple[Probabilities, Probabilities]:
    x, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ConfigError(f"a curve is fitted on as many labels as scores, got shapes {x.shape} and {y.shape}.")
    if not np.isfinite(x).all():
        raise ConfigError(f"a curve is fitted on finite scores, got {int((~np.isfinite(x)).sum())} that are not.")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ConfigError(f"labels must be 0 or 1, got {y[~np.isin(y, (0.0, 1.0))][0]}.")
    if not 0 < y.sum() < len(y):
        raise ConfigError(f"a curve needs labels of both kinds, got {int(y.sum())} ones of {len(y)}.")
    return x, y
