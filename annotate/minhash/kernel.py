"""Text to MinHash signatures over Arrow's UTF-8 buffers, in blocks that stay in the first-level caches.

For each document, block by block: fold blanks away and note where tokens end; sum up the terms of the polynomial hash,
each divided by a power of its base, so that the hash of any shingle is a difference of two sums times a power; let each
permutation take its minimum over the shingles. No step has a branch for each word, or more than one chain of operations
that wait for each other. `reference.py` says in plain Python what comes out, `signing.py` calls these loops.

All loops that call each other are in this file: numba keeps them on disk, and does not see that another file changed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from annotate.compiled import compiled

ROOM = 4096  # bytes of folded text in a block
STEP = 64  # bytes that are looked at together
WORD = 8  # bytes that the exact hashes take in at once; those before a block are of the one before, left over there
GROUP = 8  # shingles that a permutation's minimum takes in at once
EMPTY = 0xFFFFFFFF  # datasketch's value of a permutation that has seen nothing

# What a character is: part of a word, blank, a token by itself; or, of a first byte, that those that follow decide.
ORDINARY, BLANK, TOKEN, SPECIAL = 0, 1, 2, 3

_u32, _u64, _index = np.uint32, np.uint64, numba.uintp
_SPACE = np.uint8(ord(" "))
_MERSENNE = np.uint64((1 << 61) - 1)  # of datasketch's legacy scheme


@compiled
def _plain(data: Any, at: Any, end: Any) -> Any:
    """Up to where, in steps, bytes tell by themselves whether they are blank, and none is a token.

    Others begin with C2 (two blanks), or with E0 and more: no character of `UNSPACED` has two bytes.
    """
    while at < end:
        stop = min(at + _index(STEP), end)
        special = False
        for i in range(at, stop):
            special |= (data[i] == 0xC2) | (data[i] >= 0xE0)
        if special:
            break
        at = stop
    return at


@compiled
def _fold_plain(
    data: Any, at: Any, count: Any, blank: Any, unfinished: Any, marks: Any, folded: Any, n: Any, ends: Any, tokens: Any
) -> Any:
    """Fold plain bytes that follow a blank or not, a word or not; how many bytes and tokens there then are.

    No processor can foretell where words end, so nothing branches: what can be told of many bytes at a time is marked
    first (which are blank, what each is folded to, whether it is kept, whether it ends a word), then they are moved.
    """
    blanks, same, keeps, closes = marks
    blanks[0] = blank
    for i in range(count):
        byte = data[at + i]
        blanks[i + _index(1)] = (byte == 32) | ((byte >= 9) & (byte <= 13)) | ((byte >= 28) & (byte <= 31))
    for i in range(count):
        byte, this = data[at + i], blanks[i + _index(1)]
        keeps[i] = 1 - (blanks[i] & this)
        closes[i] = this & (1 - blanks[i])
        # Each byte is loaded, whether it is kept or not: AVX2 can load no choice of bytes, and went one by one.
        same[i] = byte ^ ((byte ^ _SPACE) & (0 - this))
    closes[0] &= unfinished
    for i in range(count):
        ends[tokens] = n
        tokens += _index(closes[i])
        folded[n] = same[i]
        n += _index(keeps[i])
    return n, tokens


@compiled
def _fold(
    data: Any,
    at: Any,
    end: Any,
    characters: Any,
    tables: Any,
    marks: Any,
    folded: Any,
    ends: Any,
    state: Any,
) -> Any:
    """Fold text into a block, until either ends: where that was, the bytes, and how many tokens end in them.

    The state is whether the text has begun, whether a blank is due before its next character, and whether a word goes
    on. Positions in the block, as in `ends`, begin at `WORD`. A blank is written when it is met, and taken back at the
    end of a block if nothing has followed it.
    """
    first_bytes, lengths, kinds = tables
    started, gap, unfinished = state
    n, tokens, one = _index(WORD), _index(0), _index(1)
    if gap:
        folded[n] = _SPACE
        n += one
    while at < end and n < _index(ROOM):
        if not characters:
            stop = _plain(data, at, min(end, at + (_index(ROOM) - n)))
            if stop > at:
                n, tokens = _fold_plain(
                    data, at, stop - at, gap | (one - started), unfinished, marks, folded, n, ends, tokens
                )
                started |= _index(n > _index(WORD))
                blank = _index(marks[0][stop - at])
                gap, unfinished, at = started & blank, one - blank, stop
                continue
        step = min(at + _index(STEP), end)
        while at < step and n < _index(ROOM):
            lead = data[at]
            kind, stop = first_bytes[lead], at + _index(lengths[lead])
            if stop > end:
                kind, stop = TOKEN if characters else ORDINARY, end
            elif kind == SPECIAL:
                code = _index(lead) & (_index(0x7F) >> (stop - at))
                for i in range(at + one, stop):
                    code = code << _index(6) | _index(data[i] & 0x3F)
                kind = kinds[code]
            if kind != ORDINARY and (unfinished or (gap and characters and kind == TOKEN)):
                ends[tokens] = n
                tokens += one
            if kind == BLANK:
                if started and not gap:
                    folded[n] = _SPACE
                    n += one
                gap, unfinished, at = started, _index(0), stop
                continue
            while at < stop:
                folded[n] = data[at]
                n, at = n + one, at + one
            ends[tokens] = n
            tokens += _index(kind == TOKEN)
            started, gap, unfinished = one, _index(0), _index(kind == ORDINARY)
    n -= gap
    ends[tokens] = n
    return at, n, tokens, (started, gap, unfinished)


@compiled
def _sums(folded: Any, n: Any, inverses: Any, sums: Any) -> None:
    """For each byte of a block the sum over those before it of (byte + 1) / BASE ** (bytes before + 1)."""
    for i in range(n - _index(WORD)):
        sums[_index(WORD + 1) + i] = (_u64(folded[_index(WORD) + i]) + _u64(1)) * inverses[i + _index(1)]
    total = _u64(0)
    sums[WORD] = total
    for i in range(_index(WORD + 1), n + _index(1)):
        total += sums[i]
        sums[i] = total


@compiled
def _exact(folded: Any, start: Any, stop: Any, bases: Any, high: Any, low: Any) -> Any:
    """Take words of a block into the exact hashes."""
    for i in range(start, stop, _index(WORD)):
        word = _u64(0)
        for k in range(WORD):
            word |= _u64(folded[i + _index(k)]) << _u64(8 * k)
        high = _turned(high, word, bases[0])
        low = _turned(low, word, bases[1])
    return high, low


@compiled
def _turned(value: Any, word: Any, base: Any) -> Any:
    return _u64((value << _u64(23) | value >> _u64(41)) ^ word) * base


@compiled
def _fmix64(value: Any) -> Any:
    """The finaliser of 64-bit MurmurHash3, but for its last step."""
    value ^= value >> _u64(33)
    value *= _u64(0xFF51AFD7ED558CCD)
    value ^= value >> _u64(33)
    return _u64(value * _u64(0xC4CEB9FE1A85EC53))


@compiled
def _fmix32(value: Any) -> Any:
    """The finaliser of 32-bit MurmurHash3, with which datasketch's affine scheme begins."""
    value ^= value >> _u32(16)
    value = _u32(value * _u32(0x85EBCA6B))
    value ^= value >> _u32(13)
    value = _u32(value * _u32(0xC2B2AE35))
    return _u32(value ^ value >> _u32(16))


@compiled
def _minimum(hashes: Any, n: Any, a: Any, b: Any, values: Any) -> None:
    """Lower the values of a signature to the minima over n hashes; the array has room for `GROUP` more."""
    if n <= 0:
        return
    if a.itemsize == 8:  # the legacy scheme
        for p in range(len(a)):
            for i in range(n):
                value = _u32((_u64(hashes[i]) * a[p] + b[p]) % _MERSENNE)
                values[p] = min(values[p], value)
        return
    for i in range(n):
        hashes[i] = _fmix32(hashes[i])
    for i in range(n, n + GROUP):
        hashes[i] = hashes[0]
    for i in range(0, n, GROUP):  # several at a time: what is loaded of a permutation serves all of them
        h0, h1, h2, h3 = hashes[i], hashes[i + 1], hashes[i + 2], hashes[i + 3]
        h4, h5, h6, h7 = hashes[i + 4], hashes[i + 5], hashes[i + 6], hashes[i + 7]
        for p in range(len(a)):
            x, y, v = a[p], b[p], values[p]
            v = min(v, min(_u32(x * h0 + y), _u32(x * h1 + y)))
            v = min(v, min(_u32(x * h2 + y), _u32(x * h3 + y)))
            v = min(v, min(_u32(x * h4 + y), _u32(x * h5 + y)))
            values[p] = min(v, min(_u32(x * h6 + y), _u32(x * h7 + y)))


@compiled
def _locate(
    folded: Any, ends: Any, characters: Any, tokens: Any, sums: Any, powers: Any, before: Any, first: Any, located: Any
) -> None:
    """Note of each token of a block the sums at its begin and its end, and BASE to the power of its end.

    `before` has the sum up to the block, BASE to the power of minus its length and of its length, and whether the first
    token goes on from there: then its begin is noted already.
    """
    begin_sums, end_sums, end_powers = located
    total, scale, power, goes_on = before
    previous = _index(WORD)
    for k in range(tokens):
        if k > 0 or goes_on == 0:
            begin = previous + _index(folded[previous] == _SPACE and not characters)
            begin_sums[first + k] = total + scale * sums[begin]
        previous = ends[k]
        end_sums[first + k] = total + scale * sums[previous]
        end_powers[first + k] = power * powers[previous - _index(WORD)]


@compiled
def _hash(shingle: Any, found: Any, located: Any, hashes: Any) -> None:
    """The hashes of the shingles that end in a block; as wide as the array."""
    begin_sums, end_sums, end_powers = located
    drop = _u64(64 - 8 * hashes.itemsize)
    for i in range(found):
        last = i + shingle - 1
        hashes[i] = _fmix64(end_powers[last] * (end_sums[last] - begin_sums[i])) >> drop


@compiled
def _shift(located: Any, by: Any, number: Any) -> None:
    """Move the tokens that the next block needs to the front."""
    begin_sums, end_sums, end_powers = located
    for i in range(number):
        begin_sums[i], end_sums[i], end_powers[i] = begin_sums[by + i], end_sums[by + i], end_powers[by + i]


@compiled
def sign_documents(
    data: Any,
    offsets: Any,
    skip: Any,
    shingle: Any,
    characters: Any,
    tables: Any,
    powers: Any,
    inverses: Any,
    bases: Any,
    a: Any,
    b: Any,
    values: Any,
    exact: Any,
    shingles: Any,
    wanted: Any,
    wanted_starts: Any,
) -> None:
    """Fill `exact` and `shingles` of each document; and `values` or, if they are wanted, the hashes of its shingles.

    Args:
        data: uint8, the bytes of all documents.
        offsets: int64 `[n + 1]`, where each document begins and ends.
        skip: bool `[n]`, documents that are left as they are.
        shingle: tokens in a shingle.
        characters: whether each character is a token.
        tables: the kinds of characters.
        powers: of the base of the rolling hash, from 0 to `ROOM`.
        inverses: the same, of its inverse.
        bases: of the two exact hashes.
        a: multipliers of the permutations.
        b: summands of the permutations.
        values: uint32 `[n, n_permutations]`, `EMPTY` at first.
        exact: uint64 `[n, 2]`.
        shingles: int64 `[n]`, 0 at first.
        wanted: uint64, where the hashes of shingles go.
        wanted_starts: int64 `[n + 1]`, from where on in `wanted`; empty where the permutations are wanted instead.
    """
    marks = np.empty(ROOM + 1, np.uint8), np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    folded = np.empty(ROOM + 3 * WORD, np.uint8)
    ends, sums = np.empty(ROOM + 2 * WORD, np.uint64), np.empty(ROOM + 2 * WORD, np.uint64)
    room = ROOM + shingle + WORD
    located = np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(room, np.uint64)
    hashes = np.empty(room + GROUP, np.uint32)
    none = _index(0)
    for document in range(len(skip)):
        if skip[document]:
            continue
        at, end = _index(offsets[document]), _index(offsets[document + 1])
        state, first = (none, none, none), none
        total, scale, power = _u64(0), _u64(1), _u64(1)
        high, low, length, left = _u64(0), _u64(0), _u64(0), none
        while at < end:
            goes_on = state[2]
            at, n, tokens, state = _fold(data, at, end, characters, tables, marks, folded, ends, state)
            ended = tokens + state[2] if at == end else tokens
            _sums(folded, n, inverses, sums)
            before = (total, scale, power, goes_on)
            _locate(folded, ends, characters, tokens + state[2], sums, powers, before, first, located)
            found = max(np.int64(first + ended) - shingle + 1, 0)
            if len(wanted_starts):
                _hash(shingle, found, located, wanted[wanted_starts[document] + shingles[document] :])
            else:
                _hash(shingle, found, located, hashes)
                _minimum(hashes, found, a, b, values[document])
            shingles[document] += found
            first = first + ended - _index(found)
            _shift(located, found, first + state[2])
            size = n - _index(WORD)
            total += scale * sums[n]
            scale, power = scale * inverses[size], power * powers[size]
            start, length = _index(WORD) - left, length + size
            left = (left + size) % _index(WORD)
            high, low = _exact(folded, start, n - left, bases, high, low)
            for i in range(left):
                folded[_index(WORD) - left + i] = folded[n - left + i]
        if left > 0:
            folded[WORD : 2 * WORD] = 0
            start = _index(WORD) - left
            high, low = _exact(folded, start, start + _index(WORD), bases, high, low)
        exact[document, 0] = _fmix64(_turned(high, length, bases[0]))
        exact[document, 1] = _fmix64(_turned(low, length, bases[1]))


@compiled
def packed(values: Any, starts: Any, counts: Any) -> Any:
    """The first few values from each start on, without what is between."""
    packed = np.empty(counts.sum(), values.dtype)
    n = 0
    for i in range(len(counts)):
        for k in range(starts[i], starts[i] + counts[i]):
            packed[n] = values[k]
            n += 1
    return packed


@compiled
def sign_hashed(hashes: Any, offsets: Any, a: Any, b: Any, values: Any) -> None:
    """Lower the values of each document's signature to the minima over its hashes."""
    block = np.empty(ROOM + GROUP, np.uint32)
    for document in range(len(offsets) - 1):
        for start in range(offsets[document], offsets[document + 1], ROOM):
            n = min(ROOM, offsets[document + 1] - start)
            block[:n] = hashes[start : start + n]
            _minimum(block, n, a, b, values[document])
