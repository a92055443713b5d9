"""Placements: one tag at one offset of one document, the truth about where tags are.

A table of placements is sorted by row, then byte offset, then order. Offsets count from the start of the document, in
its untagged text. What a placement inserts there follows from its kind: `open` the tag, `escape` a backslash that keeps
text which happens to spell a tag from being read as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.tags.scheme import TagScheme

Scores = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

KINDS = ("open", "escape")
NAME = pa.dictionary(pa.int32(), pa.string())
PLACEMENTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # code points
        pa.field("byte_offset", pa.int64(), nullable=False),  # UTF-8
        pa.field("order", pa.int16(), nullable=False),  # among the placements at one offset, from 0
        pa.field("tag", NAME, nullable=False),
        pa.field("kind", NAME, nullable=False),
    ]
)


def place(
    spans: pa.Table,
    scores: Mapping[str, Scores],
    scheme: TagScheme,
    thresholds: Mapping[tuple[str, float], float | np.float32],
    curves: Mapping[str, Curve] | None = None,
) -> pa.Table:
    """Place a tag at the start of each span for which its rule holds, in the order of the scheme.

    Args:
        spans: columns `row`, `start`, `byte_start` (int64), one row a span, sorted by row, then start.
        scores: float32 `[n_spans]` by axis, NaN where there is none.
        scheme: the tags.
        thresholds: raw score by (axis, q), for all of `scheme.quantiles`.
        curves: probability curve by axis, for all of `scheme.curves`.

    Returns:
        Placements of kind `open`, as `PLACEMENTS` says.

    Raises:
        ConfigError: an axis, a threshold or a curve is missing, or an axis has not one score a span.
    """
    holds = _holds(spans.num_rows, scores, scheme, thresholds, curves or {})  # (n_spans, n_tags)
    span, tag = np.divmod(np.flatnonzero(holds), len(scheme.tags))  # np.nonzero, four times as fast
    row, offset, byte_offset = (spans[name].to_numpy()[span] for name in ("row", "start", "byte_start"))
    names = [tag.name for tag in scheme.tags]
    return _table(row, offset, byte_offset, pa.array(tag.astype(np.int32)), names, "open")


def merge(placements: Sequence[pa.Table]) -> pa.Table:
    """Merge tables of placements; at one offset those of an earlier table come first."""
    table = pa.concat_tables(placements).unify_dictionaries().combine_chunks()
    row, byte_offset = table["row"].to_numpy(), table["byte_offset"].to_numpy()
    table = table.take(np.lexsort((byte_offset, row)))  # stable
    order = _order(table["row"].to_numpy(), table["byte_offset"].to_numpy())
    return table.set_column(table.column_names.index("order"), PLACEMENTS.field("order"), pa.array(order))


def placements_of(row: Int64, offset: Int64, byte_offset: Int64, tags: pa.Array, kind: str) -> pa.Table:
    """Build a table of placements of one kind; all arguments `[n]`, sorted by row, then byte offset."""
    encoded = tags.cast(pa.string()).dictionary_encode()
    return _table(row, offset, byte_offset, encoded.indices, encoded.dictionary, kind)


def first_of_places(row: Int64, byte_offset: Int64) -> Int64:
    """The first placement of each place, a place being one offset of one document; both arguments `[n]`, sorted."""
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (byte_offset[1:] != byte_offset[:-1])
    return np.flatnonzero(first)


def _holds(
    n: int,
    scores: Mapping[str, Scores],
    scheme: TagScheme,
    thresholds: Mapping[tuple[str, float], float | np.float32],
    curves: Mapping[str, Curve],
) -> npt.NDArray[np.bool_]:
    columns: dict[str, pl.Series] = {}
    for axis in {axis for tag in scheme.tags for axis in tag.parsed.axes}:
        if axis not in scores:
            raise ConfigError(f"a rule reads the axis {axis!r}; axes scored: {', '.join(sorted(scores)) or 'none'}.")
        if scores[axis].shape != (n,) or scores[axis].dtype != np.float32:
            raise ConfigError(f"axis {axis!r} needs float32 [{n}], got {scores[axis].dtype} {scores[axis].shape}.")
        columns[axis] = pl.Series(axis, scores[axis])
    for axis in scheme.curves:
        if axis not in curves:
            raise ConfigError(
                f"a rule reads p({axis}), but no probability curve is fitted for {axis!r}.",
                hint=f"fit one on labels, or compare the raw score with a quantile: `{axis} >= q(0.7)`.",
            )
        columns[f"p:{axis}"] = pl.Series(f"p:{axis}", curves[axis].probability(scores[axis]))
    rules = [tag.parsed.expression(thresholds).alias(str(i)) for i, tag in enumerate(scheme.tags)]
    # A rule that is always false is one value, not a column: with_columns gives it its n rows.
    held = pl.DataFrame({"span": np.arange(n), **columns}).with_columns(rules)
    return np.stack([held[str(i)].to_numpy() for i in range(len(rules))], axis=1)


def _table(
    row: Int64, offset: Int64, byte_offset: Int64, tag: pa.Array, names: Sequence[str] | pa.Array, kind: str
) -> pa.Table:
    kinds = pa.array(np.full(len(row), KINDS.index(kind), np.int32))
    return pa.Table.from_arrays(
        [
            pa.array(row, pa.int64()),
            pa.array(offset, pa.int64()),
            pa.array(byte_offset, pa.int64()),
            pa.array(_order(row, byte_offset)),
            pa.DictionaryArray.from_arrays(tag, pa.array(names, pa.string())),
            pa.DictionaryArray.from_arrays(kinds, pa.array(KINDS)),
        ],
        schema=PLACEMENTS,
    )


def _order(row: Int64, byte_offset: Int64) -> npt.NDArray[np.int16]:
    """Position of each placement among those at its place."""
    first = first_of_places(row, byte_offset)
    step = np.ones(len(row), np.int16)
    step[first[1:]] -= np.diff(first).astype(np.int16)  # back to 0
    step[:1] = 0
    return np.cumsum(step, dtype=np.int16)
