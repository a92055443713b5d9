"""Metrics 8 and 9: whether each tag does its own work, and whether tags add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.proof.discrimination import matched_auroc
from annotate.proof.intervals import Bool, Float64


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
        r2: the share of the joint effect's variance that the sum explains; 1 if they add up, below 0 if no effect at
            all would explain it better.
        cosine: between joint effect and sum, over all positions.
    """

    r2: float
    cosine: float


def composition(
    none: npt.NDArray[np.floating], first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], both: Float64
) -> Composition:
    """Metric 9, in logits. Those of a softmax are known up to a constant, so each row is centred first.

    Args:
        none: float `[n, vocabulary]`, logits at n positions, without tags.
        first: under the first tag.
        second: under the second.
        both: under both.

    Raises:
        ConfigError: the shapes differ.
    """
    if len({array.shape for array in (none, first, second, both)}) > 1:
        raise ConfigError("logits under no tag, each tag and both must be of one shape")
    base = _centred(none)
    joint = _centred(both) - base
    added = _centred(first) + _centred(second) - 2 * base
    norm = float(np.sqrt((joint**2).sum() * (added**2).sum()))
    left, total = float(((joint - added) ** 2).sum()), float((joint**2).sum())
    return Composition(
        r2=1 - left / total if total else float("nan"), cosine=float((joint * added).sum()) / norm if norm else 0.0
    )


def _centred(logits: npt.NDArray[np.floating]) -> Float64:
    values = logits.astype(np.float64)
    return values - values.mean(axis=1, keepdims=True)
