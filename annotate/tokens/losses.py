"""What a tokenizer loses of a text: characters that no token stands for, and differences that tokens don't show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import compiled, constant

if TYPE_CHECKING:
    from annotate.tokens.encoding import TextTokenizer

Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

BLANK = "\u2581"
"""How tokenizers that keep blanks spell a blank."""

_PAIRS = {
    "case": ("The House", "the house"),
    "accents": ("caf\u00e9", "cafe"),
    "composed and decomposed letters": ("caf\u00e9", "cafe\u0301"),
    "compatibility forms such as \ufb01 and fi": ("\ufb01le", "file"),
    "the number of blanks": ("the  house", "the house"),
    "line breaks": ("the\nhouse", "the house"),
}


def taken_away(encoder: TextTokenizer) -> list[str]:
    """Differences between texts that their tokens do not have, since normalizers or the cutting of words remove them.

    Each is tried on two texts that differ in it alone, and of which the tokenizer knows and keeps every character.
    """
    encoded = encoder.encode(pa.array([text for pair in _PAIRS.values() for text in pair], pa.large_string()))
    ids = np.split(encoded.ids, encoded.documents[1:-1])
    whole = (encoded.unknown == 0) & (encoded.dropped == 0)
    return [
        name
        for i, name in enumerate(_PAIRS)
        if whole[2 * i : 2 * i + 2].all() and np.array_equal(ids[2 * i], ids[2 * i + 1])
    ]


def dropped_characters(
    starts: Int64, ends: Int64, documents: Int64, text: Bytes, text_starts: Int64, *, composed: bool
) -> Int64:
    """How many characters of each document no token stands for, blanks left out: int64 `[n]`.

    Args:
        starts: int64 `[n_tokens]`, the first byte of each token in its document.
        ends: int64 `[n_tokens]`, one past its last byte. For a token of blanks it does not matter. A token that the
            tokenizer has put before the text must not have the range of the text's first character.
        documents: int64 `[n + 1]`, the first token of each document.
        text: uint8, the UTF-8 of all documents.
        text_starts: int64 `[n + 1]`, the first byte of each document.
        composed: whether a normalizer may have joined a letter and the marks after it into one. Its token has the range
            of the letter alone, so marks do not count.
    """
    dropped = np.zeros(len(documents) - 1, np.int64)
    _count_dropped(
        constant(starts, np.int64),
        constant(ends, np.int64),
        constant(documents, np.int64),
        constant(text, np.uint8),
        constant(text_starts, np.int64),
        composed,
        dropped,
    )
    return dropped


def letters_of(made: Mapping[str, Any], size: int) -> Int64 | None:
    """How many characters each id has, blanks left out: int64 `[size]`; None where that does not tell what is dropped.

    It does for a BPE tokenizer with neither bytes nor a token for the unknown. Of a word that such a tokenizer can't
    spell, the library drops a part, and gives the other tokens wrong offsets.

    Args:
        made: the content of the tokenizer's `tokenizer.json`.
        size: one more than the highest id.
    """
    model = made["model"]
    marked = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model.get("type") != "BPE" or model.get("unk_token") or model.get("byte_fallback") or marked:
        return None
    if "ByteLevel" in json.dumps(made["pre_tokenizer"]):
        return None
    letters = np.zeros(size, np.int64)
    words = [*model["vocab"].items(), *((token["content"], token["id"]) for token in made["added_tokens"])]
    for word, i in words:
        letters[i] = sum(not (character.isspace() or character == BLANK) for character in word)
    return letters


def missing_letters(ids: npt.NDArray[np.int32], documents: Int64, letters: Int64, text: Bytes, starts: Int64) -> Int64:
    """How many more characters each document has than its tokens, blanks left out: int64 `[n]`.

    Args:
        ids: int32 `[n_tokens]`.
        documents: int64 `[n + 1]`, the first token of each document.
        letters: from `letters_of`.
        text: uint8, the UTF-8 of all documents, normalized as the tokenizer does it.
        starts: int64 `[n + 1]`, the first byte of each document.
    """
    none = np.zeros(0, np.int64)
    all_of_it = dropped_characters(none, none, np.zeros_like(documents), text, starts, composed=False)
    there = np.diff(np.append(0, np.cumsum(letters[ids]))[documents])
    return np.maximum(all_of_it - there, 0)


@compiled
def _count_dropped(
    starts: Int64,
    ends: Int64,
    documents: Int64,
    text: Bytes,
    text_starts: Int64,
    composed: bool,  # noqa: FBT001 - numba has no keyword-only arguments
    dropped: Int64,
) -> None:
    for document in range(len(documents) - 1):
        begin = text_starts[document]
        reach = np.int64(0)  # the farthest end so far: with a normalizer, ends need not ascend
        for token in range(documents[document], documents[document + 1]):
            if starts[token] > reach:
                dropped[document] += _characters(text, begin + reach, begin + starts[token], composed)
            reach = max(reach, ends[token])
        dropped[document] += _characters(text, begin + reach, text_starts[document + 1], composed)


@compiled
def _characters(text: Bytes, begin: int, stop: int, composed: bool) -> int:  # noqa: FBT001 - as above
    """How many characters are between two places. Unicode's blanks don't count; with `composed`, nor do marks."""
    found = 0
    for at in range(begin, stop):
        byte = text[at]
        if (byte & 0xC0) == 0x80 or byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31:
            continue
        second = text[at + 1] if at + 1 < stop else 0
        third = text[at + 2] if at + 2 < stop else 0
        blank = byte == 0xC2 and (second == 0xA0 or second == 0x85)
        if byte == 0xE2 and second == 0x80:  # U+2000 to U+200A, U+2028, U+2029, U+202F
            blank = third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF
        blank |= byte == 0xE2 and second == 0x81 and third == 0x9F
        blank |= byte == 0xE2 and second == 0x96 and third == 0x81  # BLANK
        blank |= byte == 0xE3 and second == 0x80 and third == 0x80
        blank |= byte == 0xE1 and second == 0x9A and third == 0x80
        if composed:  # U+0300 to U+036F, vowels and finals of Hangul, U+3099 and U+309A
            blank |= byte == 0xCC or (byte == 0xCD and second <= 0xAF)
            blank |= byte == 0xE1 and ((second == 0x85 and third >= 0xA0) or second == 0x86 or second == 0x87)
            blank |= byte == 0xE3 and second == 0x82 and (third == 0x99 or third == 0x9A)
        found += not blank
    return found
