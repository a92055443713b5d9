"""From documents to tokens: their ids, and which bytes of the document each token stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.compiled import text_buffers
from annotate.errors import ConfigError, InputError
from annotate.text.arrays import large_string
from annotate.text.pages import require_text
from annotate.text.utf8 import is_continuation
from annotate.tokens.losses import dropped_characters, letters_of, missing_letters
from annotate.tokens.spelling import Spelling
from annotate.tokens.tokenizer import backend_of
from annotate.unforgeable import Twin, unforgeable

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

BATCH_BYTES = 1 << 20
"""How much text the library gets at a time. In its own form a token takes a hundred bytes and more."""


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """The tokens of n documents.

    Attributes:
        ids: int32 `[n_tokens]`.
        documents: int64 `[n + 1]`, the first token of each document, and `n_tokens` as the last.
        starts: int64 `[n_tokens]`, the first byte of the document that a token stands for. Blanks are part of it.
        ends: int64 `[n_tokens]`, one past the last byte. Of tokens that share a character, as with byte fallback, each
            may have the range of the whole character.
        unknown: int64 `[n]`, how many tokens of each document stand for what the vocabulary does not have.
        dropped: int64 `[n]`, how many characters of each document no token stands for. Blanks don't count.
        by_segment: whether each segment of a document was tokenized by itself.
        tokenized_twice: how many documents were tokenized a second time, to find offsets.
    """

    ids: Int32
    documents: Int64
    starts: Int64
    ends: Int64
    unknown: Int64
    dropped: Int64
    by_segment: bool = False
    tokenized_twice: int = 0


class TextTokenizer:
    """Tokenizes whole documents. What spells a special token or a tag is ordinary text.

    Args:
        tokenizer: a fast tokenizer of Transformers, or a `tokenizers.Tokenizer`. It is not changed.

    Raises:
        ConfigError: the tokenizer is no fast one, or some text gets a special token from it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.twin: Twin = unforgeable(backend_of(tokenizer))
        for spelled in self.twin.spellings:
            for text in (spelled, f"a{spelled}b", f" {spelled} "):
                if self.twin.special[self.twin.tokenizer.encode(text, add_special_tokens=False).ids].any():
                    raise ConfigError(
                        f"text that spells {spelled!r} gets the special token from this tokenizer",
                        hint="Use a tokenizer whose special tokens are not words of its vocabulary.",
                    )

    @cached_property
    def _letters(self) -> Int64 | None:
        """How many characters each id has, where that tells what the tokenizer drops."""
        return letters_of(self.twin.made, len(self.twin.special))

    @cached_property
    def spelling(self) -> Spelling | None:
        """The bytes of each id, if the tokenizer is a byte-level one."""
        return Spelling.of(self.twin)

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> TokenizedTexts:
        """Tokenize documents, without special tokens.

        Args:
            texts: string or large_string `[n]`, valid UTF-8. A null document has no tokens.

        Raises:
            InputError: `texts` is not text, or a document got a special token all the same. Names the row.
        """
        array = whole(texts)
        parts = [self._encode(array.slice(first, stop - first), first) for first, stop in _batches(array)]
        return _joined(parts)

    def encode_segments(self, texts: pa.Array | pa.ChunkedArray, segments: pa.Table) -> TokenizedTexts:
        """Tokenize each segment by itself, as the code of Korbak et al. 2023 does, so that no token spans two segments.

        The tokens of a document may then be others than those of the whole document.

        Args:
            texts: string or large_string `[n]`, valid UTF-8.
            segments: columns `row`, `byte_start`, `byte_end` (int64), sorted. Those of a document tile it.

        Raises:
            InputError: as `encode`; or the segments do not tile their documents. Names the row.
        """
        array = whole(texts)
        data, text_starts = text_buffers(array)
        row, begin, end = (segments[name].to_numpy() for name in ("row", "byte_start", "byte_end"))
        _check_tiled(row, begin, end, np.diff(text_starts))
        cuts = np.append(text_starts[row] + begin, text_starts[-1:])
        buffers = [None, pa.py_buffer(np.ascontiguousarray(cuts)), pa.py_buffer(data)]
        encoded = self.encode(pa.Array.from_buffers(pa.large_string(), len(row), buffers))
        lengths = np.diff(encoded.documents)
        shift = np.repeat(begin, lengths)
        return TokenizedTexts(
            ids=encoded.ids,
            documents=encoded.documents[np.searchsorted(row, np.arange(len(array) + 1))],
            starts=encoded.starts + shift,
            ends=encoded.ends + shift,
            unknown=_summed(encoded.unknown, row, len(array)),
            dropped=_summed(encoded.dropped, row, len(array)),
            by_segment=True,
            tokenized_twice=encoded.tokenized_twice,
        )

    def _encode(self, texts: pa.LargeStringArray, first: int) -> TokenizedTexts:
        """Tokenize one batch, whose first document is row `first`."""
        strings = texts.to_pylist()
        if self.spelling is None:
            encoded = self._with_offsets(texts, strings)
        else:
            encoded = self._by_spelling(texts, strings, self.spelling)
        special = self.twin.special[encoded.ids]
        if special.any():
            row = int(np.searchsorted(encoded.documents, np.argmax(special), side="right")) - 1
            raise InputError(
                f"the text of row {first + row} gets a special token from this tokenizer",
                hint="The document spells a name that stands for a special token. Leave the document out.",
            )
        return encoded

    def _by_spelling(self, texts: pa.LargeStringArray, strings: list[str], spelling: Spelling) -> TokenizedTexts:
        encodings = self.twin.tokenizer.encode_batch_fast(strings, add_special_tokens=False)
        ids, documents = _ids(encodings)
        data, text_starts = text_buffers(texts)
        starts, ends, spelled = spelling.offsets(ids, documents, data, text_starts)
        dropped = np.zeros(len(spelled), np.int64)
        if spelled.all():
            return self._counted(ids, documents, starts, ends, dropped)
        # The few documents that a normalizer has changed: the library gives their offsets. Ids are the same.
        rows = np.flatnonzero(~spelled)
        again = self._with_offsets(texts.take(pa.array(rows)), [strings[row] for row in rows])
        tokens = np.repeat(~spelled, np.diff(documents))
        if not np.array_equal(ids[tokens], again.ids):
            raise InputError(f"the tokenizer gives row {rows[0]} or a later one other tokens when asked for offsets")
        starts[tokens], ends[tokens] = again.starts, again.ends
        # Where some bytes of a character are dropped, the tokens of the other bytes have the range of all of it.
        dropped[rows] = np.maximum(again.dropped, spelling.shortened(ids, documents, text_starts)[rows])
        return self._counted(ids, documents, starts, ends, dropped, tokenized_twice=len(rows))

    def _with_offsets(self, texts: pa.LargeStringArray, strings: list[str]) -> TokenizedTexts:
        encodings = self.twin.tokenizer.encode_batch(strings, add_special_tokens=False)
        ids, documents = _ids(encodings)
        flat = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        points = np.fromiter(flat, np.int64, 2 * len(ids)).reshape(-1, 2)
        data, text_starts = text_buffers(texts)
        used = data[text_starts[0] : text_starts[-1]]
        origin = np.repeat(text_starts[:-1] - text_starts[0], np.diff(documents))
        if len(used) and used.max() >= 0x80:
            begins = np.append(np.flatnonzero(~is_continuation(used)), len(used))
            first = np.searchsorted(begins, origin)
            starts, ends = (begins[first + points[:, side]] - origin for side in (0, 1))
        else:
            starts, ends = points.T.copy()
        if self._letters is not None:
            cleaned = text_buffers(self._normalized(texts, strings))
            dropped = missing_letters(ids, documents, self._letters, *cleaned)
        else:
            composed = self.twin.made["normalizer"] is not None
            dropped = dropped_characters(starts, ends, documents, data, text_starts, composed=composed)
        return self._counted(ids, documents, starts, ends, dropped)

    def _normalized(self, texts: pa.LargeStringArray, strings: list[str]) -> pa.LargeStringArray:
        normalizer = self.twin.tokenizer.normalizer
        if normalizer is None:
            return texts
        return pa.array([normalizer.normalize_str(text) for text in strings], pa.large_string())

    def _counted(
        self, ids: Int32, documents: Int64, starts: Int64, ends: Int64, dropped: Int64, *, tokenized_twice: int = 0
    ) -> TokenizedTexts:
        unknown = np.zeros(len(documents) - 1, np.int64)
        if self.twin.unknown is not None and len(at := np.flatnonzero(ids == self.twin.unknown)):
            unknown += np.bincount(np.searchsorted(documents, at, side="right") - 1, minlength=len(unknown))
        return TokenizedTexts(
            ids=ids,
            documents=documents,
            starts=starts,
            ends=ends,
            unknown=unknown,
            dropped=dropped,
            tokenized_twice=tokenized_twice,
        )


def spells(texts: pa.Array | pa.ChunkedArray, spellings: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which documents hold one of the spellings: bool `[n]`, false for null documents."""
    if not spellings:
        return np.zeros(len(texts), np.bool_)
    found = pc.match_substring_regex(whole(texts), "|".join(map(re.escape, spellings)))
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)


def whole(texts: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """Texts of any string type, in chunks or not, as one large_string array. A null becomes an empty text.

    Raises:
        InputError: `texts` is not text.
    """
    require_text(texts)
    texts = large_string(texts)
    return texts.fill_null("") if texts.null_count else texts


def _batches(texts: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """The first document and the end of each batch: about `BATCH_BYTES` of text, or one longer document."""
    starts = text_buffers(texts)[1]
    first = 0
    while first < len(texts):
        within = int(np.searchsorted(starts, starts[first] + BATCH_BYTES, side="right")) - 1
        stop = max(within, first + 1)
        yield first, stop
        first = stop


def _ids(encodings: Sequence[Any]) -> tuple[Int32, Int64]:
    """All ids, end to end, and where each document begins."""
    documents = np.zeros(len(encodings) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encodings), np.int64, len(encodings)), out=documents[1:])
    # One iterator over all: an array for each document, and joining these, took a quarter longer.
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, int(documents[-1]))
    return ids, documents


def _joined(parts: Sequence[TokenizedTexts]) -> TokenizedTexts:
    if len(parts) == 1:
        return parts[0]
    lengths = [np.zeros(1, np.int64), *(np.diff(part.documents) for part in parts)]
    none = np.zeros(0, int)
    empty = TokenizedTexts(
        ids=np.zeros(0, np.int32), documents=np.zeros(1, int), starts=none, ends=none, unknown=none, dropped=none
    )
    parts = [empty, *parts]
    return TokenizedTexts(
        ids=np.concatenate([part.ids for part in parts]),
        documents=np.cumsum(np.concatenate(lengths)),
        starts=np.concatenate([part.starts for part in parts]),
        ends=np.concatenate([part.ends for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
        dropped=np.concatenate([part.dropped for part in parts]),
        tokenized_twice=sum(part.tokenized_twice for part in parts),
    )


def _summed(counts: Int64, row: Int64, n: int) -> Int64:
    """Sum counts of segments by document."""
    summed = np.zeros(n, np.int64)
    np.add.at(summed, row, counts)
    return summed


def _check_tiled(row: Int64, begin: Int64, end: Int64, sizes: Int64) -> None:
    """Check that segments are sorted by row, and that those of each document tile it."""
    first = np.ones(len(row), np.bool_)
    first[1:] = row[1:] != row[:-1]
    last = np.append(first[1:], np.ones(min(len(row), 1), np.bool_))
    wrong = (begin != np.where(first, 0, np.append(0, end[:-1])[: len(row)])) | (end < begin)
    wrong[1:] |= row[1:] < row[:-1]
    inside = (row >= 0) & (row < len(sizes))
    wrong |= ~inside
    wrong |= last & (end != sizes[np.where(inside, row, 0)]) if len(sizes) else True
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"segments must tile their documents in order; the one at byte {begin[at]} of row {row[at]} does not"
        )
    without = np.flatnonzero((sizes > 0) & ~np.isin(np.arange(len(sizes)), row))
    if len(without):
        raise InputError(f"segments must tile their documents, but row {without[0]} has none")
