"""Scores of ranges become scores of spans: the mean of the ranges that overlap a span, weighted by the overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Scored ranges of documents, in any order; they may overlap, lie beyond the text, or be empty.

    Attributes:
        document: int64 `[n]`, number of the document that each is in, from 0.
        start: int64 `[n]`, first code point, 0 or more.
        end: int64 `[n]`, code point after the last, no less than `start`.
        score: float64 `[n]`; NaN, and what float32 can't hold, counts for nothing.
    """

    document: Int64
    start: Int64
    end: Int64
    score: Float64


def overlap_means(
    document: Int64, start: Int64, end: Int64, ranges: Ranges, *, unmarked: float | None = None
) -> npt.NDArray[np.float32]:
    """Give each span the mean score of the ranges that overlap it, weighted by the code points that they share.

    Args:
        document: int64 `[n]`, number of the document of each span, not falling.
        start: int64 `[n]`, first code point; spans of a document are in order and do not overlap.
        end: int64 `[n]`, code point after the last.
        ranges: of these documents.
        unmarked: the score of code points that no range covers; None if they count for nothing.

    Returns:
        float32 `[n]`, NaN where nothing overlaps and `unmarked` is None. The value of a span depends on its document
        alone, not on the others that it comes with.
    """
    if not len(document):
        return np.empty(0, np.float32)
    # Documents laid end to end, so that one search finds the spans of all ranges.
    sizes = np.zeros(int(max(document[-1], ranges.document.max(initial=0))) + 1, np.int64)
    sizes[document] = end  # of the last span of each document
    base = np.cumsum(sizes) - sizes
    starts, ends = base[document] + start, base[document] + end
    begin, stop = (
        base[ranges.document] + np.minimum(edge, sizes[ranges.document]) for edge in (ranges.start, ranges.end)
    )
    used = (stop > begin) & (np.abs(ranges.score) <= np.finfo(np.float32).max)
    begin, stop, score = begin[used], stop[used], ranges.score[used]
    span, of, shared = _overlaps(starts, ends, begin, stop)
    weight: Float64 = np.bincount(span, shared, len(starts)).astype(np.float64)
    total: Float64 = np.bincount(span, shared * score[of], len(starts)).astype(np.float64)
    if unmarked is not None:
        rest = (ends - starts) - _covered(starts, ends, begin, stop)
        weight, total = weight + rest, total + rest * unmarked
    means = np.full(len(starts), np.nan)
    np.divide(total, weight, out=means, where=weight > 0)
    return means.astype(np.float32)


def _overlaps(starts: Int64, ends: Int64, begin: Int64, stop: Int64) -> tuple[Int64, Int64, Int64]:
    """All pairs of a span and a range that overlap, by range: number of the span, of the range, code points shared."""
    first = np.searchsorted(ends, begin, side="right")
    counts = np.searchsorted(starts, stop, side="left") - first
    of = np.repeat(np.arange(len(begin)), counts)
    span = np.arange(len(of)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    return span, of, np.minimum(ends[span], stop[of]) - np.maximum(starts[span], begin[of])


def _covered(starts: Int64, ends: Int64, begin: Int64, stop: Int64) -> Float64:
    """Code points of each span that some range covers: float64, whole numbers."""
    order = np.argsort(begin, kind="stable")
    begin, stop = begin[order], stop[order]
    # Of each range what no earlier one covers: these pieces do not overlap.
    begin = np.maximum(begin, np.append(0, np.maximum.accumulate(stop))[: len(stop)])
    fresh = stop > begin
    span, _, shared = _overlaps(starts, ends, begin[fresh], stop[fresh])
    return np.bincount(span, shared, len(starts)).astype(np.float64)
