"""Intervals by resampling documents, and the spread of seeds beside them.

Spans of one document are alike, so documents are drawn, each with all its spans (the cluster bootstrap: Davison and
Hinkley 1997, section 3.8). Draws of a few documents are too much alike: of one document all are the same, and the
interval would have no width. So nothing is measured of fewer than 10 documents.

Where several models were trained, the variance of their mean is added to that of these draws. Three seeds are too few
to be drawn, so the interval is one of Student's t, with the degrees of freedom of Welch and Satterthwaite
(Satterthwaite 1946): two where three seeds differ much, as many as documents where they hardly do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from annotate.errors import ConfigError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

ROUNDS = 1000
TOGETHER = 50  # rounds whose weights are in memory together
LEVEL = 0.95
LEAST = 10  # documents: of fewer, draws with replacement are too much alike
DETECTED = 2.8
"""Standard errors that a true effect needs so that a two-sided test at 5 % finds it in 80 % of cases: 1.96 + 0.84."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value, and the 95 % interval around it. All are NaN where nothing could be measured, as of few documents."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0


NOTHING = Interval(value=math.nan, low=math.nan, high=math.nan)


def n_documents(documents: Int64) -> int:
    """How many documents spans are of, int64 `[n]`."""
    return len(np.unique(documents))


def draws(documents: Int64, *, rounds: int = ROUNDS, seed: int = 0) -> Iterator[Float64]:
    """Draw documents with replacement, some rounds at a time.

    Args:
        documents: int64 `[n]`, the document of each span.
        rounds: how many draws.
        seed: of the draws.

    Yields:
        How often each span is drawn: float64 `[r, n]`.
    """
    _, of_document = np.unique(documents, return_inverse=True)
    n = int(of_document.max(initial=-1)) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, rounds, TOGETHER):
        r = min(TOGETHER, rounds - start)
        often = generator.multinomial(n, np.full(n, 1 / n), size=r).astype(np.float64) if n else np.zeros((r, 0))
        yield often[:, of_document]


def percentiles(value: float, drawn: Float64) -> Interval:
    """The interval of a value by the percentiles of its draws; draws that could not be measured (NaN) are left out."""
    kept = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(kept):
        return NOTHING
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def over_seeds(of_seeds: Float64, drawn: Float64, documents: Int64) -> Interval:
    """The interval of a mean over seeds.

    With one seed it is that of documents: what another seed would give is not in it.

    Args:
        of_seeds: float64 `[seeds]`, the value of each, on all documents.
        drawn: float64 `[rounds]`, the mean over seeds in each draw of documents; NaN where it could not be measured.
        documents: int64 `[n]`, the document of each span. Of fewer than 10 documents nothing is measured.
    """
    if n_documents(documents) < LEAST:
        return NOTHING
    value, seeds = float(of_seeds.mean()), len(of_seeds)
    kept = drawn[~np.isnan(drawn)]
    if seeds < 2 or math.isnan(value) or len(kept) < 2:
        return percentiles(value, drawn)
    parts = np.array([kept.var(ddof=1), of_seeds.var(ddof=1) / seeds])
    freedom = np.array([n_documents(documents) - 1, seeds - 1])
    total = float(parts.sum())
    if not total:
        return Interval(value=value, low=value, high=value)
    together = total**2 / float((parts**2 / freedom).sum())
    off = float(stdtrit(together, (1 + LEVEL) / 2)) * math.sqrt(total)
    return Interval(value=value, low=value - off, high=value + off)


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
    mean = values.mean(axis=0)
    drawn = [often @ mean / often.sum(axis=1) for often in draws(documents, seed=seed)]
    return over_seeds(values.mean(axis=1), np.concatenate(drawn), documents)


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
    mean = values.mean(axis=0)
    drawn = [often @ mean / (often @ denominators) for often in draws(documents, seed=seed)]
    return over_seeds(values.sum(axis=1) / total, np.concatenate(drawn), documents)


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
