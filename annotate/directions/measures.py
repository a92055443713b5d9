"""Measures of directions, each against what chance gives: cosines, steering equivalence, additivity in log-odds.

The fit of log-odds, as a sum of what tags and directions add, is that of Bigelow et al. 2025 (arXiv 2511.00617).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.models.base import FloatArray
from annotate.proof.intervals import NOTHING, Float64, Interval, draws, percentiles

Bool = npt.NDArray[np.bool_]

MOVES = 1000
RANDOM = 5
"""Random directions that each direction is set against."""
TOGETHER = 50


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """A cosine, and how large it gets by chance.

    Attributes:
        value: the cosine.
        chance: the 99th percentile of the cosines with directions of labels that are moved to other spans.
        p: the share of such moves with a cosine at least as large, the value itself counted.
    """

    value: float
    chance: float
    p: float


def cosine(v: FloatArray, w: FloatArray) -> float:
    """The cosine of two vectors, `[width]`; NaN if one is zero."""
    norm = float(np.linalg.norm(v.astype(np.float64)) * np.linalg.norm(w.astype(np.float64)))
    return float(v.astype(np.float64) @ w.astype(np.float64)) / norm if norm else float("nan")


def cosine_to_texts(direction: FloatArray, states: FloatArray, having: Bool, lacking: Bool, *, seed: int = 0) -> Cosine:
    """The cosine of a direction with the difference of means of untagged spans, against labels of other spans.

    Spans of one document are alike, and so are their labels. So all labels are moved along the spans by one number, in
    a ring: neighbours stay neighbours. All is NaN for a direction of zeros.

    Args:
        direction: float32 `[width]`, of the tags.
        states: float32 `[n_spans, width]`, of untagged spans in the same layer; NaN for a span without a token.
        having: bool `[n_spans]`, the spans with the tags.
        lacking: bool `[n_spans]`, those that they are set against.
        seed: of the moves.
    """
    if not direction.any():
        return Cosine(value=np.nan, chance=np.nan, p=np.nan)
    kept = (having | lacking) & ~np.isnan(states).any(axis=1)
    labels, vectors = having[kept], states[kept].astype(np.float64)
    moves = np.random.default_rng(seed).permutation(np.arange(1, len(labels)))[:MOVES]
    found = [_difference(labels[None], vectors)]
    for start in range(0, len(moves), TOGETHER):
        places = np.arange(len(labels)) + moves[start : start + TOGETHER, None]
        found.append(_difference(labels[places % len(labels)], vectors))
    all_of = np.concatenate(found)
    cosines = all_of @ direction.astype(np.float64) / (np.linalg.norm(all_of, axis=1) * np.linalg.norm(direction))
    value, null = float(cosines[0]), cosines[1:]
    return Cosine(
        value=value, chance=float(np.quantile(null, 0.99)), p=float((1 + (null >= value).sum()) / (1 + len(null)))
    )


def _difference(labels: Bool, vectors: Float64) -> Float64:
    """Differences of means, float64 `[n_labelings, width]`."""
    weights = labels / labels.sum(axis=1, keepdims=True) - ~labels / (~labels).sum(axis=1, keepdims=True)
    return weights @ vectors


def equivalence(steered: Float64, plain: Float64, *, seed: int = 0) -> Interval:
    """Steering equivalence: the share of the divergence that steering takes away, `1 - sum(steered) / sum(plain)`.

    1: steering does what the tags do. 0: it does nothing of it. Below 0: it does something else.

    Args:
        steered: float64 `[n]`, the divergence of each text from its steered self.
        plain: float64 `[n]`, from its plain self.
        seed: of the draws.
    """
    if not plain.sum():
        return NOTHING
    drawn = np.concatenate(
        [1 - (often @ steered) / (often @ plain) for often in draws(np.arange(len(plain)), seed=seed)]
    )
    return percentiles(float(1 - steered.sum() / plain.sum()), drawn)


@dataclass(frozen=True, kw_only=True)
class Additivity:
    """A fit of log-odds as `a * tags + b * weight + c`.

    Attributes:
        a: nats that each span under the tags adds; NaN if their number was always the same.
        b: nats that each unit of the direction adds.
        c: without both.
        r2: the share of the variance that the fit explains.
        interaction: how much more it explains with a product of both, where the sum leaves something out.
        b_random: the largest `b`, as an absolute value, of random directions of equal norm.
    """

    a: float
    b: float
    c: float
    r2: float
    interaction: float
    b_random: float = float("nan")


def additivity(tags: Float64, weights: Float64, log_odds: Float64) -> Additivity:
    """Fit log-odds as a sum of what tags and direction add, by least squares.

    Args:
        tags: float64 `[n]`, how many spans are under the tags.
        weights: float64 `[n]`, how much of the direction is added.
        log_odds: float64 `[n]`, measured.

    Returns:
        The fit; R² is NaN if the log-odds are all equal, and all is NaN if one of them could not be measured.
    """
    if np.isnan(log_odds).any():
        return Additivity(a=np.nan, b=np.nan, c=np.nan, r2=np.nan, interaction=np.nan)
    if tags.min() == tags.max():
        (b, c), r2 = _fit([weights, np.ones(len(tags))], log_odds)
        return Additivity(a=np.nan, b=float(b), c=float(c), r2=r2, interaction=np.nan)
    columns = [tags, weights, np.ones(len(tags))]
    plain, r2 = _fit(columns, log_odds)
    _, with_product = _fit([*columns, tags * weights], log_odds)
    a, b, c = plain.tolist()
    return Additivity(a=a, b=b, c=c, r2=r2, interaction=with_product - r2)


def _fit(columns: Sequence[Float64], values: Float64) -> tuple[Float64, float]:
    matrix = np.stack(columns, axis=1)
    solution, *_ = np.linalg.lstsq(matrix, values, rcond=None)
    spread = float(((values - values.mean()) ** 2).sum())
    lost = float(((values - matrix @ solution) ** 2).sum())
    return solution.astype(np.float64), 1 - lost / spread if spread else float("nan")


def of_equal_norm(direction: FloatArray, number: int, *, seed: int = 0) -> FloatArray:
    """Random directions of the same norm, float32 `[number, *direction.shape]`: what chance gives for steering."""
    drawn = np.random.default_rng(seed).standard_normal((number, *direction.shape))
    drawn *= np.linalg.norm(direction, axis=-1, keepdims=True) / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn.astype(np.float32)
