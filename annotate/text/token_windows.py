"""Splits into spans of a fixed number of tokens. The windows of token shards are cut in `annotate.tokens.packing`."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from annotate.errors import ConfigError
from annotate.text.blanks import BlankRuns
from annotate.text.pages import Page, Positions
from annotate.text.utf8 import byte_offsets, code_point_offsets
from annotate.tokenizer_file import CONVERT, FILE, instead_of_file, parse_file


def tokenizer_file_hash(path: str) -> str:
    """SHA-256 of a tokenizer.json, in hex.

    Raises:
        ConfigError: there is no such file.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def load_tokenizer_file(path: str) -> Tokenizer:
    """Load a tokenizer.json, or the one in a directory, without truncation or padding.

    Raises:
        ConfigError: there is no such file, or it is not a tokenizer.
    """
    return _parsed(path, _read(path))


def window_cuts(page: Page, gaps: BlankRuns, tokenizer: Tokenizer, tokens: int, blanks: str) -> Positions:
    """Cut the documents of a page after every `tokens` tokens.

    The cut is at the start of the next window's first token. Blanks that no token covers go where `blanks` says; with
    "previous", so do those that this token begins with, unless it is nothing but blanks. Where a code point is more
    than one token, the cut moves to its start.

    Returns:
        int64, ascending positions in the page, each inside a document.
    """
    buffer = page.buffer.tobytes()
    texts = [buffer[start:end].decode() for start, end in zip(page.starts, page.ends, strict=True)]
    document, before, start, end = [], [], [], []
    for row, encoding in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
        offsets = encoding.offsets
        for first in range(tokens, len(offsets), tokens):
            document.append(row)
            before.append(offsets[first - 1][1])
            start.append(offsets[first][0])
            end.append(offsets[first][1])
    if not document:
        return np.zeros(0, np.int64)
    origin = code_point_offsets(page.buffer, page.starts)[document]
    previous_end, begin, token_end = (
        _sorted_byte_offsets(page, origin + np.array(points, np.int64)) for points in (before, start, end)
    )
    # The gap that the cut touches with its end, or lies in.
    gap = np.searchsorted(gaps.starts, begin, "left") - 1
    cuts = np.where(gaps.ends[gap] >= begin, np.minimum(np.maximum(gaps.starts[gap], previous_end), begin), begin)
    if blanks == "previous":
        gap = np.searchsorted(gaps.starts, begin, "right") - 1
        cuts = np.where((gaps.ends[gap] > begin) & (gaps.ends[gap] < token_end), gaps.ends[gap], begin)
    rows = np.array(document)
    return np.unique(cuts[(cuts > page.starts[rows]) & (cuts < page.ends[rows])])


def _sorted_byte_offsets(page: Page, code_points: Positions) -> Positions:
    # A normalizer may put tokens out of order, and the mapping wants them ascending.
    distinct, inverse = np.unique(code_points, return_inverse=True)
    return byte_offsets(page.buffer, distinct)[inverse]


def _read(path: str) -> bytes:
    there = instead_of_file(Path(path))
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"tokenizer {path!r} cannot be read: {there or error.strerror}",
            hint=CONVERT if there else "name a tokenizer.json or a directory that holds one",
        ) from error


@lru_cache(maxsize=4)
def _parsed(path: str, content: bytes) -> Tokenizer:
    return parse_file(f"tokenizer {path!r}", content)
