"""Random choices by hash: a 64-bit hash of integers, and samples that are drawn by it.

Every random choice in this package is `keyed_hash(seed, document, span, ...)`. So there is no state to save, and a
choice does not depend on the order of work, the worker or the version of a library.

The hash. `mix` is the finaliser of SplitMix64 (Steele, Lea and Flood 2014; constants of David Stafford's variant 13), a
bijection of 64-bit integers. With G = 0x9E3779B97F4A7C15 and all sums modulo 2**64:

    h_0 = mix(seed + G)
    h_i = mix(h_(i-1) XOR mix(column_i + (i + 1) * G))

So keys that differ in one column never collide, and the order of the columns matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UInt64 = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def keyed_hash(seed: int, *columns: npt.NDArray[np.integer] | int) -> UInt64:
    """Hash rows of integers.

    Args:
        seed: any integer, taken modulo 2**64.
        columns: integer arrays `[n]`, or integers, which hold for all rows. Negative ones are taken modulo 2**64.

    Returns:
        uint64 `[n]`, `[1]` if no column is an array.
    """
    state = _mix(_uint64(seed) + np.uint64(_GOLDEN))
    for position, column in enumerate(columns, start=2):
        state = _mix(state ^ _mix(_uint64(column) + np.uint64(position * _GOLDEN & _MASK)))
    return state


def name_key(name: str) -> int:
    """A 64-bit integer for a name, such as that of an axis, to be a column of `keyed_hash`."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def uniform(keys: UInt64) -> npt.NDArray[np.float64]:
    """Map hashes to float64 in [0, 1), by their upper 53 bits."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bottom_k(samples: Sequence[pa.Table], k: int, *, key: str = "key") -> pa.Table:
    """Keep the k rows with the smallest keys. If the keys are hashes, that is a uniform sample without replacement.

    Samples of samples can be merged in any order: the result is the same. It is sorted by key; rows with equal keys by
    the other columns, from left to right.

    Args:
        samples: tables of one schema; at least one.
        k: rows to keep, at most.
        key: the column of uint64 keys.
    """
    table = pa.concat_tables(samples)
    if table.num_rows > k:
        # The keys alone rule out most rows. Only k rows, and those that tie with the last of them, are sorted.
        keys = table[key].to_numpy()
        limit = np.partition(keys, k - 1)[k - 1] if k else np.uint64(0)
        table = table.filter(pc.less_equal(table[key], pa.scalar(limit, pa.uint64())))
    order = [(name, "ascending") for name in (key, *(n for n in table.column_names if n != key))]
    return table.sort_by(order).slice(0, k).combine_chunks()


def _uint64(column: npt.NDArray[np.integer] | int) -> UInt64:
    if isinstance(column, int | np.integer):
        return np.array([int(column) & _MASK], np.uint64)
    return column.astype(np.uint64)


def _mix(z: UInt64) -> UInt64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
