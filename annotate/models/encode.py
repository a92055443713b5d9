"""Texts become token ids, cut to the model's window."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers.models import Unigram

from annotate.tally import phase

IntArray = npt.NDArray[np.int32]

_NO_CHARACTER = "\U0010fffe"

CHARACTERS_PER_TOKEN = 100
"""A text is cut at this many characters a token of the window before it is tokenized: a 50 MB document costs no more
than any other that does not fit. English has four to five."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of `n` inputs, one after the other.

    Attributes:
        ids: int32 `[sum(lengths)]`.
        lengths: int32 `[n]`.
        truncated: bool `[n]`, whether the input did not fit.
        unknown: bool `[n]`, whether half of the input's tokens or more stand for what the vocabulary lacks; special
            tokens don't count.
        types: uint8 `[sum(lengths)]`, 1 in the second part of a pair, or None where no input has one.
        context_cut: bool `[n]`, whether what is read before the text did not fit, or None where nothing is.
        unfit: by input, why it can't be scored.
    """

    ids: IntArray
    lengths: IntArray
    truncated: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.bool_]
    types: npt.NDArray[np.uint8] | None = None
    context_cut: npt.NDArray[np.bool_] | None = None
    unfit: Mapping[int, str] = field(default_factory=dict)

    def cut(self, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> Encoded:
        """The same, with contexts and texts that were cut already."""
        context = before if self.context_cut is None else self.context_cut | before
        return replace(self, truncated=self.truncated | after, context_cut=context)

    def without(self, unfit: Mapping[int, str]) -> Encoded:
        """The same, with inputs that can't be scored."""
        return replace(self, unfit=unfit)


def text_list(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """A text column as Python strings, null as the empty string."""
    return ["" if text is None else text for text in column.to_pylist()]


@phase("tokenize")
def encode(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int | None,
    *,
    pairs: Sequence[str] | None = None,
    special: bool = True,
    types: bool = False,
) -> Encoded:
    """Tokenize in one batch with a fast tokenizer, cutting what is longer than `max_length` tokens.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; its truncation is set, its padding switched off.
        texts: the inputs, or the first parts of pairs.
        max_length: in tokens, special ones included; None: nothing is cut.
        pairs: the second parts of pairs.
        special: whether to add the special tokens that the model expects.
        types: whether the model wants to be told which part of a pair a token is in.
    """
    parts = [texts] if pairs is None else [texts, pairs]
    truncated = np.zeros(len(texts), np.bool_)
    if max_length is not None:
        longest = CHARACTERS_PER_TOKEN * max_length
        for part in parts:
            truncated |= np.fromiter((len(text) > longest for text in part), np.bool_, len(part))
        if truncated.any():
            parts = [[text[:longest] for text in part] for part in parts]
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    inputs = parts[0] if pairs is None else list(zip(*parts, strict=True))
    encodings = tokenizer.encode_batch_fast(inputs, add_special_tokens=special)
    rows = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, rows), np.int32, len(rows))
    ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum()))
    for i in np.flatnonzero(lengths == max_length):
        truncated[i] |= bool(encodings[i].overflowing)
    parts_of = None
    if types:
        parts_of = np.fromiter(itertools.chain.from_iterable(e.type_ids for e in encodings), np.uint8, len(ids))
    around = tokenizer.num_special_tokens_to_add(pairs is not None) if special else 0
    unknown = _mostly_unknown(ids, lengths, unknown_id(tokenizer), around)
    unknown &= np.fromiter((bool(text.strip()) for text in parts[-1]), np.bool_, len(texts))
    return Encoded(ids=ids, lengths=lengths, truncated=truncated, unknown=unknown, types=parts_of)


def unknown_id(tokenizer: Any) -> int | None:
    """The token that stands for what the vocabulary of a `tokenizers.Tokenizer` lacks, if there is one."""
    found: int | None
    if isinstance(tokenizer.model, Unigram):
        # It does not name the token, but gives it to a character that is in no text.
        try:
            found = next((token.id for token in tokenizer.model.tokenize(_NO_CHARACTER)), None)
        except Exception:
            found = None
        return found
    token = getattr(tokenizer.model, "unk_token", None)
    found = None if token is None else tokenizer.token_to_id(token)
    return found


def _mostly_unknown(ids: IntArray, lengths: IntArray, unknown: int | None, around: int) -> npt.NDArray[np.bool_]:
    """Which inputs have only `around` special tokens, or half of their other tokens or more unknown."""
    ends = np.cumsum(lengths, dtype=np.int64)
    counts = np.zeros(len(lengths), np.int64)
    if unknown is not None and len(at := np.flatnonzero(ids == unknown)):
        counts += np.bincount(np.searchsorted(ends, at, side="right"), minlength=len(lengths))
    return 2 * counts >= lengths - around
