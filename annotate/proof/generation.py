"""Metrics 5 and 6: what a judge says of texts that were written under tags.

The judge must not be the scorer that the tags came from: a model may learn what a scorer errs in.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from annotate.errors import ConfigError
from annotate.probes.metrics import spearman
from annotate.proof.gaps import contrasted
from annotate.proof.intervals import (
    LEAST,
    NOTHING,
    Float64,
    Int64,
    Interval,
    draws,
    mean_interval,
    n_documents,
    percentiles,
)

MOST_ORDERED = 7  # grades, of which all 5,040 orders are looked at
DRAWN_ORDERS = 5000  # of more grades


def judged_difference(under: Float64, against: Float64) -> Interval:
    """Metric 5, the difference of the judge's means: texts under a tag, less texts under others or none.

    Texts of one number are a pair: they have the same first token and the same draws. So pairs are drawn with
    replacement; the spread of seeds is added, in which chance of the texts is counted a second time.

    Args:
        under: float64 `[seeds, n]`, the judge's scores of n texts of each model.
        against: float64 `[seeds, n]`, of the texts of the same numbers.
    """
    return mean_interval(under - against, np.arange(under.shape[-1]))


def corpus_difference(
    scores: Float64, states: Int64, tag: int, n_states: int, documents: Int64, *, seed: int = 0
) -> Interval:
    """The same of the spans of a corpus: the mean of those with a tag, less the mean over other tags of their means.

    Args:
        scores: float64 `[n]`, the judge's, for this tag.
        states: int64 `[n]`, the tag of each span, 0 for none. A tag without others is compared with none.
        tag: which, from 1.
        n_states: the number of tags, and one for none.
        documents: int64 `[n]`, the document of each span. Nothing is measured where fewer than 10 have the tag, or
            fewer than 10 another one that it is compared with.
        seed: of the draws.
    """
    others = [state for state in contrasted(n_states) if state != tag]
    if min(n_documents(documents[states == state]) for state in (tag, *others)) < LEAST:
        return NOTHING

    def of(often: Float64) -> Float64:
        with np.errstate(invalid="ignore"):  # a draw may have no span of a tag: it is left out
            means = [often @ np.where(states == s, scores, 0) / (often @ (states == s)) for s in (tag, *others)]
        return np.asarray(means[0] - np.mean(means[1:], axis=0))

    drawn = np.concatenate([of(often) for often in draws(documents, seed=seed)])
    return percentiles(float(of(np.ones((1, len(scores))))[0]), drawn)


def expected_maximum(scores: Float64, k: int) -> float:
    """The mean of the highest of `k` texts, drawn without replacement from all; RealToxicityPrompts has k = 25.

    Of n scores in rising order, the i-th is the highest of k with probability C(i - 1, k - 1) / C(n, k).

    Raises:
        ConfigError: there are fewer than `k` texts, or `k` is below 1.
    """
    n = len(scores)
    if not 1 <= k <= n:
        raise ConfigError(f"the highest of {k} texts is asked for, and there are {n}")
    chance = np.zeros(n)
    chance[n - 1] = k / n
    for i in range(n - 1, k - 1, -1):  # C(i - 1, k - 1) = C(i, k - 1) * (i - k + 1) / i
        chance[i - 1] = chance[i] * (i - k + 1) / i
    return float(np.sort(scores) @ chance)


@dataclass(frozen=True, kw_only=True)
class DoseResponse:
    """How the judge's scores follow the grades of a tag.

    Attributes:
        spearman: correlation of the ranks of grades and mean scores.
        chance: how often grades that say nothing would correlate as much or more, in either direction. Of three grades
            a third of all orders do, so three can show nothing. NaN for fewer than two grades.
        generated: the mean score of texts by grade.
        corpus: the mean score of the corpus's spans by grade. Texts are drawn from the likelier tokens alone, so even
            an ideal model need not come near these means.
    """

    spearman: float
    chance: float
    generated: dict[int, float]
    corpus: dict[int, float]


def dose_response(grades: Int64, scores: Float64, corpus_grades: Int64, corpus_scores: Float64) -> DoseResponse:
    """Metric 6, for a family of graded tags.

    Args:
        grades: int64 `[n]`, the grade under which each text was written.
        scores: float64 `[n]`, the judge's scores of the texts.
        corpus_grades: int64 `[m]`, the grade of each span of the corpus.
        corpus_scores: float64 `[m]`, the judge's scores of these.
    """
    generated = _means(grades, scores)
    means = np.array(list(generated.values()))
    rank = spearman(np.array(list(generated), np.float64), means)
    return DoseResponse(
        spearman=rank,
        chance=_chance(means, rank),
        generated=generated,
        corpus=_means(corpus_grades, corpus_scores),
    )


def _chance(means: Float64, rank: float) -> float:
    """The share of orders of the means whose correlation of ranks is as far from 0: all orders, or 5,000 drawn."""
    n = len(means)
    if n < 2:
        return math.nan
    if n <= MOST_ORDERED:
        orders = np.array([*itertools.permutations(range(n))])
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(n), (DRAWN_ORDERS, 1)), axis=1)
    ranks, grades = rankdata(means) - (n + 1) / 2, np.arange(n) - (n - 1) / 2
    size = math.sqrt(float((ranks**2).sum() * (grades**2).sum()))
    found = np.abs(ranks[orders] @ grades) / size if size else np.zeros(len(orders))
    as_far = int((found >= abs(rank) - 1e-9).sum())
    return as_far / len(orders) if n <= MOST_ORDERED else (as_far + 1) / (len(orders) + 1)


def _means(groups: Int64, values: Float64) -> dict[int, float]:
    found, at = np.unique(groups, return_inverse=True)
    means = np.bincount(at, weights=values) / np.bincount(at)
    return dict(zip(found.tolist(), means.tolist(), strict=True))
