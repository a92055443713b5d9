"""Which keys may occur more than once: found by counting, without sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.compiled import compiled, constant

ROOM = 4  # counters for each key; of keys that occur once a fifth share a counter with another, and are kept


def maybe_shared(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The rows of all keys that occur more than once, and of some that don't: int64, ascending.

    Args:
        keys: uint64 `[n]`, hashes.
    """
    bits = max(int(len(keys) * ROOM).bit_length(), 1)
    rows = np.empty(len(keys), np.int64)
    found = _find(constant(keys, np.uint64), np.uint64(64 - bits), np.zeros(1 << bits, np.uint8), rows)
    return rows[:found]


@compiled
def _find(keys: Any, shift: Any, seen: Any, rows: Any) -> Any:
    for key in keys:
        place = key >> shift
        seen[place] += seen[place] < 2
    found = 0
    for i in range(len(keys)):
        rows[found] = i
        found += seen[keys[i] >> shift] > 1
    return found
