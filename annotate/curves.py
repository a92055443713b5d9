"""Probability curves: from a raw score to the probability that a person would say yes. They are fitted on labels.

`Platt` is a logistic curve with two parameters (Platt 1999, "Probabilistic outputs for support vector machines").
`Isotonic` is a rising curve through the means of pooled scores (pool adjacent violators); it needs more labels. Both go
to JSON and back without loss. scipy is imported in the functions that use it: every worker imports this module, and few
of them fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError

Scores = npt.NDArray[np.floating[Any]]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Platt:
    """`p = 1 / (1 + exp(-(a * score + b)))`."""

    a: float
    b: float
    kind: Literal["platt"] = "platt"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b)):
            raise ConfigError(f"a Platt curve must have finite parameters, got a={self.a}, b={self.b}.")

    def probability(self, scores: Scores) -> Probabilities:
        """Probability of each score, float64 of the same shape; NaN stays NaN."""
        from scipy.special import expit

        return np.asarray(expit(self.a * np.asarray(scores, np.float64) + self.b), np.float64)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `curve_from_json` reads it."""
        return {"kind": self.kind, "a": self.a, "b": self.b}


@dataclass(frozen=True, kw_only=True)
class Isotonic:
    """Straight lines between knots (`scores`, `probabilities`), level outside them. The probabilities do not fall."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    kind: Literal["isotonic"] = "isotonic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(float(x) for x in self.scores))
        object.__setattr__(self, "probabilities", tuple(float(y) for y in self.probabilities))
        xs, ys = self.scores, self.probabilities
        if not xs or len(xs) != len(ys):
            raise ConfigError(f"an isotonic curve needs knots, got {len(xs)} scores and {len(ys)} probabilities.")
        if not (np.isfinite(xs).all() and (np.diff(xs) > 0).all()):
            raise ConfigError(f"the scores of an isotonic curve must be finite and rise, got {xs}.")
        if not (ys[0] >= 0 and ys[-1] <= 1 and (np.diff(ys) >= 0).all()):
            raise ConfigError(f"the probabilities of an isotonic curve must not fall and lie in [0, 1], got {ys}.")

    def probability(self, scores: Scores) -> Probabilities:
        """Probability of each score, float64 of the same shape; NaN stays NaN."""
        return np.asarray(np.interp(np.asarray(scores, np.float64), self.scores, self.probabilities), np.float64)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `curve_from_json` reads it."""
        return {"kind": self.kind, "scores": list(self.scores), "probabilities": list(self.probabilities)}


Curve = Platt | Isotonic

ISOTONIC_MIN = 1000
"""With so many labels `fit_curve` fits an isotonic curve, with fewer a Platt curve."""

ISOTONIC_GROUP = 50
"""Labels that are pooled in an isotonic curve, so that no probability rests on a handful of them."""


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


def fit_curve(scores: Scores, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Curve:
    """Fit an isotonic curve on `ISOTONIC_MIN` labels or more, else a Platt curve. Arguments as for `fit_platt`."""
    if len(scores) < ISOTONIC_MIN:
        return fit_platt(scores, labels, weights)
    return fit_isotonic(scores, labels, weights, group=ISOTONIC_GROUP)


def fit_platt(scores: Scores, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Platt:
    """Fit a rising logistic curve by maximum likelihood.

    The targets are smoothed as Platt does it, so that the curve stays finite where a score separates the labels.

    Args:
        scores: `[n]`, finite, of spans that the scorer was not trained on.
        labels: `[n]` of 0 and 1, or bool.
        weights: `[n]`, how much each label counts; None: all the same.

    Raises:
        ConfigError: lengths differ, a score is not finite, a label is neither 0 nor 1, or only one of the two occurs.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    x, y, share = _checked(scores, labels, weights)
    positives = y.sum()
    targets = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    # Standardised scores keep the problem well conditioned, whatever scale the scorer has.
    middle, scale = x.mean(), x.std() or 1.0
    z = (x - middle) / scale

    def loss(v: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = v[0] * z + v[1]
        error = share * (expit(logits) - targets)
        return float(share @ (np.logaddexp(0, logits) - targets * logits)), np.array([error @ z, error.sum()])

    # No slope below 0: a curve that falls would turn the axis round.
    fit = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    slope = float(fit.x[0] / scale)
    return Platt(a=slope, b=float(fit.x[1] - slope * middle))


def fit_isotonic(
    scores: Scores, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, group: int = 1
) -> Isotonic:
    """Fit a rising curve by least squares (pool adjacent violators), through the middle of each level.

    Args:
        scores: as for `fit_platt`.
        labels: as for `fit_platt`.
        weights: as for `fit_platt`.
        group: how many labels with neighbouring scores are pooled first, so that no probability rests on a handful.

    Raises:
        ConfigError: as for `fit_platt`.
    """
    from scipy.optimize import isotonic_regression
    from scipy.stats import rankdata

    x, y, share = _checked(scores, labels, weights)
    # Equal scores stay in one group, so that the order of rows does not matter.
    ranks = rankdata(x, method="min").astype(np.int64) - 1
    _, member = np.unique(ranks * max(1, len(x) // group) // len(x), return_inverse=True)
    total = np.bincount(member, weights=share)
    middles = np.bincount(member, weights=share * x) / total
    fit = isotonic_regression(np.bincount(member, weights=share * y) / total, weights=total)
    # One knot a level, at the mean score of its groups. Between levels the curve is a straight line.
    level = np.repeat(np.arange(len(fit.blocks) - 1), np.diff(fit.blocks))
    mass = np.bincount(level, weights=total)
    xs = np.bincount(level, weights=total * middles) / mass
    ys = np.clip(np.bincount(level, weights=total * fit.x) / mass, 0.0, 1.0)
    return Isotonic(scores=tuple(xs), probabilities=tuple(np.maximum.accumulate(ys)))


def _checked(
    scores: Scores, labels: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Probabilities, Probabilities, Probabilities]:
    x, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.shape != w.shape:
        raise ConfigError(f"a curve is fitted on as many labels as scores, got shapes {x.shape} and {y.shape}.")
    if not np.isfinite(x).all():
        raise ConfigError(f"a curve is fitted on finite scores, got {int((~np.isfinite(x)).sum())} that are not.")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ConfigError(f"labels must be 0 or 1, got {y[~np.isin(y, (0.0, 1.0))][0]}.")
    if not 0 < y.sum() < len(y):
        raise ConfigError(f"a curve needs labels of both kinds, got {int(y.sum())} ones of {len(y)}.")
    order = np.lexsort((w, y, x))  # sums round by the order of their terms, and that of rows must not matter
    x, y, w = x[order], y[order], w[order]
    return x, y, w / w.sum()
