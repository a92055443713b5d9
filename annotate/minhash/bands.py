"""Locality-sensitive hashing of signatures: how many bands of how many rows, and the chance that they find a pair."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


@functools.lru_cache
def optimal_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows for a threshold, by datasketch's optimiser: it weighs false positives and negatives alike."""
    from datasketch import MinHashLSH

    # Near 1 the optimiser finds none; candidates are verified, so a lower threshold only finds more.
    lsh = MinHashLSH(threshold=min(threshold, 0.9), num_perm=permutations)
    return int(lsh.b), int(lsh.r)


def band_chance(similarity: npt.NDArray[np.float64], bands: int, rows: int) -> npt.NDArray[np.float64]:
    """The chance that documents of a Jaccard similarity agree in a whole band (Leskovec et al. 2020, section 3.4.2)."""
    chance: npt.NDArray[np.float64] = 1 - (1 - similarity**rows) ** bands
    return chance


def detection_chance(
    similarity: npt.NDArray[np.float64], ways: Sequence[tuple[int, int]], permutations: int, least: float
) -> npt.NDArray[np.float64]:
    """The chance that documents agree in a whole band of some way of banding, and have an estimate of `least` or more.

    It is exact where signature values agree independently of each other, each with the Jaccard similarity as its
    chance. Bands and the estimate are of the same values, so their chances can't be multiplied. Instead the values are
    gone through one by one, and the chance is kept of each number of values that agree so far, together with whether
    all agree in the current band of each way.

    Args:
        similarity: Jaccard similarities, float64 `[n]`.
        ways: bands and rows of each way of banding.
        permutations: length of a signature.
        least: what the share of equal values must reach.

    Returns:
        float64 `[n]`.
    """
    start = np.zeros((len(similarity), permutations + 1))
    start[:, 0] = 1
    chances: dict[tuple[bool, ...] | None, npt.NDArray[np.float64]] = {(False,) * len(ways): start}
    for row in range(permutations):
        following: dict[tuple[bool, ...] | None, npt.NDArray[np.float64]] = {}
        for state, chance in chances.items():
            differs, agrees = _after(state, row, ways, agrees=False), _after(state, row, ways, agrees=True)
            for after in (differs, agrees):
                following.setdefault(after, np.zeros_like(chance))
            following[differs] += chance * (1 - similarity)[:, None]
            following[agrees][:, 1:] += chance[:, :-1] * similarity[:, None]
        chances = following
    estimates = np.arange(permutations + 1, dtype=np.float32) / np.float32(permutations)
    shared = chances.get(None, np.zeros_like(start))
    result: npt.NDArray[np.float64] = shared[:, estimates >= np.float32(least)].sum(axis=1)
    return result


def _after(
    state: tuple[bool, ...] | None, row: int, ways: Sequence[tuple[int, int]], *, agrees: bool
) -> tuple[bool, ...] | None:
    """Whether all values agree in the current band of each way, after one more; None once they did in a whole band."""
    if state is None:
        return None
    after = []
    for so_far, (bands, rows) in zip(state, ways, strict=True):
        begins, ends = row % rows == 0, row % rows == rows - 1
        now = agrees and (so_far or begins) and row < bands * rows
        if now and ends:
            return None
        after.append(now)
    return tuple(after)
