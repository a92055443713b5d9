"""English abbreviations that end in a period, and words that begin a sentence, packed for lookup in NumPy.

A word of up to eight bytes is one uint64: lower case, inner periods kept, zero bytes before it (`aligned="right"`) or
after it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from annotate.text.pages import Bytes, Mask

WordHashes = npt.NDArray[np.uint64]

BYTES = 8

# The period never ends a sentence.
_NEVER = """
dr mr mrs ms messrs mme mlle prof rev hon st mt ft gen col lt sgt capt cmdr adm gov sen rep pres supt
e.g i.e eg ie vs cf viz approx esp incl resp n.b
"""
# The period ends no sentence where a number follows.
_NUMBER = """
no nos nr fig figs eq eqs vol vols ch chap sec sect pp p pg art ver v ex def thm tab ref refs op ca c para
jan feb mar apr jun jul aug sep sept oct nov dec
"""
# The period ends a sentence only where a word follows that often begins one.
_MAYBE = """
inc ltd co corp bros jr sr esq al ph.d m.sc b.sc dept est univ assn ave blvd rd misc max min avg std config
"""
_STARTERS = """
the this that these those it its he she they we you i in on at for from but and or so if when while there here what
who how why where which as by to not no yes his her their our my your all some many most one two other such since after
before because although though however both each every another also then now use see note unlike once until with without
today finally let please
"""

NEVER, NUMBER, MAYBE = 1, 2, 3


def _pack(words: str, aligned: str) -> list[int]:
    padded = (
        w.encode().rjust(BYTES, b"\0") if aligned == "right" else w.encode().ljust(BYTES, b"\0") for w in words.split()
    )
    return [int.from_bytes(word, "little") for word in padded if len(word) == BYTES]


_KIND_OF = {
    word: kind
    for kind, words in ((NEVER, _NEVER), (NUMBER, _NUMBER), (MAYBE, _MAYBE))
    for word in _pack(words, "right")
}
_ABBREVIATIONS: WordHashes = np.array(sorted(_KIND_OF), np.uint64)
_KINDS = np.array([_KIND_OF[word] for word in sorted(_KIND_OF)], np.int8)
_STARTER_WORDS: WordHashes = np.array(sorted(_pack(_STARTERS, "left")), np.uint64)


def abbreviation_kinds(words: Bytes, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """Look up the words before a period.

    Args:
        words: uint8 `[8, n]`, the bytes before the period.
        lengths: int64 `[n]`, how many of the last bytes are the word; a longer word is not in the list.

    Returns:
        int8 `[n]`: `NEVER`, `NUMBER`, `MAYBE`, or 0.
    """
    inside = np.arange(BYTES, 0, -1)[:, None] <= lengths
    packed = _packed(words, inside)
    at = np.minimum(np.searchsorted(_ABBREVIATIONS, packed), len(_ABBREVIATIONS) - 1)
    found = (_ABBREVIATIONS[at] == packed) & (lengths <= BYTES)
    return np.where(found, _KINDS[at], np.int8(0))


def is_starter(words: Bytes, lengths: npt.NDArray[np.int64]) -> Mask:
    """Say which words often begin a sentence.

    Args:
        words: uint8 `[8, n]`, the bytes from the start of the word.
        lengths: int64 `[n]`, how many of the first bytes are the word; a longer word is not in the list.
    """
    packed = _packed(words, np.arange(BYTES)[:, None] < lengths)
    at = np.minimum(np.searchsorted(_STARTER_WORDS, packed), len(_STARTER_WORDS) - 1)
    found: Mask = (_STARTER_WORDS[at] == packed) & (lengths <= BYTES)
    return found


def _packed(words: Bytes, inside: Mask) -> WordHashes:
    # 0x20 makes an ASCII letter lower case and leaves a period as it is; the first byte is the lowest, as in `_pack`.
    lower = (words | 0x20) * inside
    packed = np.zeros(words.shape[1], np.uint64)
    for row in lower[::-1]:
        packed = packed << np.uint64(8) | row
    return packed
