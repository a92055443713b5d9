"""Signatures of texts as they come: only those that may not be in normal form C are put in it first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.minhash.normal_form import may_not_be_normal
from annotate.minhash.reference import Tokens, shingles
from annotate.minhash.signing import Int64, Permutations, Signed, UInt32, UInt64, hash_shingles, sign, sign_hashes
from annotate.text.arrays import large_string


def sign_texts(
    texts: pa.Array | pa.ChunkedArray, permutations: Permutations, *, shingle: int = 5, tokens: Tokens = "words"
) -> Signed:
    """Sign texts; each is folded as `reference.folded` does, without a copy of those that are in normal form C.

    Args:
        texts: string or large_string `[n_texts]`, valid UTF-8; a null is an empty text.
        permutations: of the signature.
        shingle: tokens in a shingle, at least 1.
        tokens: "words", or "characters".
    """
    texts = large_string(texts)
    odd = may_not_be_normal(texts)
    signed = sign(texts, shingle, tokens, permutations, skip=odd)
    if odd.any():
        rows = np.flatnonzero(odd)
        normal = sign(pc.utf8_normalize(texts.take(pa.array(rows)), "NFC"), shingle, tokens, permutations)
        signed.values[rows], signed.exact[rows], signed.shingles[rows] = normal.values, normal.exact, normal.shingles
    return signed


def hash_texts(
    texts: pa.Array | pa.ChunkedArray, shingle: int = 5, *, tokens: Tokens = "words"
) -> tuple[UInt64, Int64]:
    """Hash the shingles of texts, which are folded as `reference.folded` does.

    Args:
        texts: string or large_string `[n_texts]`, valid UTF-8; a null is an empty text.
        shingle: tokens in a shingle, at least 1.
        tokens: "words", or "characters".

    Returns:
        uint64, the hashes of all shingles, in order, repeats included; int64 `[n_texts + 1]`, where those of each text
        begin and end. `reference.shingle_hash` is the upper half of a hash.
    """
    texts = large_string(texts)
    odd = may_not_be_normal(texts)
    if odd.any():
        normal = pc.utf8_normalize(texts.filter(pa.array(odd)), "NFC")
        texts = pc.replace_with_mask(texts, pa.array(odd), normal)
    return hash_shingles(texts, shingle, tokens)


def sign_with(
    hashfunc: Callable[[bytes], int],
    texts: pa.Array | pa.ChunkedArray,
    permutations: Permutations,
    *,
    shingle: int = 5,
    tokens: Tokens = "words",
) -> UInt32:
    """Sign texts with another hash function, called in Python for each shingle: forty times slower.

    Args:
        hashfunc: of 32 bits, as datasketch takes them.
        texts: string or large_string `[n_texts]`; a null is an empty text.
        permutations: of the signature.
        shingle: tokens in a shingle, at least 1.
        tokens: "words", or "characters".

    Returns:
        uint32 `[n_texts, n_permutations]`.
    """
    hashes = [[hashfunc(data) for data in shingles(text or "", shingle, tokens)] for text in texts.to_pylist()]
    offsets = np.cumsum([0, *map(len, hashes)])
    return sign_hashes(np.array([each for some in hashes for each in some], np.uint32), offsets, permutations)
