"""Text to MinHash signatures in one pass over Arrow's UTF-8 buffers: no string is made, no text is copied.

For each document a loop over its bytes skips blanks, rolls two hashes and notes the hash before and after each token.
Once a block of tokens is full, or the document ends, the hashes of their shingles follow from these by subtraction, and
each permutation takes its minimum over the block, which then lies in the first-level cache. `reference.py` says in
plain Python what comes out. Compiled by numba, and kept on disk where that is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.minhash.reference import BASE, SECOND_BASE, UNSPACED, Tokens

Scheme = Literal["affine32", "legacy"]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]

BLOCK = 2048  # tokens
LANES = 16  # a block is filled up to a multiple of as many, so that no loop has a scalar rest
POWERS = 4096  # of the base, tabulated; longer shingles are rare
EMPTY = 0xFFFFFFFF  # datasketch's value of a permutation that has seen nothing

ORDINARY, BLANK, SPECIAL = 0, 1, 2
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = BLANK
_CLASSES[[0xC2, 0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEF, 0xF0]] = SPECIAL
_RANGES = np.array(UNSPACED, np.uint32)


def _cached(function: Callable[..., Any]) -> Any:
    """Compile, and keep the result on disk; where nothing can be written it is compiled anew in each process."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function": neither the package's directory nor the user's can be written
        return numba.njit(nogil=True)(function)


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

        a, b = MinHash(num_perm=number, seed=seed, scheme=scheme).permutations
        return Permutations(scheme=scheme, a=np.ascontiguousarray(a), b=np.ascontiguousarray(b))


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


def sign(texts: pa.Array, shingle: int, tokens: Tokens, permutations: Permutations) -> Signed:
    """Sign texts that are in normal form C.

    Args:
        texts: large_string `[n_texts]`; a null is an empty text.
        shingle: tokens in a shingle.
        tokens: what they are.
        permutations: of the signature.
    """
    n = len(texts)
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + n + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    signed = Signed(
        values=np.full((n, len(permutations.a)), EMPTY, np.uint32),
        exact=np.zeros((n, 2), np.uint64),
        shingles=np.zeros(n, np.int64),
    )
    if n:
        arguments = (data, offsets, shingle, tokens == "characters", permutations.a, permutations.b, _POWERS)
        _sign(*arguments, signed.values, signed.exact, signed.shingles)
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
    _sign_hashes(hashes, offsets, permutations.a, permutations.b, values)
    return values


_POWERS = np.ones(POWERS, np.uint64)
np.cumprod(np.full(POWERS - 1, BASE, np.uint64), out=_POWERS[1:])

_u32, _u64, _index = np.uint32, np.uint64, numba.uintp
_BASE, _SECOND = np.uint64(BASE), np.uint64(SECOND_BASE)
_MERSENNE = np.uint64((1 << 61) - 1)  # of datasketch's legacy scheme


@_cached
def _special(data: Any, at: Any, end: Any) -> Any:
    """Bytes of the character at a position: as a positive number for a blank, negative for a token, else 0."""
    lead = data[at]
    if lead == 0xC2:
        return 2 if at + 1 < end and (data[at + 1] == 0x85 or data[at + 1] == 0xA0) else 0
    if at + 2 >= end:
        return 0
    second, third = _u32(data[at + 1] & 0x3F), _u32(data[at + 2] & 0x3F)
    length = 3
    code = _u32(lead & 0x0F) << _u32(12) | second << _u32(6) | third
    if lead == 0xF0:
        if at + 3 >= end:
            return 0
        length = 4
        code = code << _u32(6) | _u32(data[at + 3] & 0x3F)
    elif code <= 0x3000:
        if code == 0x3000 or code == 0x1680 or (0x2000 <= code <= 0x200A) or code == 0x205F:
            return 3
        if code == 0x2028 or code == 0x2029 or code == 0x202F:
            return 3
    for i in range(len(_RANGES)):
        if _RANGES[i, 0] <= code <= _RANGES[i, 1]:
            return -length
    return 0


@_cached
def _fmix32(value: Any) -> Any:
    """The finaliser of 32-bit MurmurHash3, with which datasketch's affine scheme begins."""
    value ^= value >> _u32(16)
    value = _u32(value * _u32(0x85EBCA6B))
    value ^= value >> _u32(13)
    value = _u32(value * _u32(0xC2B2AE35))
    return _u32(value ^ value >> _u32(16))


@_cached
def _power(exponent: Any, powers: Any) -> Any:
    result = powers[exponent % _index(POWERS)]
    for _ in range(exponent // _index(POWERS)):
        result = _u64(result * _u64(powers[POWERS - 1] * _BASE))
    return result


@_cached
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


@_cached
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


@_cached
def _sign(
    data: Any,
    offsets: Any,
    shingle: Any,
    characters: Any,
    a: Any,
    b: Any,
    powers: Any,
    values: Any,
    exact: Any,
    shingles: Any,
) -> None:
    room = max(BLOCK, 2 * shingle)
    begins, ends = np.empty((room, 2), np.uint64), np.empty((room, 2), np.uint64)
    hashes = np.empty(room + LANES, np.uint32)
    for document in range(len(offsets) - 1):
        at, end = _index(offsets[document]), _index(offsets[document + 1])
        position = _index(0)  # in the folded text
        h, g = _u64(0), _u64(0)
        n, tokens = 0, 0
        while True:
            gap = False
            while at < end:
                kind = _CLASSES[data[at]]
                if kind == ORDINARY:
                    break
                if kind == BLANK:
                    at += _index(1)
                else:
                    length = _special(data, at, end)
                    if length <= 0:
                        break
                    at += _index(length)
                gap = True
            if at >= end:
                break
            if gap and position > 0:
                if characters:
                    begins[n, 0], begins[n, 1] = h, position
                h, g = h * _BASE + _u64(33), g * _SECOND + _u64(33)
                position += _index(1)
                if characters:
                    ends[n, 0], ends[n, 1] = h, position
                    n, tokens = n + 1, tokens + 1
                    if n == room:
                        n = _flush(n, shingle, begins, ends, hashes, a, b, powers, values[document])
            begins[n, 0], begins[n, 1] = h, position
            first = at
            stop = end  # where the token ends at the latest
            if characters:
                stop = at + _index(1)
                while stop < end and data[stop] & 0xC0 == 0x80:
                    stop += _index(1)
            elif _CLASSES[data[at]] == SPECIAL:
                length = _special(data, at, end)
                if length < 0:
                    stop = at - _index(length)
            whole = stop < end or characters
            while True:
                byte = _u64(data[at]) + _u64(1)
                h, g = h * _BASE + byte, g * _SECOND + byte
                at += _index(1)
                if at >= stop:
                    break
                if whole:
                    continue
                kind = _CLASSES[data[at]]
                if kind == ORDINARY:
                    continue
                if kind == BLANK or _special(data, at, end) != 0:
                    break
            position += at - first
            ends[n, 0], ends[n, 1] = h, position
            n, tokens = n + 1, tokens + 1
            if n == room:
                n = _flush(n, shingle, begins, ends, hashes, a, b, powers, values[document])
        if n >= shingle:
            _flush(n, shingle, begins, ends, hashes, a, b, powers, values[document])
        exact[document, 0], exact[document, 1] = h, g
        shingles[document] = max(tokens - shingle + 1, 0)


@_cached
def _sign_hashes(hashes: Any, offsets: Any, a: Any, b: Any, values: Any) -> None:
    block = np.empty(BLOCK + LANES, np.uint32)
    for document in range(len(offsets) - 1):
        for start in range(offsets[document], offsets[document + 1], BLOCK):
            n = min(BLOCK, offsets[document + 1] - start)
            block[:n] = hashes[start : start + n]
            _minimum(block, n, a, b, values[document])
