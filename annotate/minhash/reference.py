"""What a signature is, in plain Python: `kernel.py` must give the same values, and anyone can check it with datasketch.

    MinHash.bulk([shingles(text, 5) for text in texts], num_perm=128, seed=1, hashfunc=shingle_hash, scheme="affine32")

A text is put in Unicode's normal form C and its runs of blanks are folded to one space, none at the ends. Its tokens
are words; in scripts that put no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) each
character is a token. A shingle is the folded text from the start of a token to the end of the one n - 1 further on.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Tokens = Literal["words", "characters"]
Scheme = Literal["affine32", "legacy"]  # datasketch's names for the permutations
MASK = (1 << 64) - 1
BASE = 0x9E3779B97F4A7C15
HIGH_BASE, LOW_BASE = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
UNSPACED = (
    (0x0E01, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3001, 0x30FF),  # marks of Chinese and Japanese, kana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFF9F),  # wide forms, halfwidth kana
    (0x20000, 0x3FFFF),
)
"""Code points, first and last, that are tokens by themselves."""
_UNSPACED = "".join(f"{chr(low)}-{chr(high)}" for low, high in UNSPACED)
_TOKEN = re.compile(f"[{_UNSPACED}]|[^ {_UNSPACED}]+")


def folded(text: str) -> str:
    """Normal form C with runs of blanks as one space: texts that fold alike are exact copies."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def shingles(text: str, n: int, tokens: Tokens = "words") -> list[bytes]:
    """The shingles of n tokens of a text, in order; none for a text of fewer tokens."""
    text = folded(text)
    pattern = _TOKEN if tokens == "words" else re.compile(".")
    spans = [match.span() for match in pattern.finditer(text)]
    pairs = zip(spans, spans[n - 1 :], strict=False)
    return [text[first[0] : last[1]].encode() for first, last in pairs]


def rolling_hash(data: bytes) -> int:
    """The polynomial sum((byte_i + 1) * BASE ** (len - 1 - i)) modulo 2**64 (Karp and Rabin 1987).

    That of a substring follows from those of two prefixes, which is what makes shingling fast.
    """
    value = 0
    for byte in data:
        value = (value * BASE + byte + 1) & MASK
    return value


def shingle_hash(data: bytes) -> int:
    """The hash of a shingle, 32 bits; pass it to datasketch as `hashfunc`.

    The upper half of the finished rolling hash.
    """
    return fmix64(rolling_hash(data)) >> 32


def exact_hash(text: str) -> tuple[int, int]:
    """128 bits that exact copies share: two hashes of the folded text's words of 8 bytes, and of its length.

    The rolling hash would not do: modulo 2**64 there are texts of 2 kB on which polynomials collide whatever the base
    (the sequence of Thue and Morse, and its complement). These two turn their bits, so they have no such structure.
    """
    data = folded(text).encode()
    padded = data + bytes(-len(data) % 8)
    words = [int.from_bytes(padded[i : i + 8], "little") for i in range(0, len(padded), 8)]
    high = low = 0
    for word in [*words, len(data)]:
        high = (((high << 23 | high >> 41) & MASK) ^ word) * HIGH_BASE & MASK
        low = (((low << 23 | low >> 41) & MASK) ^ word) * LOW_BASE & MASK
    return fmix64(high), fmix64(low)


def fmix64(value: int) -> int:
    """The finaliser of 64-bit MurmurHash3, but for its last step."""
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & MASK
    value ^= value >> 33
    return value * 0xC4CEB9FE1A85EC53 & MASK
