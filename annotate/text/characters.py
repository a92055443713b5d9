"""What single characters mean to a sentence splitter, as flags looked up by code point.

General categories come from Unicode 3.2, which Python carries unchanged in every version, so that spans do not depend
on the Python that made them.
"""

from __future__ import annotations

from functools import lru_cache
from unicodedata import ucd_3_2_0

import numpy as np
import numpy.typing as npt

PERIOD = 1 << 0  # ends a sentence unless it belongs to an abbreviation
STRONG = 1 << 1  # ends a sentence: ? ! and their relatives
ELLIPSIS = 1 << 2  # ends a sentence unless it goes on in lower case
WIDE = 1 << 3  # ends a sentence even if no blank follows, as in Chinese, Japanese and Hindi
CLOSER = 1 << 4  # may stand between the end mark and the blank: quotes, brackets, markup
OPENER = 1 << 5  # may stand before the first letter of a sentence
LOWER = 1 << 6  # lower-case letter
WORD = 1 << 7  # letter, digit or low line
DIGIT = 1 << 8
HOLD = 1 << 9  # never begins a sentence: a mark before it has ended none
EXTEND = 1 << 10  # belongs to the character before it: combining mark, variation selector, skin tone, joiner
JOIN = 1 << 11  # binds the character after it as well: zero-width joiner

ENDER = PERIOD | STRONG | ELLIPSIS | WIDE

_MARKS = {
    PERIOD: ".．",
    STRONG: "?!؟۔‼⁇⁈⁉։።፧။។",
    ELLIPSIS: "…",
    WIDE: "。！？｡।॥",
    CLOSER: "\"')]}*_`”’“»›」』）】》〉］",
    OPENER: "\"'([{*_`<“‘„«‹「『（【《〈［¿¡",
    HOLD: ",;:.?!)]}%&/\\|=+，、；：。．！？）」』】》؛،",
}
_EXTEND_RANGES = (
    (0x200C, 0x200D),
    (0xFE00, 0xFE0F),
    (0x1F3FB, 0x1F3FF),
    (0xE0020, 0xE007F),
    (0xE0100, 0xE01EF),
)


@lru_cache(maxsize=1)
def character_flags() -> npt.NDArray[np.uint16]:
    """The flags of every code point; uint16 `[0x110000]`, made once."""
    flags = np.zeros(0x110000, np.uint16)
    categories = np.array([ucd_3_2_0.category(chr(c)) for c in range(0x10000)])
    flags[: 1 << 16][categories == "Ll"] |= LOWER
    flags[: 1 << 16][categories == "Nd"] |= DIGIT
    flags[: 1 << 16][np.char.startswith(categories, "M")] |= EXTEND
    flags[: 1 << 16][np.char.startswith(categories, "L") | (categories == "Nd")] |= WORD
    flags[ord("_")] |= WORD
    for flag, marks in _MARKS.items():
        flags[[ord(mark) for mark in marks]] |= flag
    for low, high in _EXTEND_RANGES:
        flags[low : high + 1] |= EXTEND
    flags[0x200D] |= JOIN
    return flags


def last_bytes(flag: int) -> npt.NDArray[np.bool_]:
    """Which bytes end the UTF-8 form of a mark with this flag; bool `[256]`, a cheap test before the exact one."""
    table = np.zeros(256, np.bool_)
    table[[mark.encode()[-1] for kind, marks in _MARKS.items() if kind & flag for mark in marks]] = True
    return table
