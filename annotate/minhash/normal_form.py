"""Which texts may not be in Unicode's normal form C, told from their bytes: few texts have to be normalized at all.

A text is in normal form C if each of its characters is one that the form allows anywhere and that combines with none
before it (UAX 15, section 9: the quick check, "yes", of combining class 0). Such are all below U+0300, and the ranges
in `SAFE`: the scripts of most text, without their combining marks. A text with any other character "may not be" in it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import uintp

from annotate.compiled import compiled, constant, text_buffers

STRIDE = 64  # bytes of which only the highest is looked at first: processors do that many bytes at a time
FIRST_LEAD = 0xCC  # the first byte of U+0300; characters below it, and continuation bytes, have lower ones only
SAFE = (
    (0x0000, 0x02FF),  # Latin
    (0x038E, 0x0482),  # Greek, Cyrillic
    (0x048A, 0x058A),  # Cyrillic, Armenian
    (0x05D0, 0x05EA),  # Hebrew letters
    (0x061B, 0x064A),  # Arabic letters, digits, and letters of other languages
    (0x0660, 0x066F),
    (0x0671, 0x06D5),
    (0x10A0, 0x10FF),  # Georgian
    (0x1200, 0x135A),  # Ethiopic
    (0x1E00, 0x1EFF),  # Latin, with all that Vietnamese needs
    (0x2002, 0x2064),  # punctuation
    (0x2070, 0x20BF),  # raised and lowered digits, currencies
    (0x2100, 0x2125),  # symbols, arrows, mathematics, box drawing
    (0x212C, 0x2328),
    (0x232B, 0x2ADB),
    (0x2ADD, 0x2BFF),
    (0x3000, 0x3029),  # marks of Chinese and Japanese
    (0x3030, 0x3096),  # the same, hiragana
    (0x309B, 0x312F),  # katakana, bopomofo
    (0x3131, 0x318E),  # Korean letters
    (0x3190, 0x9FFF),  # Han
    (0xAC00, 0xD7A3),  # Korean syllables
    (0xE000, 0xF8FF),  # private use
    (0xFE00, 0xFE19),  # variation selectors, vertical forms
    (0xFE30, 0xFE66),  # vertical and small forms
    (0xFF01, 0xFFBE),  # wide and narrow forms
    (0x1F000, 0x1FAFF),  # emoji
    (0x20000, 0x2EBEF),  # Han
    (0x30000, 0x323AF),
)
"""Code points, first and last, that a text in normal form C may hold at any place."""


def may_not_be_normal(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Which texts hold a character outside `SAFE`.

    Args:
        texts: large_string `[n]`, valid UTF-8; of a null the bytes under it count.

    Returns:
        bool `[n]`.
    """
    found = np.zeros(len(texts), np.bool_)
    _find(*text_buffers(texts), _safe(), found)
    return found


@functools.cache
def _safe() -> npt.NDArray[np.bool_]:
    safe = np.zeros(0x200000, np.bool_)  # all that four bytes can spell
    for first, last in SAFE:
        safe[first : last + 1] = True
    return constant(safe, np.bool_)


@compiled
def _find(data: Any, offsets: Any, safe: Any, found: Any) -> None:
    for document in range(len(found)):
        at, end = uintp(offsets[document]), uintp(offsets[document + 1])
        while at < end:
            stop = min(at + uintp(STRIDE), end)
            highest = np.uint8(0)
            for i in range(at, stop):
                highest = max(highest, data[i])
            if highest >= FIRST_LEAD and not _all_safe(data, at, stop, end, safe):
                found[document] = True
                break
            at = stop


@compiled
def _all_safe(data: Any, at: Any, stop: Any, end: Any, safe: Any) -> Any:
    """Whether the characters that begin in a stretch are safe."""
    while at < stop:
        lead = data[at]
        at += uintp(1)
        if lead >= FIRST_LEAD:
            last = at + uintp(lead >= 0xE0) + uintp(lead >= 0xF0)
            if last >= end:
                return False
            code = uintp(lead) & (uintp(0x3F) >> (last - at + uintp(1)))
            for i in range(at, last + uintp(1)):
                code = code << uintp(6) | uintp(data[i] & 0x3F)
            if not safe[code]:
                return False
    return True
