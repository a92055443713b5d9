"""The hashes of the bands of signatures, compiled: documents that share one are candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.compiled import compiled

_u64 = np.uint64


def band_hashes(values: npt.NDArray[np.uint32], bands: int, rows: int, seed: int) -> npt.NDArray[np.uint64]:
    """Hash each band of each signature.

    Args:
        values: uint32 `[n, permutations]`, with at least `bands * rows` permutations.
        bands: how many.
        rows: values in each.
        seed: of the way of banding: with another seed a band has another hash.

    Returns:
        uint64 `[n, bands]`.
    """
    hashes = np.empty((len(values), bands), np.uint64)
    _band_hashes(values, rows, np.uint64(seed & 0xFFFFFFFFFFFFFFFF), hashes)
    return hashes


@compiled
def _band_hashes(values: Any, rows: Any, seed: Any, hashes: Any) -> None:
    for i in range(len(hashes)):
        for band in range(hashes.shape[1]):
            h = _u64((seed + _u64(1)) * _u64(0x9E3779B97F4A7C15) + _u64(band) * _u64(0xD6E8FEB86659FD93))
            for row in range(rows):
                h = _u64(_u64(h ^ _u64(values[i, band * rows + row])) * _u64(0xFF51AFD7ED558CCD))
                h ^= h >> _u64(32)
            h = _u64(h * _u64(0xC4CEB9FE1A85EC53))
            hashes[i, band] = h ^ (h >> _u64(33))
