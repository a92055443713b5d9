"""Signatures of texts, by the compiled loops of `kernel.py`, with the tables that they read."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import constant, text_buffers
from annotate.minhash.kernel import BLANK, EMPTY, ORDINARY, ROOM, SPECIAL, TOKEN, packed, sign_documents, sign_hashed
from annotate.minhash.reference import BASE, HIGH_BASE, LOW_BASE, UNSPACED, Scheme, Tokens

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]

AT_ONCE = 1 << 17  # shingles that are hashed together: there is room for as many as there could be
DECIDED = 0x40000  # code points whose kind is tabulated; those above are ordinary, or tokens where all characters are


@dataclass(frozen=True, kw_only=True)
class Permutations:
    """The random permutations of a scheme, as datasketch draws them.

    Attributes:
        scheme: "affine32", or "legacy" as before datasketch 2.0.
        a: multipliers, `[n]`, uint32, or uint64 where the scheme is "legacy".
        b: summands, as `a`.
    """

    scheme: Scheme
    a: npt.NDArray[Any]
    b: npt.NDArray[Any]

    @staticmethod
    def draw(number: int, seed: int, scheme: Scheme = "affine32") -> Permutations:
        """The permutations of a seed."""
        from datasketch import MinHash

        dtype = np.uint32 if scheme == "affine32" else np.uint64
        a, b = MinHash(num_perm=number, seed=seed, scheme=scheme).permutations
        return Permutations(scheme=scheme, a=constant(a, dtype), b=constant(b, dtype))

    @staticmethod
    def none() -> Permutations:
        """No permutation: for the exact hashes, or the hashes of shingles, alone."""
        return Permutations(scheme="affine32", a=constant([], np.uint32), b=constant([], np.uint32))


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Signatures of texts.

    Attributes:
        values: uint32 `[n_texts, n_permutations]`; `EMPTY` throughout for a text of no shingle.
        exact: uint64 `[n_texts, 2]`, equal for texts that fold alike.
        shingles: int64 `[n_texts]`, how many each text has, repeats included.
    """

    values: UInt32
    exact: UInt64
    shingles: Int64


def sign(
    texts: pa.Array, shingle: int, tokens: Tokens, permutations: Permutations, skip: npt.NDArray[np.bool_] | None = None
) -> Signed:
    """Sign texts that are in normal form C.

    Args:
        texts: large_string `[n_texts]`; a null is an empty text.
        shingle: tokens in a shingle, at least 1.
        tokens: what they are.
        permutations: of the signature.
        skip: bool `[n_texts]`, texts to take for empty ones.
    """
    return _run(texts, skip, shingle, tokens, permutations, None)


def hash_shingles(texts: pa.Array, shingle: int, tokens: Tokens) -> tuple[UInt64, Int64]:
    """Hash the shingles of texts that are in normal form C: 64 bits, of which `shingle_hash` is the upper half.

    Args:
        texts: large_string `[n_texts]`; a null is an empty text.
        shingle: tokens in a shingle, at least 1.
        tokens: what they are.

    Returns:
        uint64, the hashes of all shingles, in order; int64 `[n_texts + 1]`, where those of each text begin and end.
    """
    _, offsets = text_buffers(texts)
    room = np.diff(offsets) // (1 if tokens == "characters" else 2) + 1  # tokens of a text, at most
    starts = np.append(0, np.cumsum(room))
    cuts = [*np.flatnonzero(np.diff(starts[:-1] // AT_ONCE, prepend=-1)).tolist(), len(texts)]
    hashes, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for first, last in itertools.pairwise(cuts):
        here = starts[first : last + 1] - starts[first]
        found = np.empty(here[-1], np.uint64)
        counts.append(_run(texts[first:last], None, shingle, tokens, Permutations.none(), (found, here)).shingles)
        hashes.append(packed(found, here, counts[-1]))
    return np.concatenate(hashes), np.append(0, np.cumsum(np.concatenate(counts)))


def _run(
    texts: pa.Array,
    skip: npt.NDArray[np.bool_] | None,
    shingle: int,
    tokens: Tokens,
    permutations: Permutations,
    wanted: tuple[UInt64, Int64] | None,
) -> Signed:
    """Sign texts. With `wanted`, an array and a start in it for each text, write the hashes of shingles there."""
    n = len(texts)
    if skip is None:
        skip = np.zeros(n, np.bool_)
    if texts.null_count:
        skip = skip | texts.is_null().to_numpy(zero_copy_only=False)
    signed = Signed(
        values=np.full((n, len(permutations.a)), EMPTY, np.uint32),
        exact=np.zeros((n, 2), np.uint64),
        shingles=np.zeros(n, np.int64),
    )
    hashes, starts = wanted or (np.empty(0, np.uint64), np.empty(0, np.int64))
    sign_documents(
        *text_buffers(texts),
        constant(skip, np.bool_),
        shingle,
        tokens == "characters",
        _kinds(tokens),
        *_powers(),
        constant([HIGH_BASE, LOW_BASE], np.uint64),
        permutations.a,
        permutations.b,
        signed.values,
        signed.exact,
        signed.shingles,
        hashes,
        constant(starts, np.int64),
    )
    return signed


def sign_hashes(hashes: UInt32, offsets: Int64, permutations: Permutations) -> UInt32:
    """Sign documents whose shingles were hashed by another function.

    Args:
        hashes: uint32, of all shingles.
        offsets: int64 `[n_documents + 1]`, where those of each document begin and end.
        permutations: of the signature.

    Returns:
        uint32 `[n_documents, n_permutations]`.
    """
    values = np.full((len(offsets) - 1, len(permutations.a)), EMPTY, np.uint32)
    sign_hashed(constant(hashes, np.uint32), constant(offsets, np.int64), permutations.a, permutations.b, values)
    return values


@functools.cache
def _kinds(tokens: Tokens) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The kind of each first byte, the bytes of its character that are looked at, the kind of each character."""
    usual = ORDINARY if tokens == "words" else TOKEN
    kinds = np.full(DECIDED, usual, np.uint8)
    for first, last in UNSPACED:
        kinds[first : last + 1] = TOKEN
    kinds[[code for code in range(0x3001) if chr(code).isspace()]] = BLANK
    first_bytes, lengths = np.full(256, usual, np.uint8), np.ones(256, np.uint8)
    first_bytes[:128] = kinds[:128]
    lengths[0xC2:0xE0], lengths[0xE0:0xF0], lengths[0xF0:] = 2, 3, 4
    undecided = np.flatnonzero(kinds != usual)
    first_bytes[[chr(code).encode()[0] for code in undecided[undecided >= 128].tolist()]] = SPECIAL
    if tokens == "words":
        lengths[first_bytes != SPECIAL] = 1  # it matters not where in a word a character ends
    return constant(first_bytes, np.uint8), constant(lengths, np.uint8), constant(kinds, np.uint8)


@functools.cache
def _powers() -> tuple[UInt64, UInt64]:
    """BASE to the powers of 0 to ROOM, and to those of 0 to -ROOM."""
    powers = np.full((2, ROOM + 1), [[BASE], [pow(BASE, -1, 1 << 64)]], np.uint64)
    powers[:, 0] = 1
    positive, negative = np.cumprod(powers, axis=1)
    return constant(positive, np.uint64), constant(negative, np.uint64)
