"""Score distributions that merge exactly: integer counts, and quantiles in two passes.

A float32 score is mapped to a uint32 image, in the same order: if its sign bit is clear, that bit is flipped; else all
bits are. -0.0 is taken as 0.0; NaN means no score and is left out. The first pass counts scores by the high 16 bits of
the image, in 65,536 bins; it needs no quantile. The second pass counts the distinct values in the bins in which the
quantiles fall. The counts of pieces are merged by adding them, in any order.

The q-quantile of n scores is the smallest score x such that at least q * n of them are <= x (the inverse of the
empirical distribution function, Hyndman and Fan 1996, type 1): the score of rank ceil(q * n), counted from 1, and the
smallest for q = 0. It is a score that occurs. q is taken as the decimal number it is written as, so that
0.7 * 10 is 7, not 7.000000000000001.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError

BINS = 1 << 16

Scores = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]

_SIGN = np.uint32(0x80000000)
_ALL = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An exact quantile of the scores of an axis.

    Attributes:
        q: what was asked for.
        value: the score, a float32; NaN if there are no scores.
        n: number of scores.
        rank: rank of the value among them, from 1 (0 if there are none).
        below: number of scores below the value; `n - below` are at or above it.
        ties: number of scores equal to the value.
    """

    q: float
    value: np.float32
    n: int
    rank: int
    below: int
    ties: int


def image(scores: Scores) -> Images:
    """Map float32 `[n]` without NaN to uint32 `[n]` in the same order; equal scores have equal images."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    return bits ^ np.where(bits & _SIGN, _ALL, _SIGN)


def score_of(images: Images) -> Scores:
    """The inverse of `image`."""
    return (images ^ np.where(images & _SIGN, _SIGN, _ALL)).view(np.float32)


def histogram(scores: Scores) -> Counts:
    """Count scores by the high 16 bits of their image.

    Args:
        scores: float32 `[n]`; NaN is left out.

    Returns:
        int64 `[65536]`; merge pieces by adding them.
    """
    return np.bincount(image(_known(scores)) >> np.uint32(16), minlength=BINS).astype(np.int64)


def quantile_rank(n: int, q: float) -> int:
    """Rank, from 1, of the q-quantile of n scores: ceil(q * n), at least 1; 0 if there are no scores.

    Raises:
        ConfigError: q is outside [0, 1].
    """
    if not 0 <= q <= 1:
        raise ConfigError(f"a quantile must lie in [0, 1], got {q}.")
    exact = Fraction(repr(float(q))) * n  # repr is the shortest decimal that reads back as q
    return min(n, max(1, -(-exact.numerator // exact.denominator)))


def quantile_bin(counts: Counts, q: float) -> tuple[int, int]:
    """Find the bin in which a quantile falls.

    Args:
        counts: int64 `[65536]`, from `histogram`, with at least one score.
        q: the quantile, in [0, 1].

    Returns:
        The bin, and the rank of the quantile within it, from 1.

    Raises:
        ConfigError: q is outside [0, 1], or there are no scores.
    """
    n = int(counts.sum())
    rank = quantile_rank(n, q)
    if n == 0:
        raise ConfigError(f"q({q}) of no scores: the axis has no score on any kept document.")
    upto = np.cumsum(counts)
    found = int(np.searchsorted(upto, rank))
    return found, rank - int(upto[found] - counts[found])


def exact_quantile(counts: Counts, q: float, values: Images, value_counts: Counts) -> Fitted:
    """The quantile, exactly, from both passes.

    Args:
        counts: int64 `[65536]`, from `histogram`, merged.
        q: the quantile, in [0, 1].
        values: uint32, rising, the images of the distinct scores in the quantile's bin, and perhaps in others.
        value_counts: int64, how often each occurs.

    Raises:
        ConfigError: q is outside [0, 1], or the two passes did not see the same scores.
    """
    n = int(counts.sum())
    rank = quantile_rank(n, q)
    if n == 0:
        return Fitted(q=q, value=np.float32(np.nan), n=0, rank=0, below=0, ties=0)
    in_bin, rank_in_bin = quantile_bin(counts, q)
    here = (values >> np.uint32(16)) == in_bin
    values, value_counts = values[here], value_counts[here]
    if value_counts.sum() != counts[in_bin]:
        raise ConfigError(
            f"q({q}) falls into bin {in_bin}, which holds {counts[in_bin]} scores by the first pass and "
            f"{value_counts.sum()} by the second.",
            hint="both passes must read the same annotations.",
        )
    upto = np.cumsum(value_counts)
    at = int(np.searchsorted(upto, rank_in_bin))
    return Fitted(
        q=q,
        value=score_of(values[at : at + 1])[0],
        n=n,
        rank=rank,
        below=rank - rank_in_bin + int(upto[at] - value_counts[at]),
        ties=int(value_counts[at]),
    )


def _known(scores: Scores) -> Scores:
    missing = np.isnan(scores)
    return scores[~missing] if missing.any() else scores
