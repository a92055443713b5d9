"""Metrics 8 and 9: whether each tag does its own work, and whether tags add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.proof.discrimination import matched_auroc
from annotate.proof.intervals import Bool, Float64, Int64, Interval, draws, over_seeds


@dataclass(frozen=True, kw_only=True)
class Specificity:
    """What each tag tells of each label.

    Attributes:
        matrix: float64 `[tags, tags]`: row i, column j is how far the likelihood ratio of tag i is from chance as a
            classifier of tag j: AUROC less 0.5.
        corpus: float64 `[tags, tags]`, how the labels go together in the corpus: their correlation (phi).
        diagonal: whether in each row the largest entry is that of the tag itself; None if one of these could not be
            measured.
    """

    matrix: Float64
    corpus: Float64
    diagonal: bool | None


def specificity(ratios: Float64, labels: Bool) -> Specificity:
    """Metric 8, by likelihoods of held-out spans.

    An entry off the diagonal is no fault by itself: tags that go together in the corpus tell of each other.

    Args:
        ratios: float64 `[n, tags]`, of `likelihood_ratios`.
        labels: bool `[n, tags]`, which tags each span has.
    """
    tags = ratios.shape[1]
    matrix = np.array([[matched_auroc(ratios[:, i], labels[:, j]) - 0.5 for j in range(tags)] for i in range(tags)])
    off = labels - labels.mean(axis=0)
    spread = np.sqrt((off**2).mean(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):  # a tag that all spans have correlates with nothing: NaN
        corpus = (off.T @ off / max(1, len(off))) / np.outer(spread, spread)
    filled = np.where(np.isnan(matrix), -np.inf, matrix)
    largest = bool((filled.argmax(axis=1) == np.arange(tags)).all())
    return Specificity(matrix=matrix, corpus=corpus, diagonal=None if np.isnan(np.diagonal(matrix)).any() else largest)


@dataclass(frozen=True, kw_only=True)
class Composition:
    """How well the effect of two tags together is the sum of their effects alone.

    Attributes:
        r2: the share of the joint effect that the sum explains: 1 if they add up, below 0 if no effect at all would
            explain it better. Two tags that do the same, once, have 0.
        cosine: between joint effect and sum.
    """

    r2: Interval
    cosine: Interval


def composition(sums: Float64, documents: Int64, control: Float64 | None = None) -> Composition:
    """Metric 9, by what tags do to logits.

    Args:
        sums: float64 `[seeds, n, 3]`, for each span sums over its tokens and the vocabulary: the square of the effect
            of both tags, the square of the sum of their effects alone, and the product of the two.
        documents: int64 `[n]`, the document of each span.
        control: of the same shape, in the same order of seeds: then both values are those of `sums` less its own. None:
            they are given as they are.
    """

    def of(often: Float64) -> Float64:
        """Of each seed: float64 `[seeds, rounds, 2]`."""
        own = np.stack([_of_sums(often @ each) for each in sums])
        return own if control is None else own - np.stack([_of_sums(often @ each) for each in control])

    of_seeds = of(np.ones((1, len(documents))))[:, 0]
    drawn = np.concatenate([of(often).mean(axis=0) for often in draws(documents)])
    r2, cosine = (over_seeds(of_seeds[:, k], drawn[:, k], documents) for k in range(2))
    return Composition(r2=r2, cosine=cosine)


def _of_sums(sums: Float64) -> Float64:
    """R² and cosine of sums float64 `[..., 3]`: float64 `[..., 2]`; NaN where both tags have no effect."""
    joint, added, product = np.moveaxis(np.where(sums[..., :1] > 0, sums, np.nan), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.stack([(2 * product - added) / joint, product / np.sqrt(joint * added)], axis=-1)
