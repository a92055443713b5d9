"""Columns that come in chunks, as one array."""

from __future__ import annotations

import pyarrow as pa


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array; `combine_chunks` would copy even a single chunk."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def large_string(texts: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """One large_string array from texts of any string type; copies only if it must."""
    # Cast before chunks are combined: 32-bit offsets end at 2 GB.
    return one_array(texts if texts.type == pa.large_string() else texts.cast(pa.large_string()))
