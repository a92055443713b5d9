"""UTF-8 seen from its bytes: which rows are valid, and how byte offsets and code-point offsets map to each other.

A code point has one byte that is not a continuation byte (`10xxxxxx`), so its offset is the number of those before it.
All functions work in blocks, so that what they allocate does not grow with the buffer.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.text.pages import SEPARATOR, Bytes, Mask, Page, Positions, pages, require_text

BLOCK = 1 << 20


def is_continuation(buffer: Bytes) -> Mask:
    """Which bytes do not begin a code point; bool, the shape of `buffer`."""
    return buffer.view(np.int8) < -64


def code_point_offsets(buffer: Bytes, positions: Positions) -> Positions:
    """Count the code points that begin before each position.

    Args:
        buffer: uint8, UTF-8; bytes that UTF-8 never uses count as a code point each.
        positions: int64 `[n]`, ascending, each between 0 and `len(buffer)`.

    Returns:
        int64 `[n]`. The offset in a document is the difference to the value at the document's start.
    """
    offsets = positions.astype(np.int64, copy=True)
    seen = 0
    bounds = _block_bounds(buffer)
    cuts = np.searchsorted(positions, bounds)
    cuts[-1] = len(positions)
    for start, stop, low, high in zip(bounds[:-1], bounds[1:], cuts[:-1], cuts[1:], strict=True):
        block = buffer[start:stop]
        if len(block) and block.max() >= 0x80:
            continuation = np.flatnonzero(is_continuation(block))
            offsets[low:high] -= seen + np.searchsorted(continuation, positions[low:high] - start)
            seen += len(continuation)
        else:
            offsets[low:high] -= seen
    return offsets


def byte_offsets(buffer: Bytes, code_points: Positions) -> Positions:
    """Find where each code point begins: the inverse of `code_point_offsets`.

    Args:
        buffer: uint8, UTF-8.
        code_points: int64 `[n]`, ascending, each between 0 and the number of code points in `buffer`.

    Returns:
        int64 `[n]`; the number of code points maps to `len(buffer)`.
    """
    positions = np.full(len(code_points), len(buffer), np.int64)
    seen = 0
    bounds = _block_bounds(buffer)
    for start, stop in pairwise(bounds):
        begins = np.flatnonzero(~is_continuation(buffer[start:stop]))
        low, high = np.searchsorted(code_points, [seen, seen + len(begins)])
        positions[low:high] = begins[code_points[low:high] - seen] + start
        seen += len(begins)
    return positions


def code_points_at(buffer: Bytes, positions: Positions) -> npt.NDArray[np.int32]:
    """Decode the code point that begins at each position; a separator of a page reads as a line feed.

    Args:
        buffer: uint8, a page's buffer.
        positions: int64 `[n]`, each at the first byte of a code point or at a separator.

    Returns:
        int32 `[n]`.
    """
    lead = buffer[positions]
    decoded = lead.astype(np.int32)
    multiple = np.flatnonzero(lead >= 0x80)
    if len(multiple):
        at = positions[multiple]
        first = lead[multiple].astype(np.int32)
        second, third, fourth = (buffer[at + k].astype(np.int32) & 0x3F for k in (1, 2, 3))
        decoded[multiple] = np.select(
            [first == SEPARATOR, first < 0xE0, first < 0xF0],
            [ord("\n"), (first & 0x1F) << 6 | second, (first & 0x0F) << 12 | second << 6 | third],
            (first & 0x07) << 18 | second << 12 | third << 6 | fourth,
        )
    return decoded


def begin_of_code_point(buffer: Bytes, positions: Positions) -> Positions:
    """Move each position that lies inside a code point back to its first byte; int64 `[n]`."""
    begins = positions.copy()
    for _ in range(3):
        inside = np.flatnonzero(is_continuation(buffer[begins]))
        if not len(inside):
            break
        begins[inside] -= 1
    return begins


def invalid_utf8(texts: pa.Array | pa.ChunkedArray) -> Mask:
    """Say which rows hold bytes that are not valid UTF-8, such as lone surrogates that a Parquet writer let through.

    Args:
        texts: string or large_string; a null row is valid.

    Returns:
        bool `[n]`. When all is valid this costs one pass of Arrow's own validation.

    Raises:
        InputError: `texts` is not text.
    """
    require_text(texts)
    invalid = np.zeros(len(texts), np.bool_)
    if not _all_valid(texts):
        for page in pages(texts):
            rows = np.searchsorted(page.ends, _malformed(page)) + page.first
            invalid[rows] = True
    return invalid


def _block_bounds(buffer: Bytes) -> Positions:
    return np.append(np.arange(0, max(len(buffer), 1), BLOCK), len(buffer))


def _all_valid(texts: pa.Array | pa.ChunkedArray) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


_FOLLOWING = np.zeros(256, np.int8)  # continuation bytes after each lead byte; -1: never part of UTF-8
_FOLLOWING[0xC2:0xE0] = 1
_FOLLOWING[0xE0:0xF0] = 2
_FOLLOWING[0xF0:0xF5] = 3
_FOLLOWING[[0xC0, 0xC1, *range(0xF5, 0x100)]] = -1
_LOWEST_SECOND = np.full(256, 0x80, np.uint8)  # excludes overlong forms
_LOWEST_SECOND[[0xE0, 0xF0]] = [0xA0, 0x90]
_HIGHEST_SECOND = np.full(256, 0xBF, np.uint8)  # excludes surrogates and what lies beyond U+10FFFF
_HIGHEST_SECOND[[0xED, 0xF4]] = [0x9F, 0x8F]


def _malformed(page: Page) -> Positions:
    """Positions in the page of bytes that break a rule of UTF-8 (RFC 3629, section 4), each within its document."""
    buffer = page.buffer
    at = np.flatnonzero(buffer >= 0x80)
    at = at[(at >= page.starts[0]) & (at < page.ends[-1])]
    byte = buffer[at]
    need = _FOLLOWING[byte]
    continuation = is_continuation(byte)
    second, third, fourth = (is_continuation(buffer[at + k]) for k in (1, 2, 3))
    cut_short = ((need >= 1) & ~second) | ((need >= 2) & ~third) | ((need >= 3) & ~fourth)
    bad_second = (need >= 1) & ((buffer[at + 1] < _LOWEST_SECOND[byte]) | (buffer[at + 1] > _HIGHEST_SECOND[byte]))
    before = [buffer[at - k] for k in (1, 2, 3)]
    claimed = _FOLLOWING[before[0]] >= 1
    claimed |= is_continuation(before[0]) & (_FOLLOWING[before[1]] >= 2)
    claimed |= is_continuation(before[0]) & is_continuation(before[1]) & (_FOLLOWING[before[2]] >= 3)
    malformed: Positions = at[(need < 0) | cut_short | bad_second | (continuation & ~claimed)]
    separator = np.isin(malformed, page.ends) & (buffer[malformed] == SEPARATOR)
    outside: Positions = malformed[~separator]
    return outside
