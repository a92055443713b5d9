"""What every text model's `prepare` does: drop repeats, tokenize, sort by length, cut batches.

All of it is a function of the span table and the settings, never of the machine, so that batches, and with them the
bytes of scores, are the same wherever a unit runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from tokenizers.models import Unigram

from annotate.errors import ConfigError
from annotate.models.base import Prepared

IntArray = npt.NDArray[np.int32]
Side = Literal["left", "right"]

_NO_CHARACTER = "\U0010fffe"

BATCH_TOKENS = 2048
"""Default token budget of a batch; on two cores MiniLM gave 8.9k tokens/s with it, and 7.0k with 8,192."""

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
        unknown: bool `[n]`, whether the vocabulary lacks half of the input or more, special tokens not counted.
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


def drop_repeats(spans: pa.Table, columns: Sequence[str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Keep the first of each distinct combination of `columns`, in order of first appearance.

    Returns:
        The distinct rows, of these columns only, and int64 `[n_spans]`: the distinct row of each span.

    Raises:
        ConfigError: a column is missing.
    """
    missing = [name for name in columns if name not in spans.column_names]
    if missing:
        raise ConfigError(
            f"the spans have no column {missing[0]!r}; they have {spans.column_names}",
            hint="name a column that the corpus has, or leave it out of the scorer",
        )
    key = np.zeros(spans.num_rows, np.int64)
    for name in columns:
        codes = _codes(spans.column(name))
        # Codes of the combination so far stay below n, so the product fits.
        key = _first_appearance(key * (int(codes.max(initial=0)) + 1) + codes)[1]
    first, inverse = _first_appearance(key)
    return spans.select(list(columns)).take(pa.array(first)), inverse


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Numbers from 0 to n - 1 that are equal where the values are, nulls among themselves: int64 `[n]`."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # Each text gets the first row that has it. Polars compares texts where they are: 5 MiB for 8 MiB of different
        # texts, where a dictionary takes 37. As bytes, since a corpus column may hold some that are not valid UTF-8.
        texts = pl.DataFrame({"text": pl.from_arrow(column.cast(pa.large_binary()))}).with_row_index("first")
        return texts.select(pl.col("first").min().over("text")).to_series().to_numpy().astype(np.int64)
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        try:
            values = values.dictionary_encode(null_encoding="encode")
        except pa.ArrowNotImplementedError:
            # Lists and structs of a corpus can't be compared: each row is its own.
            return np.arange(len(column))
    return np.asarray(values.indices.fill_null(len(values.dictionary)), np.int64)


def _first_appearance(key: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The row where each distinct key first appears, ascending, and each row's position in that list."""
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), rank[inverse]


def text_list(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """A text column as Python strings, null as the empty string."""
    return ["" if text is None else text for text in column.to_pylist()]


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
    if isinstance(tokenizer.model, Unigram):  # it does not tell, but gives it to a character that no text has
        try:
            found = next((token.id for token in tokenizer.model.tokenize(_NO_CHARACTER)), None)
        except Exception:
            found = None
        return found
    token = getattr(tokenizer.model, "unk_token", None)
    found = None if token is None else tokenizer.token_to_id(token)
    return found


def _mostly_unknown(ids: IntArray, lengths: IntArray, unknown: int | None, around: int) -> npt.NDArray[np.bool_]:
    """Which inputs have nothing but `around` special tokens, or stand for the unknown by half of the others or more."""
    ends = np.cumsum(lengths, dtype=np.int64)
    counts = np.zeros(len(lengths), np.int64)
    if unknown is not None and len(at := np.flatnonzero(ids == unknown)):
        counts += np.bincount(np.searchsorted(ends, at, side="right"), minlength=len(lengths))
    return 2 * counts >= lengths - around


def sort_and_batch(
    encoded: Encoded, inverse: npt.NDArray[np.int64], batch_tokens: int, **extra: npt.NDArray[np.generic]
) -> Prepared:
    """Order inputs by length (ties: first appearance) and cut batches whose padded size keeps to `batch_tokens`.

    Args:
        encoded: the distinct inputs.
        inverse: int64 `[n_spans]`, the distinct input of each span.
        batch_tokens: rows times longest row of a batch; a batch has one row at least.
        extra: more arrays, one value a distinct input; they are put in the same order.

    Returns:
        `arrays` has `ids` (int32, flat), `lengths` (int32 `[n]`), `order` (int64 `[n]`, the distinct input of each
        row), `bounds` (int64 `[n_batches + 1]`, first row of each batch), and `types` (uint8, flat) where there are
        pairs.
    """
    lengths = encoded.lengths
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    rows = lengths[order]
    offsets = np.cumsum(rows, dtype=np.int64) - rows
    gather = np.arange(len(encoded.ids)) + np.repeat(starts[order] - offsets, rows)
    arrays: dict[str, Any] = {
        "ids": encoded.ids[gather],
        "lengths": rows,
        "order": order,
        "bounds": cut_batches(rows, batch_tokens),
        **{name: values[order] for name, values in extra.items()},
    }
    if encoded.types is not None and encoded.types.any():
        arrays["types"] = encoded.types[gather]
    return Prepared(
        arrays=arrays,
        inverse=inverse,
        distinct=len(lengths),
        tokens=len(encoded.ids),
        truncated=encoded.truncated[inverse],
        context_cut=None if encoded.context_cut is None else encoded.context_cut[inverse],
        unfit=encoded.unfit,
        unknown=encoded.unknown[inverse],
    )


def cut_batches(lengths: IntArray, batch_tokens: int) -> npt.NDArray[np.int64]:
    """First row of each batch of ascending `lengths`, and the number of rows at the end."""
    bounds = [0]
    while (start := bounds[-1]) < len(lengths):
        window = lengths[start : start + max(1, batch_tokens // max(1, int(lengths[start])))].astype(np.int64)
        padded = window * np.arange(1, len(window) + 1)
        bounds.append(start + max(1, int(np.searchsorted(padded, batch_tokens, side="right"))))
    return np.array(bounds, np.int64)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of the prepared arrays, padded to one length.

    Attributes:
        ids: int64 `[rows, longest]`.
        lengths: int64 `[rows]`.
        starts: int64 `[rows]`, where the first token of each row is: 0 unless padding is on the left.
        mask: int64 `[rows, longest]`, 1 at tokens, or None where nothing is padded.
        types: int64 `[rows, longest]`, or None where no input is a pair.
    """

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64] | None
    types: npt.NDArray[np.int64] | None


class Batches:
    """Reads batches from what `sort_and_batch` made; row ranges may be cut further."""

    def __init__(self, prepared: Prepared, pad_id: int, side: Side = "right") -> None:
        self.arrays = prepared.arrays
        self.pad_id = pad_id
        self.side = side
        self._offsets = np.concatenate([[0], np.cumsum(self.arrays["lengths"], dtype=np.int64)])

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First row and end of each batch."""
        bounds = self.arrays["bounds"].tolist()
        return itertools.pairwise(bounds)

    def read(self, start: int, stop: int) -> Batch:
        """Rows `start` to `stop`, padded to the longest of them."""
        lengths = self.arrays["lengths"][start:stop].astype(np.int64)
        tokens = slice(self._offsets[start], self._offsets[stop])
        width = max(1, int(lengths.max()))
        starts = width - lengths if self.side == "left" else np.zeros_like(lengths)
        filled = None
        if int(lengths.min()) < width:
            places = np.arange(width) - starts[:, None]
            filled = (places >= 0) & (places < lengths[:, None])
        types = self.arrays.get("types")
        return Batch(
            ids=_pad(self.arrays["ids"][tokens], filled, width, self.pad_id),
            lengths=lengths,
            starts=starts,
            mask=None if filled is None else filled.astype(np.int64),
            types=None if types is None else _pad(types[tokens], filled, width, 0),
        )


def _pad(flat: npt.NDArray[Any], filled: npt.NDArray[np.bool_] | None, width: int, value: int) -> npt.NDArray[np.int64]:
    if filled is None:
        return flat.reshape(-1, width).astype(np.int64)
    rows = np.full(filled.shape, value, np.int64)
    rows[filled] = flat
    return rows
