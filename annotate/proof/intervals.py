"""Intervals by resampling documents, and seeds beside them.

Spans of one document are alike, so documents are drawn, each with all its spans (the cluster bootstrap: Davison and
Hinkley 1997, section 3.8). Where several models were trained, their seeds are drawn too, apart from the documents (the
pigeonhole bootstrap: Owen 2007, "The pigeonhole bootstrap", arXiv 0705.3404). With three seeds such an interval is
rough: it is there so that one lucky seed does not pass for a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

ROUNDS = 1000
TOGETHER = 50  # rounds whose weights are in memory together
LEVEL = 0.95
DETECTED = 2.8
"""Standard errors that a true effect needs so that a two-sided test at 5 % finds it in 80 % of cases: 1.96 + 0.84."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value, and the 95 % interval around it. All are NaN where nothing could be measured."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0


NOTHING = Interval(value=math.nan, low=math.nan, high=math.nan)


def draws(
    documents: Int64, *, seeds: int = 1, rounds: int = ROUNDS, seed: int = 0
) -> Iterator[tuple[Float64, Float64]]:
    """Draw documents and seeds with replacement, some rounds at a time.

    Args:
        documents: int64 `[n]`, the document of each span.
        seeds: how many models were trained.
        rounds: how many draws.
        seed: of the draws.

    Yields:
        How often each span is drawn, float64 `[r, n]`, and how often each seed is, float64 `[r, seeds]`.
    """
    _, of_document = np.unique(documents, return_inverse=True)
    n = int(of_document.max(initial=-1)) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, rounds, TOGETHER):
        r = min(TOGETHER, rounds - start)
        often = generator.multinomial(n, np.full(n, 1 / n), size=r).astype(np.float64) if n else np.zeros((r, 0))
        of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=r).astype(np.float64)
        yield often[:, of_document], of_seeds


def percentiles(value: float, drawn: Float64) -> Interval:
    """The interval of a value by the percentiles of its draws; draws that could not be measured (NaN) are left out."""
    kept = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(kept):
        return NOTHING
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def mean_interval(values: Float64, documents: Int64, *, seed: int = 0) -> Interval:
    """The mean over spans and seeds.

    Args:
        values: float64 `[seeds, n]` or `[n]`; NaN in all seeds for a span that does not count.
        documents: int64 `[n]`, the document of each span.
        seed: of the draws.

    Raises:
        ConfigError: a span counts in one seed and not in another, or the shapes do not fit.
    """
    values, documents = _counting(values, documents)
    if not values.size:
        return NOTHING
    drawn = [
        ((of_seeds @ values) * often).sum(axis=1) / (of_seeds.sum(axis=1) * often.sum(axis=1))
        for often, of_seeds in draws(documents, seeds=len(values), seed=seed)
    ]
    return percentiles(float(values.mean()), np.concatenate(drawn))


def ratio_interval(numerators: Float64, denominators: Float64, documents: Int64, *, seed: int = 0) -> Interval:
    """The sum of one value of spans over the sum of another, such as nats over tokens.

    Args:
        numerators: float64 `[seeds, n]` or `[n]`.
        denominators: float64 `[n]`, above 0 in sum.
        documents: int64 `[n]`, the document of each span.
        seed: of the draws.
    """
    values, documents = _counting(numerators, documents)
    total = float(denominators.sum())
    if not total:
        return NOTHING
    drawn = [
        ((of_seeds @ values) * often).sum(axis=1) / (of_seeds.sum(axis=1) * (often @ denominators))
        for often, of_seeds in draws(documents, seeds=len(values), seed=seed)
    ]
    return percentiles(float(values.mean(axis=0).sum() / total), np.concatenate(drawn))


def detectable(values: Float64, documents: Int64) -> float:
    """The smallest mean that this many documents would show: 2.8 standard errors of the mean (80 % power at 5 %).

    If each document has one span, that is 2.8 sd / sqrt(n). The standard error is that of a mean over clusters, so
    spans of one document that are alike count for less.

    Args:
        values: float64 `[seeds, n]` or `[n]`, as for `mean_interval`; the mean over seeds is taken first.
        documents: int64 `[n]`.

    Returns:
        NaN for fewer than two documents.
    """
    values, documents = _counting(values, documents)
    _, of_document = np.unique(documents, return_inverse=True)
    n = int(of_document.max(initial=-1)) + 1
    if n < 2:
        return math.nan
    means = values.mean(axis=0)
    off = np.bincount(of_document, weights=means - means.mean(), minlength=n)
    return float(DETECTED * np.sqrt(n / (n - 1) * (off**2).sum()) / len(means))


def _counting(values: Float64, documents: Int64) -> tuple[Float64, Int64]:
    """The spans that count: values as `[seeds, n]`, and their documents."""
    values = np.atleast_2d(values)
    if values.shape[1] != len(documents):
        raise ConfigError(f"{values.shape[1]} values are of {len(documents)} spans: each span needs one")
    missing = np.isnan(values)
    if (missing.any(axis=0) != missing.all(axis=0)).any():
        raise ConfigError("a span counts in one seed and not in another: all seeds need the same spans")
    kept = ~missing.any(axis=0)
    return values[:, kept], documents[kept]
