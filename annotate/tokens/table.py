"""Packed windows as a table of tokens: one row a window, what trainers and exports read."""

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


def token_table(
    packed: Packed,
    mask: npt.NDArray[np.uint8],
    *,
    rows: npt.NDArray[np.int64] | None = None,
    spans: pa.Table | None = None,
    scores: Mapping[str, npt.NDArray[np.float32]] | None = None,
    padded: bool = True,
) -> pa.Table:
    """Make the table of tokens.

    Args:
        packed: the windows.
        mask: uint8 `[n_windows, window]`, as `loss_mask` gives it.
        rows: int64 `[n_documents]`, the corpus row of each document; None: its number.
        spans: the spans that `insert` got, where `span_ids` are wanted.
        scores: float32 `[n_spans]` by axis, for a column `scores_<axis>` each.
        padded: whether all rows are as long as the window; without, a row has its tokens alone.

    Returns:
        `input_ids` (list<int32>), `loss_mask` (list<uint8>), `position_ids` (list<int32>), `segment_lengths`
        (list<int32>), `document_rows` (list<int64>, one a segment), `document_pieces` (list<int32>, the number of each
        segment among those of its document); `span_ids` (list<int32>, number of the span in its document, -1 for what
        is not text) and `scores_<axis>` (list<float32>, NaN there) where they are asked for.

    Raises:
        ConfigError: span ids or scores are asked for, but `insert` was given no spans.
    """
    if (spans is not None or scores) and packed.spans is None:
        raise ConfigError("span_ids and scores need the spans of tokens", hint="give `insert` the spans")
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
    return pa.table(columns)


def _by_window(values: npt.NDArray[Any], chosen: npt.NDArray[np.bool_] | None) -> pa.ListArray:
    """One list a window: of all its places, or of those chosen."""
    n, window = values.shape
    if chosen is None:
        return _lists(np.arange(n + 1) * window, values.ravel())
    return _lists(np.append(0, np.cumsum(chosen.sum(axis=1))), values[chosen])


def _lists(offsets: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> pa.ListArray:
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ConfigError(
            f"a table of tokens holds at most {np.iinfo(np.int32).max:,} of them, not {offsets[-1]:,}",
            hint="pack fewer documents at a time",
        )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
