"""Fingerprints: a few runs of tokens of a text, so chosen that texts with a long run in common share one.

A run of k tokens is chosen if, of the shorter runs of s tokens in it, the first or the last has the smallest hash
(Edgar 2021, "Syncmers are more sensitive than minimizers for selecting conserved k-mers in biological sequences":
closed syncmers). Whether a run is chosen depends on the run alone, so every text that holds it has its fingerprint. Of
k - s consecutive runs at least one is chosen, so texts that share 2k - s - 1 tokens share a fingerprint. Of random runs
a share of 2 / (k - s + 1) is chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from annotate.compiled import compiled, constant
from annotate.minhash.documents import hash_texts
from annotate.minhash.reference import Tokens
from annotate.minhash.signing import Int64, UInt64


def run_lengths(span: int) -> tuple[int, int]:
    """Tokens of a run, and of the shorter runs in it, so that texts which share `span` tokens (at least 2) match."""
    s = max(1, span // 10)  # shorter ones would often be alike
    return (span + s + 1) // 2, s


def fingerprints(texts: pa.Array | pa.ChunkedArray, span: int, tokens: Tokens = "words") -> tuple[UInt64, Int64]:
    """Choose the fingerprints of texts, folded as `reference.folded` does.

    Args:
        texts: string or large_string `[n_texts]`, valid UTF-8; a null is an empty text.
        span: tokens in a row that two texts share to share a fingerprint, at least 2.
        tokens: "words", or "characters".

    Returns:
        uint64, the hashes of the chosen runs, in order, repeats included; int64 `[n_texts + 1]`, where those of each
        text begin and end.
    """
    k, s = run_lengths(span)
    chosen, counts = choose(*hash_texts(texts, s, tokens=tokens), k - s + 1)
    hashes, _ = hash_texts(texts, k, tokens=tokens)
    return hashes[chosen], np.append(0, np.cumsum(counts))


def choose(hashes: UInt64, offsets: Int64, window: int) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Int64]:
    """Which windows have their smallest hash first or last.

    Args:
        hashes: uint64, of all texts.
        offsets: int64 `[n_texts + 1]`, where those of each text begin and end.
        window: hashes in one, at least 1.

    Returns:
        bool, of each window of each text, in order; int64 `[n_texts]`, those of each text of which that holds.
    """
    windows = np.maximum(np.diff(offsets) - window + 1, 0)
    chosen, counts = np.zeros(windows.sum(), np.bool_), np.zeros(len(windows), np.int64)
    starts = np.append(0, np.cumsum(windows))
    _choose(
        constant(hashes, np.uint64), constant(offsets, np.int64), window, constant(starts, np.int64), chosen, counts
    )
    return chosen, counts


@compiled
def _choose(hashes: Any, offsets: Any, window: Any, starts: Any, chosen: Any, counts: Any) -> None:
    for text in range(len(counts)):
        smallest = -1
        for i in range(starts[text + 1] - starts[text]):
            first = offsets[text] + i
            last = first + window - 1
            if smallest < first:  # it has left the window, or this is the first
                smallest = first
                for k in range(first, last + 1):
                    if hashes[k] <= hashes[smallest]:
                        smallest = k
            elif hashes[last] <= hashes[smallest]:
                smallest = last
            if hashes[first] == hashes[smallest] or hashes[last] == hashes[smallest]:
                chosen[starts[text] + i] = True
                counts[text] += 1
