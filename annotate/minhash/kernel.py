"""Text to MinHash signatures in one pass over Arrow's UTF-8 buffers: no string is made, no text is copied.

For each document a loop over its bytes skips blanks, rolls two hashes and notes the first before and after each token.
Once a block of tokens is full, or the document ends, the hashes of their shingles follow from these by subtraction, and
each permutation takes its minimum over the block, which then lies in the first-level cache. `reference.py` says in
plain Python what comes out. Compiled by numba, and kept on disk where that is possible.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.minhash.compiled import compiled, constant, text_buffers
from annotate.minhash.reference import BASE, SECOND_BASE, UNSPACED, Scheme, Tokens

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]

BLOCK = 2048  # tokens
LANES = 16  # a block is filled up to a multiple of as many, so that no loop has a scalar rest
POWERS = 4096  # of the base, tabulated; longer shingles are rare
EMPTY = 0xFFFFFFFF  # datasketch's value of a permutation that has seen nothing

# What a character is: part of a word, a token by itself, blank; or, of a first byte, that those that follow decide.
ORDINARY, TOKEN, BLANK, SPECIAL = 0, 1, 2, 3
DECIDED = 0x40000  # code points whose kind is tabulated; those above are ordinary, or tokens where all characters are

_u32, _u64, _index = np.uint32, np.uint64, numba.uintp
_MERSENNE = np.uint64((1 << 61) - 1)  # of datasketch's legacy scheme


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
    _sign(
        *text_buffers(texts),
        constant(skip, np.bool_),
        shingle,
        tokens == "characters",
        *_tables(tokens),
        _powers(),
        np.uint64(SECOND_BASE),
        permutations.a,
        permutations.b,
        signed.values,
        signed.exact,
        signed.shingles,
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
    _sign_hashes(constant(hashes, np.uint32), constant(offsets, np.int64), permutations.a, permutations.b, values)
    return values


@functools.cache
def _tables(tokens: Tokens) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
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
def _powers() -> UInt64:
    powers = np.full(POWERS, BASE, np.uint64)
    powers[0] = 1
    return constant(np.cumprod(powers), np.uint64)


@compiled
def _second(value: Any, byte: Any, base: Any) -> Any:
    """The second rolling hash, one byte on."""
    return _u64((value << _u64(23) | value >> _u64(41)) ^ byte) * base


@compiled
def _fmix32(value: Any) -> Any:
    """The finaliser of 32-bit MurmurHash3, with which datasketch's affine scheme begins."""
    value ^= value >> _u32(16)
    value = _u32(value * _u32(0x85EBCA6B))
    value ^= value >> _u32(13)
    value = _u32(value * _u32(0xC2B2AE35))
    return _u32(value ^ value >> _u32(16))


@compiled
def _power(exponent: Any, powers: Any) -> Any:
    result = powers[exponent % _index(POWERS)]
    for _ in range(exponent // _index(POWERS)):
        result = _u64(result * _u64(powers[POWERS - 1] * powers[1]))
    return result


@compiled
def _minimum(hashes: Any, n: Any, a: Any, b: Any, values: Any) -> None:
    """Lower the values of a signature to the minima over n hashes; the array has room for `LANES` more."""
    if n == 0:
        return
    if a.itemsize == 8:  # the legacy scheme
        for p in range(len(a)):
            for i in range(n):
                value = _u32((_u64(hashes[i]) * a[p] + b[p]) % _MERSENNE)
                values[p] = min(values[p], value)
        return
    padded = (n + LANES - 1) // LANES * LANES
    for i in range(n):
        hashes[i] = _fmix32(hashes[i])
    for i in range(n, padded):
        hashes[i] = hashes[0]
    whole = len(a) // 4 * 4
    for p in range(0, whole, 4):  # four at a time: a hash is loaded once for four products
        a0, a1, a2, a3 = a[p], a[p + 1], a[p + 2], a[p + 3]
        b0, b1, b2, b3 = b[p], b[p + 1], b[p + 2], b[p + 3]
        v0, v1, v2, v3 = values[p], values[p + 1], values[p + 2], values[p + 3]
        for i in range(padded):
            h = hashes[i]
            v0 = min(v0, _u32(a0 * h + b0))
            v1 = min(v1, _u32(a1 * h + b1))
            v2 = min(v2, _u32(a2 * h + b2))
            v3 = min(v3, _u32(a3 * h + b3))
        values[p], values[p + 1], values[p + 2], values[p + 3] = v0, v1, v2, v3
    for p in range(whole, len(a)):
        for i in range(padded):
            values[p] = min(values[p], _u32(a[p] * hashes[i] + b[p]))


@compiled
def _flush(n: Any, shingle: Any, begins: Any, ends: Any, hashes: Any, a: Any, b: Any, powers: Any, values: Any) -> Any:
    """Take the shingles of n tokens into a signature; the tokens that still begin one move to the front.

    `begins` and `ends` hold, for each token, the hash of the text before it and up to its end, and the two positions.
    """
    found = n - shingle + 1
    if found <= 0:
        return n
    for i in range(found):
        last = i + shingle - 1
        h = ends[last, 0] - begins[i, 0] * _power(_index(ends[last, 1] - begins[i, 1]), powers)
        h ^= h >> _u64(33)
        h *= _u64(0xFF51AFD7ED558CCD)
        h ^= h >> _u64(33)
        hashes[i] = _u32(_u64(h * _u64(0xC4CEB9FE1A85EC53)) >> _u64(32))
    _minimum(hashes, found, a, b, values)
    for i in range(shingle - 1):
        begins[i] = begins[found + i]
        ends[i] = ends[found + i]
    return shingle - 1


@compiled
def _sign(
    data: Any,
    offsets: Any,
    skip: Any,
    shingle: Any,
    characters: Any,
    first_bytes: Any,
    lengths: Any,
    kinds: Any,
    powers: Any,
    second_base: Any,
    a: Any,
    b: Any,
    values: Any,
    exact: Any,
    shingles: Any,
) -> None:
    base, blank = powers[1], _u64(ord(" ") + 1)
    room = max(BLOCK, 2 * shingle)
    begins, ends = np.empty((room, 2), np.uint64), np.empty((room, 2), np.uint64)
    hashes = np.empty(room + LANES, np.uint32)
    for document in range(len(skip)):
        if skip[document]:
            continue
        at, end = _index(offsets[document]), _index(offsets[document + 1])
        h, g, position = _u64(0), _u64(0), _index(0)  # two hashes and the length of the folded text so far
        n, tokens = 0, 0  # in the block, and in all
        gap, fresh = False, True  # whether a blank was passed, and whether the next character begins a token
        while at < end:
            lead = data[at]
            kind, stop = first_bytes[lead], at + _index(lengths[lead])
            if stop > end:
                kind, stop = TOKEN if characters else ORDINARY, end
            elif kind == SPECIAL:
                code = _index(lead) & (_index(0x7F) >> (stop - at))
                for i in range(at + _index(1), stop):
                    code = code << _index(6) | _index(data[i] & 0x3F)
                kind = kinds[code]
            if kind == BLANK:
                gap, fresh, at = position > 0, True, stop
                continue
            if fresh or kind == TOKEN:
                if n + 2 > room:
                    n = _flush(n, shingle, begins, ends, hashes, a, b, powers, values[document])
                begins[n, 0], begins[n, 1] = h, position
                if gap:
                    h, g, position = h * base + blank, _second(g, blank, second_base), position + _index(1)
                    if characters:  # the blank is one of them
                        ends[n, 0], ends[n, 1] = h, position
                        n, tokens = n + 1, tokens + 1
                    begins[n, 0], begins[n, 1] = h, position
                    gap = False
                n, tokens, fresh = n + 1, tokens + 1, kind == TOKEN
            position -= at
            while at < stop or (at < end and kind == ORDINARY and first_bytes[data[at]] == ORDINARY):
                byte = _u64(data[at]) + _u64(1)
                h, g, at = h * base + byte, _second(g, byte, second_base), at + _index(1)
            position += at
            ends[n - 1, 0], ends[n - 1, 1] = h, position
        _flush(n, shingle, begins, ends, hashes, a, b, powers, values[document])
        exact[document, 0], exact[document, 1] = h, g
        shingles[document] = max(tokens - shingle + 1, 0)


@compiled
def _sign_hashes(hashes: Any, offsets: Any, a: Any, b: Any, values: Any) -> None:
    block = np.empty(BLOCK + LANES, np.uint32)
    for document in range(len(offsets) - 1):
        for start in range(offsets[document], offsets[document + 1], BLOCK):
            n = min(BLOCK, offsets[document + 1] - start)
            block[:n] = hashes[start : start + n]
            _minimum(block, n, a, b, values[document])
