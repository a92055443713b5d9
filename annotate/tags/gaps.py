"""Gaps: ranges of a document that are left out of its text. The rest stays, byte for byte and in its order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.tags.buffers import StringBuffers, take_out
from annotate.tags.placements import PLACEMENTS, renumbered
from annotate.text.arrays import lists_by_row

Int64 = npt.NDArray[np.int64]
_FIELDS = ("start", "end", "byte_start", "byte_end")


def gaps_of(spans: pa.Table, dropped: npt.NDArray[np.bool_]) -> pa.Table:
    """Join spans that are left out and follow each other into one gap.

    Args:
        spans: columns `row`, `start`, `end` (code points), `byte_start`, `byte_end` (UTF-8), all int64. The spans of a
            document tile it.
        dropped: bool `[n_spans]`, which spans are left out.

    Returns:
        The same columns, one row a gap.
    """
    at = np.flatnonzero(dropped)
    row = spans["row"].to_numpy()[at]
    goes_on = (np.diff(at, prepend=-2) == 1) & (np.diff(row, prepend=-1) == 0)
    first = np.flatnonzero(~goes_on)
    last = np.append(first[1:], len(at)) - 1 if len(at) else first
    columns = [pa.array(row[first])]
    for name, which in zip(_FIELDS, (first, last, first, last), strict=True):
        columns.append(pa.array(spans[name].to_numpy()[at[which]]))
    return pa.table(columns, names=["row", *_FIELDS])


def leave_out(texts: Any, gaps: pa.Table) -> pa.LargeStringArray:
    """The documents without their gaps.

    Args:
        texts: the documents, `pa.Array` or `pa.ChunkedArray` of any string type.
        gaps: from `gaps_of`; `row` is the position in `texts`.
    """
    documents = StringBuffers.of(texts)
    row = gaps["row"].to_numpy()
    base = documents.starts[row]
    return take_out(documents, base + gaps["byte_start"].to_numpy(), base + gaps["byte_end"].to_numpy(), row).texts


def moved(placements: pa.Table, gaps: pa.Table) -> pa.Table:
    """Move placements to their offsets in the documents without gaps. One inside a gap goes to where the gap was.

    Args:
        placements: columns `row` (as in `gaps`), `offset`, `byte_offset`, sorted. `order` is set anew, if it is there;
            other columns stay.
        gaps: from `gaps_of`.
    """
    row, at = placements["row"].to_numpy(), placements["byte_offset"].to_numpy()
    gap_row, starts = gaps["row"].to_numpy(), gaps["byte_start"].to_numpy()
    # How many gaps begin before each placement. Both are sorted together, by row and byte; of equals it comes first.
    places = np.lexsort((np.repeat([1, 0], [len(starts), len(at)]), np.append(starts, at), np.append(gap_row, row)))
    before = np.empty(len(places), np.int64)
    before[places] = np.cumsum(places < len(starts))
    before = before[len(starts) :]
    first = np.searchsorted(gap_row, row)
    last = np.maximum(before - 1, 0)
    for name, start, end in (("offset", "start", "end"), ("byte_offset", "byte_start", "byte_end")):
        ends = gaps[end].to_numpy()
        gone = np.append(0, np.cumsum(ends - gaps[start].to_numpy()))
        old = placements[name].to_numpy()
        inside = np.where(before > first, ends[last] - old, 0) if len(ends) else np.zeros(len(old), np.int64)
        new = old - (gone[before] - gone[first]) + np.maximum(inside, 0)
        placements = placements.set_column(placements.column_names.index(name), PLACEMENTS.field(name), pa.array(new))
    return renumbered(placements) if "order" in placements.column_names else placements


def gap_lists(gaps: pa.Table, documents: int, kind: pa.ListType) -> pa.Array:
    """The gaps of each document: list<struct<start, end, byte_start, byte_end>> `[documents]`."""
    return lists_by_row(gaps.select(["row", *_FIELDS]), documents).cast(kind)
