"""How much more likely spans are under their own tags: swap gap, gain, cost.

All functions take log-likelihoods of spans in nats, float64 `[n, states]`, over tokens of text alone. Column 0 is the
span without a tag of the family, column k the span under tag k. The context of a span, and the tags in it, are the same
in all columns. The numbers of the metrics are those of docs/proof.md.
"""

from __future__ import annotations

import math

import numpy as np

from annotate.errors import ConfigError
from annotate.proof.intervals import Bool, Float64, Int64


def contrasted(states: int) -> range:
    """The columns that are compared: all tags of a family. A tag without others is compared with its absence.

    Raises:
        ConfigError: there is no tag.
    """
    if states < 2:
        raise ConfigError(f"a family has one tag at least, but there are {states} columns, of which the first has none")
    return range(0 if states == 2 else 1, states)


def swap_gaps(likelihoods: Float64, states: Int64) -> Float64:
    """Metric 2, the swap gap of each span: under its own tag, minus the mean under the others of the family.

    Args:
        likelihoods: float64 `[n, states]`.
        states: int64 `[n]`, the column that is the span's own.

    Returns:
        float64 `[n]`, nats. NaN for a span that has no tag, in a family of several: which tag was taken away, or that
        none held, can't be told.
    """
    columns = np.array(contrasted(likelihoods.shape[1]))
    own = np.take_along_axis(likelihoods, states[:, None], axis=1)[:, 0]
    others = (likelihoods[:, columns].sum(axis=1) - own) / (len(columns) - 1)
    return np.where(np.isin(states, columns), own - others, np.nan)


def above_chance(likelihoods: Float64, states: Int64) -> Float64:
    """Control ii: the swap gap of each span by tags that may be of other spans, less its mean if they are drawn.

    Tags that say nothing of their spans need not have a swap gap of 0: where one tag is frequent and most spans are
    likelier under it, the mean by tags drawn by their shares is (p1 - p2) E[l1 - l2]. This is what is subtracted.

    Args:
        likelihoods: float64 `[n, states]`.
        states: int64 `[n]`, the tags of other spans.

    Returns:
        float64 `[n]`, nats; 0 is expected of tags that say nothing. NaN as for `swap_gaps`.
    """
    columns, n = contrasted(likelihoods.shape[1]), len(states)
    by_column = np.stack([swap_gaps(likelihoods, np.full(n, column)) for column in columns], axis=1)
    counts = np.array([(states == column).sum() for column in columns])
    return swap_gaps(likelihoods, states) - by_column @ (counts / max(1, counts.sum()))


def swap_accuracy(gaps: Float64, states: Int64) -> float:
    """Metric 2, the share of spans with a swap gap above 0 (a gap of 0 counts half), each tag weighted alike.

    0.5 if tags do nothing, however often each occurs. NaN if no span counts.
    """
    kept = ~np.isnan(gaps)
    right = (gaps[kept] > 0) + 0.5 * (gaps[kept] == 0)
    _, of_state = np.unique(states[kept], return_inverse=True)
    if not len(right):
        return math.nan
    return float((np.bincount(of_state, weights=right) / np.bincount(of_state)).mean())


def likelihood_ratios(likelihoods: Float64, tag: int) -> Float64:
    """How much likelier each span is under a tag than, on average, under the others of its family: float64 `[n]`.

    Of a tag without others: than without it.
    """
    others = [column for column in contrasted(likelihoods.shape[1]) if column != tag]
    return likelihoods[:, tag] - likelihoods[:, others].mean(axis=1)


def gains(likelihoods: Float64, states: Int64) -> Float64:
    """Metric 1, the gain G of each span by its own tag over none: float64 `[n]`, nats; NaN for a span without a tag.

    It means what it says only if the model knows spans whose tag was left out by chance: `Family(dropout=...)`, in a
    family where every span has a tag.
    """
    own = np.take_along_axis(likelihoods, states[:, None], axis=1)[:, 0]
    return np.where(states > 0, own - likelihoods[:, 0], np.nan)


def entropy(states: Int64) -> float:
    """H(Y), nats: how much is not known of a span's tag, given how often each occurs.

    It is the bound of the mean gain of an ideal model: a tag is a function of its span, so it can't tell more about
    the span than there is to tell about the tag. The exact bound is H(Y|context), which is smaller. So G / H(Y) is at
    most the share of the bound that was reached.
    """
    shares = np.unique(states, return_counts=True)[1] / max(1, len(states))
    return float(-(shares * np.log(shares)).sum())


def losses_added(tagged: Float64, plain: Float64) -> Float64:
    """Metric 7, the cost to untagged text, of each span: float64 `[pairs, n]`, nats.

    The log-likelihood of the span, without tags, by a model that never saw any, less that by a model that was trained
    with tags. Above 0 where training with tags made untagged text less likely.

    Args:
        tagged: float64 `[seeds, n]`, of models that were trained with tags.
        plain: float64 `[seeds of these, n]`. Models of one seed start from equal weights and take windows in equal
            order, so they are paired by seed; a seed that one arm lacks is left out.
    """
    tagged, plain = np.atleast_2d(tagged), np.atleast_2d(plain)
    pairs = min(len(tagged), len(plain))
    return plain[:pairs] - tagged[:pairs]


def firsts(documents: Int64) -> Bool:
    """Which spans are the first of their documents: bool `[n]`. Nothing stands before them: the shortest prompts."""
    return np.append(True, documents[1:] != documents[:-1])[: len(documents)]
