"""Documents as numbers while the filter works: the place of their unit in the corpus, then their row in the unit.

Their order is that of the corpus, so the smallest of a cluster is its earliest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from annotate.stages.base import RANGE_UNITS

UInt64 = npt.NDArray[np.uint64]
_ROW_BITS = np.uint64(32)


def numbered(unit: int, rows: npt.NDArray[np.integer]) -> UInt64:
    """Documents at these rows of a unit, counted from its start: uint64 `[n]`."""
    return rows.astype(np.uint64) | np.uint64(unit) << _ROW_BITS


def unit_of(documents: UInt64) -> npt.NDArray[np.int64]:
    """The number of each document's unit: int64 `[n]`."""
    return (documents >> _ROW_BITS).astype(np.int64)


def row_of(documents: UInt64) -> npt.NDArray[np.int64]:
    """The row of each document, counted from the start of its unit: int64 `[n]`."""
    return (documents & np.uint64(0xFFFFFFFF)).astype(np.int64)


def range_of(documents: UInt64) -> npt.NDArray[np.int32]:
    """The range that each document is in: int32 `[n]`."""
    return (unit_of(documents) // RANGE_UNITS).astype(np.int32)
