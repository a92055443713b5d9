"""Inputs are sorted by length and cut into batches; batches are read with padding.

Batches are a function of the span table and the settings, never of the machine: so they, and with them the bytes of
scores, are the same wherever a unit runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annotate.models.base import Prepared
from annotate.models.encode import Encoded, IntArray

Side = Literal["left", "right"]

BATCH_TOKENS = 2048
"""Default token budget of a batch; on two cores MiniLM gave 8.9k tokens/s with it, and 7.0k with 8,192."""


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
class PaddedBatch:
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

    def longest(self, start: int, stop: int) -> int:
        """Tokens of the longest of rows `start` to `stop`."""
        return int(self.lengths(start, stop).max())

    def lengths(self, start: int, stop: int) -> IntArray:
        """Tokens of each of rows `start` to `stop`: int32 `[rows]`."""
        lengths: IntArray = self.arrays["lengths"][start:stop]
        return lengths

    def tokens(self, start: int, stop: int) -> IntArray:
        """The token ids of rows `start` to `stop`, one row after the other: int32, flat."""
        ids: IntArray = self.arrays["ids"][self._flat(start, stop)]
        return ids

    def _flat(self, start: int, stop: int) -> slice:
        """Where the tokens of rows `start` to `stop` are in flat arrays."""
        return slice(self._offsets[start], self._offsets[stop])

    def read(self, start: int, stop: int) -> PaddedBatch:
        """Rows `start` to `stop`, padded to the longest of them."""
        lengths = self.lengths(start, stop).astype(np.int64)
        width = max(1, int(lengths.max()))
        starts = width - lengths if self.side == "left" else np.zeros_like(lengths)
        filled = None
        if int(lengths.min()) < width:
            places = np.arange(width) - starts[:, None]
            filled = (places >= 0) & (places < lengths[:, None])
        types = self.arrays.get("types")
        return PaddedBatch(
            ids=_pad(self.tokens(start, stop), filled, width, self.pad_id),
            lengths=lengths,
            starts=starts,
            mask=None if filled is None else filled.astype(np.int64),
            types=None if types is None else _pad(types[self._flat(start, stop)], filled, width, 0),
        )


def _pad(flat: npt.NDArray[Any], filled: npt.NDArray[np.bool_] | None, width: int, value: int) -> npt.NDArray[np.int64]:
    if filled is None:
        return flat.reshape(-1, width).astype(np.int64)
    rows = np.full(filled.shape, value, np.int64)
    rows[filled] = flat
    return rows
