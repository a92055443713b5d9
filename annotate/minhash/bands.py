"""Locality-sensitive hashing of signatures: how many bands of how many rows, and what they catch."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt


@functools.lru_cache
def optimal_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows for a threshold, by datasketch's optimiser: it weighs false positives and negatives alike."""
    from datasketch import MinHashLSH

    # Near 1 the optimiser finds none; candidates are verified, so a lower threshold only finds more.
    lsh = MinHashLSH(threshold=min(threshold, 0.9), num_perm=permutations)
    return int(lsh.b), int(lsh.r)


def caught(similarity: npt.NDArray[np.float64], bands: int, rows: int) -> npt.NDArray[np.float64]:
    """The chance that documents of a Jaccard similarity share a bucket (Leskovec et al. 2020, section 3.4.2)."""
    chance: npt.NDArray[np.float64] = 1 - (1 - similarity**rows) ** bands
    return chance
