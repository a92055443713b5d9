"""Quantiles by group: the two passes of `annotate.tags.quantiles` for many groups at once, with sparse counts.

The documents of a group have the same values in some columns of the corpus. Null is a value too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.tags.conditions import Quantile
from annotate.tags.quantiles import (
    BINS,
    Counts,
    Fitted,
    Images,
    Scores,
    exact_quantile,
    image,
    quantile_rank,
)

MOST_GROUPS = 1024
"""The most groups that can be counted: each may have up to 65,536 bins with scores in them, of 12 bytes a bin."""

GroupKey = tuple[str | None, ...]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GroupBy:
    """The group of each of n rows.

    Attributes:
        numbers: int64 `[n]`, the number of each row's group.
        keys: by number of the group, the values that its rows have.
    """

    numbers: Int64
    keys: tuple[GroupKey, ...]

    @staticmethod
    def whole(n: int) -> GroupBy:
        """All n rows as one group."""
        return GroupBy(numbers=np.zeros(n, np.int64), keys=((),))

    @staticmethod
    def of(columns: Collection[pa.Array]) -> GroupBy:
        """Group rows that have equal values in all columns. The columns are of strings, and of one length."""
        numbers = first = np.zeros(len(next(iter(columns))), np.int64)
        for column in columns:
            encoded = column.dictionary_encode(null_encoding="encode")
            codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            both = numbers * len(encoded.dictionary) + codes  # below n * n
            _, first, numbers = np.unique(both, return_index=True, return_inverse=True)
        values = [column.take(pa.array(first)).to_pylist() for column in columns]
        return GroupBy(numbers=numbers, keys=tuple(zip(*values, strict=True)))

    def spread(self, values: Mapping[GroupKey, float | np.float32]) -> Scores:
        """Give each row the value of its group, or NaN where the group has none: float32 `[n]`."""
        return np.array([values.get(key, np.nan) for key in self.keys], np.float32)[self.numbers]


def check_groups(by: Sequence[str], groups: Collection[GroupKey]) -> None:
    """Check that the groups are few enough to be counted.

    Raises:
        ConfigError: there are too many. Says how many values each column has.
    """
    if len(groups) > MOST_GROUPS:
        values = ", ".join(
            f"{len(set(each)):,} of {name!r}" for name, each in zip(by, zip(*groups, strict=True), strict=True)
        )
        raise ConfigError(
            f"quantiles by {', '.join(by)} have at least {len(groups):,} groups ({values}); at most {MOST_GROUPS:,} "
            "can be fitted",
            hint="Group by a column of few values, such as a source or a language; make others coarser first.",
        )


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How often each key occurs in each group. Two tallies are merged by adding the counts.

    Attributes:
        starts: int64 `[n_groups + 1]`, where the keys of each group begin.
        keys: uint32 `[n_keys]`, bins or images of scores; within a group ascending and each once.
        counts: int64 `[n_keys]`, how often each key occurs.
    """

    starts: Int64
    keys: Images
    counts: Counts

    @staticmethod
    def of(numbers: Int64, keys: Images, groups: int, counts: Counts | None = None) -> Tally:
        """Count keys by group.

        Args:
            numbers: int64 `[n]`, the group of each key.
            keys: uint32 `[n]`, in any order.
            groups: how many groups there are.
            counts: int64 `[n]`, how often each key occurs; None: once.
        """
        both = numbers.astype(np.uint64) << np.uint64(32) | keys
        if counts is None:
            found, added = np.unique(both, return_counts=True)
        else:
            found, inverse = np.unique(both, return_inverse=True)
            added = np.zeros(len(found), np.int64)
            np.add.at(added, inverse, counts)
        starts = np.searchsorted(found >> np.uint64(32), np.arange(groups + 1, dtype=np.uint64))
        return Tally(starts=starts, keys=found.astype(np.uint32), counts=added.astype(np.int64))

    @staticmethod
    def none() -> Tally:
        """A tally of no groups."""
        return Tally.of(np.zeros(0, np.int64), np.zeros(0, np.uint32), 0)

    @property
    def totals(self) -> Int64:
        """The sum of the counts of each group: int64 `[n_groups]`."""
        upto = np.append(0, np.cumsum(self.counts))
        return upto[self.starts[1:]] - upto[self.starts[:-1]]

    def group(self, number: int) -> tuple[Images, Counts]:
        """The keys of one group, and their counts."""
        here = slice(self.starts[number], self.starts[number + 1])
        return self.keys[here], self.counts[here]


def tally_bins(scores: Scores, groups: GroupBy) -> Tally:
    """The first pass: count scores, float32 `[n]`, by group and bin. NaN is left out."""
    known = ~np.isnan(scores)
    return Tally.of(groups.numbers[known], image(scores[known]) >> np.uint32(16), len(groups.keys))


def tally_values(scores: Scores, numbers: Int64, bins: Sequence[Int64], groups: int) -> Tally:
    """The second pass: count the distinct scores that fall into the bins of quantiles.

    Args:
        scores: float32 `[n]`; NaN is left out.
        numbers: int64 `[n]`, the group of each.
        bins: for each quantile, what `quantile_bins` gives.
        groups: how many groups there are.
    """
    known = ~np.isnan(scores)
    numbers, images = numbers[known], image(scores[known])
    high = images >> np.uint32(16)
    inside = np.zeros(len(images), bool)
    for wanted in bins:
        inside |= high == wanted[numbers]
    return Tally.of(numbers[inside], images[inside], groups)


def quantile_bins(first: Tally, q: float) -> Int64:
    """The bin in which a quantile of each group falls: int64 `[n_groups]`, -1 for a group of no scores.

    Raises:
        ConfigError: q is outside [0, 1].
    """
    totals = first.totals
    ranks = np.array([quantile_rank(n, q) for n in totals.tolist()], np.int64)
    upto = np.cumsum(first.counts)
    before = np.append(0, upto)[first.starts[:-1]]
    found = np.full(len(totals), -1, np.int64)
    some = totals > 0
    found[some] = first.keys[np.searchsorted(upto, (before + ranks)[some])]
    return found


def exact_quantiles(first: Tally, q: float, second: Tally) -> list[Fitted]:
    """The quantile of each group, exactly, from both passes.

    Raises:
        ConfigError: q is outside [0, 1], or the two passes did not see the same scores.
    """
    fitted = []
    for number in range(len(first.starts) - 1):
        bins, counts = first.group(number)
        filled = np.zeros(BINS, np.int64)
        filled[bins] = counts
        fitted.append(exact_quantile(filled, q, *second.group(number)))
    return fitted


def fit_quantiles(
    quantiles: Collection[Quantile], scores: Mapping[str, Scores], columns: Mapping[str, pa.Array]
) -> dict[Quantile, np.float32 | Scores]:
    """Fit quantiles of scores that are in memory.

    Args:
        quantiles: what is asked for.
        scores: float32 `[n]` by axis.
        columns: string `[n]` by name, the columns that quantiles are grouped by.

    Returns:
        The raw score of each quantile, NaN where there are no scores. Of a quantile by group: float32 `[n]`, that of
        each row's group.
    """
    fitted: dict[Quantile, np.float32 | Scores] = {}
    for quantile in quantiles:
        values = scores[quantile.axis]
        groups = GroupBy.of([columns[name] for name in quantile.by]) if quantile.by else GroupBy.whole(len(values))
        first = tally_bins(values, groups)
        second = tally_values(values, groups.numbers, [quantile_bins(first, quantile.q)], len(groups.keys))
        exact = [each.value for each in exact_quantiles(first, quantile.q, second)]
        fitted[quantile] = groups.spread(dict(zip(groups.keys, exact, strict=True))) if quantile.by else exact[0]
    return fitted
