"""Packed windows as a table, one row a window: what trainers and exports read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.tokens.insertion import span_numbers, token_scores
from annotate.tokens.kinds import PADDING
from annotate.tokens.packing import Packed
from annotate.tokens.teacher import TeacherTokens


def token_table(
    packed: Packed,
    mask: npt.NDArray[np.uint8],
    *,
    rows: npt.NDArray[np.int64] | None = None,
    spans: pa.Table | None = None,
    scores: Mapping[str, npt.NDArray[np.float32]] | None = None,
    teacher: tuple[TeacherTokens, npt.NDArray[np.int64]] | None = None,
    padded: bool = True,
) -> pa.Table:
    """Make the table of tokens.

    Args:
        packed: the windows.
        mask: uint8 `[n_windows, window]`, from `loss_mask`.
        rows: int64 `[n_documents]`, the row of each document in the corpus. None: its number.
        spans: the spans that `insert` was given, for the column `span_ids`. None: no such column.
        scores: float32 `[n_spans]` by axis; each becomes a column `scores_<axis>`.
        teacher: a teacher's tokens, and which of them has its distribution in the place of each token: int64
            `[n_windows, window]`, -1 for none. None: no such columns.
        padded: whether all rows are as long as the window. Without, a row ends with its last token.

    Returns:
        A table with these columns. A value a token: `input_ids` (list<int32>), `loss_mask` (list<uint8>),
        `position_ids` (list<int32>). A value a segment: `segment_lengths` (list<int32>), `document_rows` (list<int64>),
        `document_pieces` (list<int32>, the number of the segment among those of its document). If asked for, a value a
        token: `span_ids` (list<int32>, the number of the span in its document, -1 for what is not text) and
        `scores_<axis>` (list<float32>, NaN for what is not text); and `k` values a token, all in one list:
        `teacher_top_tokens` (list<int32>, -1 for none) and `teacher_top_logprobs` (list<float32>, NaN for none).

    Raises:
        ConfigError: span ids or scores are asked for, but `insert` was given no spans.
    """
    if (spans is not None or scores) and packed.spans is None:
        raise ConfigError("span_ids and scores need the spans of tokens", hint="Give `insert` the spans.")
    chosen = None if padded else packed.kinds != PADDING
    documents = packed.documents if rows is None else rows[packed.documents]
    columns = {
        "input_ids": _by_window(packed.ids, chosen),
        "loss_mask": _by_window(mask, chosen),
        "position_ids": _by_window(packed.positions, chosen),
        "segment_lengths": _lists(packed.segments, packed.lengths),
        "document_rows": _lists(packed.segments, documents),
        "document_pieces": _lists(packed.segments, packed.pieces),
    }
    if spans is not None and packed.spans is not None:
        columns["span_ids"] = _by_window(span_numbers(packed.spans, spans), chosen)
    for axis, of_spans in (scores or {}).items():
        if packed.spans is not None:
            columns[f"scores_{axis}"] = _by_window(token_scores(packed.spans, of_spans), chosen)
    if teacher is not None:
        found, places = teacher
        for name, values, none in (
            ("teacher_top_tokens", found.top_tokens, np.int32(-1)),
            ("teacher_top_logprobs", found.top_logprobs, np.float32(np.nan)),
        ):
            columns[name] = _by_window(_taken(values, places, none), chosen)
    return pa.table(columns)


def _taken(values: npt.NDArray[Any], places: npt.NDArray[np.int64], none: np.generic) -> npt.NDArray[Any]:
    """The `k` values at each place, `none` where it is -1: `[n_windows, window, k]`. No other copy is made of them."""
    found = np.full((*places.shape, values.shape[1]), none)
    if len(values):
        np.take(values, places, axis=0, out=found, mode="clip")  # -1 reads the first
        found[places < 0] = none
    return found


def _by_window(values: npt.NDArray[Any], chosen: npt.NDArray[np.bool_] | None) -> pa.ListArray:
    """A list for each window, of the values of all its tokens or of those chosen: one a token, or `k`."""
    n, window, *k = values.shape
    each = k[0] if k else 1
    if chosen is None:
        return _lists(np.arange(n + 1) * window * each, values.ravel())
    return _lists(np.append(0, np.cumsum(chosen.sum(axis=1))) * each, values[chosen].ravel())


def _lists(offsets: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> pa.ListArray:
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ConfigError(
            f"a table of tokens holds at most {np.iinfo(np.int32).max:,} of them, not {offsets[-1]:,}",
            hint="Pack fewer documents at a time: a smaller part_bytes of the shards.",
        )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
