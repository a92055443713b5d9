"""The linear head of a probe: L2-regularised logistic regression with an intercept a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from annotate.models.base import FloatArray

FloatVector = npt.NDArray[np.float64]

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Strengths of the L2 penalty that are tried, strongest first: each fit starts from the one before."""

WORD_SCALE = 0.3
"""Scale of a feature of listed words, beside 1 of a hidden state's: few of them stand against hundreds, so the penalty
holds them back less."""

_MIN_SCALE = 1e-6


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """`score = weight @ (features - mean) / scale + bias`.

    Attributes:
        weight: float64 `[width]`.
        offsets: float64 `[n_sources]`, the intercept of each source.
        mean: float64 `[width]`, of the features it was fitted on.
        scale: float64 `[width]`, their standard deviation times the root of the number of pooled hidden states, so that
            one penalty means the same however many there are; of features of words, times `WORD_SCALE`.
        penalty: strength of the L2 penalty.
    """

    weight: FloatVector
    offsets: FloatVector
    mean: FloatVector
    scale: FloatVector
    penalty: float

    @property
    def bias(self) -> float:
        """The mean intercept: one head gives one score, wherever a span is from."""
        return float(self.offsets.mean())

    def folded(self) -> tuple[FloatVector, float]:
        """Weight and bias for features that are not standardised."""
        weight = self.weight / self.scale
        return weight, self.bias - float(weight @ self.mean)

    def scores(self, features: FloatArray) -> FloatVector:
        """Score float32 features `[n, width]`."""
        return standardise(features, self.mean, self.scale) @ self.weight + self.bias


def standardise(features: FloatArray, mean: FloatVector, scale: FloatVector) -> npt.NDArray[np.float64]:
    """Features as the head sees them: float64 `[n, width]`."""
    return (features.astype(np.float64) - mean) / scale


def fit_path(
    features: FloatArray,
    targets: FloatVector,
    sources: npt.NDArray[np.int64],
    weights: FloatVector,
    *,
    blocks: int,
    words: int = 0,
    penalties: Sequence[float] = PENALTIES,
    start: LinearHead | None = None,
    tolerance: float = 1e-12,
) -> list[LinearHead]:
    """Fit one head for each penalty, by L-BFGS in float64 on the mean cross-entropy to `targets`.

    The score's direction is shared by all sources; an intercept each keeps it from learning which source a span is
    from.

    Args:
        features: float32 `[n, width]`.
        targets: `[n]` in [0, 1].
        sources: int64 `[n]` from 0; a source that does not occur gets the mean intercept of the others.
        weights: `[n]`, how many spans each counts as.
        blocks: number of pooled hidden states in the width.
        words: number of features of words, which come after them.
        penalties: strengths of the L2 penalty, strongest first.
        start: a head of the same spans to start from, which saves time.
        tolerance: stop where a step lowers the loss by no more than this part of it.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    # A feature that never moves has no scale; it gets no weight either, being 0 once the mean is gone.
    scale = np.where(spread > _MIN_SCALE, spread, 1.0) * np.sqrt(blocks)
    if words:
        scale[-words:] *= WORD_SCALE / np.sqrt(blocks)
    x = standardise(features, mean, scale)
    width, total = x.shape[1], weights.sum()
    present, codes = np.unique(sources, return_inverse=True)
    heads = []
    at = np.zeros(width + len(present)) if start is None else np.concatenate([start.weight, start.offsets[present]])
    for penalty in penalties:

        def loss(v: FloatVector, penalty: float = penalty) -> tuple[float, FloatVector]:
            weight = v[:width]
            logits = x @ weight + v[width:][codes]
            error = (expit(logits) - targets) * weights / total
            losses = np.logaddexp(0, logits) - targets * logits
            value = np.sum(losses * weights) / total + 0.5 * penalty * (weight @ weight)
            slope = np.concatenate([error @ x + penalty * weight, np.bincount(codes, error, len(present))])
            return float(value), slope

        options = {"maxiter": 500, "maxcor": 20, "ftol": tolerance, "gtol": 1e-6}
        at = minimize(loss, at, jac=True, method="L-BFGS-B", options=options).x
        offsets = np.full(int(sources.max()) + 1, at[width:].mean())
        offsets[present] = at[width:]
        heads.append(LinearHead(weight=at[:width], offsets=offsets, mean=mean, scale=scale, penalty=penalty))
    return heads


def cross_entropy(
    scores: FloatVector,
    targets: FloatVector,
    sources: npt.NDArray[np.int64],
    weights: FloatVector,
    offsets: FloatVector,
) -> float:
    """Mean cross-entropy where each source has its own intercept in place of the mean one."""
    logits = scores - offsets.mean() + offsets[sources]
    return float(np.average(np.logaddexp(0, logits) - targets * logits, weights=weights))
