"""Columns that come in chunks as one array, and lines as lists of the rows that they are of."""

from __future__ import annotations

import numpy as np
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


def lists_by_row(table: pa.Table, rows: int) -> pa.ListArray:
    """The lines of a table as lists of structs, one list for each row that they are of: list<struct> `[rows]`.

    Args:
        table: a column `row` (int64, from 0, rising), and those of the structs.
        rows: lists to make; one of a row without lines is empty.
    """
    names = [name for name in table.column_names if name != "row"]
    values = pa.StructArray.from_arrays([one_array(table[name]) for name in names], names=names)
    ends = np.searchsorted(table["row"].to_numpy(), np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), values)


def held_bytes(table: pa.Table) -> int:
    """Bytes that the values of a table take in memory: those of a message that holds them.

    Equal values give equal sums, however they come in chunks; `nbytes` does not promise that.
    """
    return sum(map(pa.ipc.get_record_batch_size, table.combine_chunks().to_batches()))


def beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """The columns of two tables of as many rows; the right one may have no column."""
    return pa.table([*left.columns, *right.columns], names=[*left.column_names, *right.column_names])
