"""That what the normal form's check calls safe is safe, by the Unicode database of this Python."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.minhash.normal_form import SAFE, STRIDE, may_not_be_normal

SAFE_CODES = [code for first, last in SAFE for code in range(first, last + 1)]


def found(texts: list[str | None]) -> list[bool]:
    return may_not_be_normal(pa.array(texts, pa.large_string())).tolist()


def test_safe_characters_are_normal_and_start_anew() -> None:
    combine_with_one_before = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A7, 0x11C3))}
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            combine_with_one_before.add(chr(int(parts[1], 16)))
    assert "\u0301" in combine_with_one_before and "\u3099" in combine_with_one_before
    for character in map(chr, SAFE_CODES):
        assert unicodedata.is_normalized("NFC", character), hex(ord(character))
        assert unicodedata.combining(character) == 0, hex(ord(character))
        assert character not in combine_with_one_before, hex(ord(character))


def test_each_character_is_found_or_not() -> None:
    safe = set(SAFE_CODES)
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert found([chr(code) for code in codes]) == [code not in safe for code in codes]


@settings(deadline=None)  # the first call may compile
@given(st.lists(st.text() | st.text(st.characters(max_codepoint=0x400)) | st.none(), max_size=5))
def test_what_is_not_normal_is_found(texts: list[str | None]) -> None:
    for text, odd in zip(texts, found(texts), strict=True):
        assert odd or text is None or unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize("before", [0, 1, STRIDE - 3, STRIDE - 2, STRIDE - 1, STRIDE, 5 * STRIDE])
@pytest.mark.parametrize("odd", ["e\u0301", "か\u3099", "\u2126", "𠀀\U0002f800"])
def test_one_character_is_found_wherever_it_is(before: int, odd: str) -> None:
    texts = ["a" * before + "b", "a" * before + odd, "中" * before, "中" * before + odd + "c" * 100, ""]
    assert found(texts) == [False, True, False, True, False]


def test_ordinary_text_is_not_looked_at_twice() -> None:
    texts = [
        "Plain.",
        "naïve “quotes” – and … dashes",
        "Việt Nam",
        "Привет, мир",
        "Καλημέρα κόσμε",
        "東京タワー、です。",
    ]
    assert not any(found([*texts, "中文，字符", "한국어 문장", "שלום עולם", "مرحبا بالعالم", "🎉👩‍🚀❤️", "x² ≤ ½ → ∞"]))


def test_slices() -> None:
    texts = pa.array(["e\u0301", "a", None, "e\u0301"], pa.large_string())
    assert may_not_be_normal(texts.slice(1, 3)).tolist() == [False, False, True]
    assert may_not_be_normal(texts.slice(4)).tolist() == []
