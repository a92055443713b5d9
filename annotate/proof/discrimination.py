"""Metric 3: a model's likelihood ratio as a classifier of the tag."""

from __future__ import annotations

import math

import numpy as np

from annotate.errors import ConfigError
from annotate.proof.intervals import (
    LEAST,
    NOTHING,
    Bool,
    Float64,
    Int64,
    Interval,
    draws,
    n_documents,
    over_seeds,
)


def matched_auroc(scores: Float64, labels: Bool, strata: Int64 | None = None) -> float:
    """The probability that a span with the tag scores above one without it in the same stratum; ties count half.

    Args:
        scores: float64 `[n]`.
        labels: bool `[n]`, whether the span has the tag.
        strata: int64 `[n]`, such as the number of tokens: then no difference in length can tell. None: one stratum.

    Returns:
        NaN if no stratum has spans of both kinds.

    Raises:
        ConfigError: a score is NaN.
    """
    return float(_weighted(scores, labels, strata, np.ones((1, len(scores))))[0])


def auroc_interval(
    scores: Float64, labels: Bool, documents: Int64, *, strata: Int64 | None = None, seed: int = 0
) -> Interval:
    """The same, as the mean over seeds, with its interval.

    Args:
        scores: float64 `[seeds, n]` or `[n]`.
        labels: bool `[n]`.
        documents: int64 `[n]`, the document of each span.
        strata: as for `matched_auroc`.
        seed: of the draws.

    Raises:
        ConfigError: a score is NaN.
    """
    return margin_interval(scores, None, labels, documents, strata=strata, seed=seed)


def margin_interval(
    scores: Float64,
    control: Float64 | None,
    labels: Bool,
    documents: Int64,
    *,
    strata: Int64 | None = None,
    seed: int = 0,
) -> Interval:
    """How far the AUROC is above that of the control, by the same draws of documents, in pairs of equal seed.

    The control is the null, not 0.5: a control that rises has found something besides the tag.

    Args:
        scores: float64 `[seeds, n]` or `[n]`.
        control: of the same shape, in the same order of seeds. None: the AUROC itself is given.
        labels: bool `[n]`.
        documents: int64 `[n]`. Nothing is measured where fewer than 10 have a span with the tag, or fewer
            than 10 one without.
        strata: as for `matched_auroc`.
        seed: of the draws.

    Raises:
        ConfigError: a score is NaN.
    """
    scores = np.atleast_2d(scores)
    if min(n_documents(documents[labels]), n_documents(documents[~labels])) < LEAST:
        return NOTHING

    def of(often: Float64) -> Float64:
        """The margin of each seed: float64 `[seeds, rounds]`."""
        own = np.stack([_weighted(each, labels, strata, often) for each in scores])
        if control is None:
            return own
        return own - np.stack([_weighted(each, labels, strata, often) for each in np.atleast_2d(control)])

    drawn = np.concatenate([of(often).mean(axis=0) for often in draws(documents, seed=seed)])
    return over_seeds(of(np.ones((1, len(labels))))[:, 0], drawn, documents)


def pairs_in_strata(labels: Bool, strata: Int64) -> int:
    """How many pairs of a span with the tag and one without are in one stratum: what a matched AUROC is taken from."""
    _, at = np.unique(strata, return_inverse=True)
    having = np.bincount(at, weights=labels)
    return int((having * (np.bincount(at) - having)).sum())


def _weighted(scores: Float64, labels: Bool, strata: Int64 | None, often: Float64) -> Float64:
    """The AUROC where spans count `often`, float64 `[rounds, n]`: float64 `[rounds]`."""
    if np.isnan(scores).any():
        raise ConfigError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are no numbers: they have no rank")
    if not len(scores):
        return np.full(len(often), math.nan)
    strata = np.zeros(len(scores), np.int64) if strata is None else strata
    order = np.lexsort((scores, strata))
    scores, labels, strata, often = scores[order], labels[order], strata[order], often[:, order]
    new_stratum = np.append(True, strata[1:] != strata[:-1])
    new_value = new_stratum | np.append(True, scores[1:] != scores[:-1])
    negative = np.where(labels, 0.0, often)
    below = np.concatenate([np.zeros((len(often), 1)), np.cumsum(negative, axis=1)], axis=1)
    at = np.arange(len(scores))
    stratum = np.maximum.accumulate(np.where(new_stratum, at, 0))
    first = np.maximum.accumulate(np.where(new_value, at, 0))
    starts = np.flatnonzero(new_value)
    end = np.append(starts[1:], len(scores))[np.cumsum(new_value) - 1]
    last = np.append(np.flatnonzero(new_stratum)[1:], len(scores))[np.cumsum(new_stratum) - 1]
    positive = np.where(labels, often, 0.0)
    won = positive * ((below[:, first] + below[:, end]) / 2 - below[:, stratum])
    pairs = (positive * (below[:, last] - below[:, stratum])).sum(axis=1)
    return np.divide(won.sum(axis=1), pairs, out=np.full(len(often), math.nan), where=pairs > 0)
