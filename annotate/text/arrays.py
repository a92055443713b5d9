"""Arrow columns and tables: chunks as one array, lines as lists by row, the memory that they take."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


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
    """Group the lines of a table by the row that each names: list<struct> `[rows]`.

    Args:
        table: a column `row` (int64, from 0, ascending), and those of the structs.
        rows: number of lists; a row without lines has an empty one.
    """
    names = [name for name in table.column_names if name != "row"]
    values = pa.StructArray.from_arrays([one_array(table[name]) for name in names], names=names)
    ends = np.searchsorted(table["row"].to_numpy(), np.arange(rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), values)


def joined(left: pa.Array | str, right: pa.Array, *, between: str = "") -> pa.LargeStringArray:
    """Two arrays of large_string, or a text and an array, end to end; null where one is."""
    kind = pa.large_string()
    first = pa.scalar(left, kind) if isinstance(left, str) else left
    return pc.binary_join_element_wise(first, right, pa.scalar(between, kind))


def where(mask: pa.Array, values: pa.Array) -> pa.Array:
    """Values where `mask` is true, else null."""
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def held_bytes(table: pa.Table) -> int:
    """Bytes that the values of a table take in memory, counted as in an Arrow IPC message.

    Equal values give equal sums, however they come in chunks; `nbytes` does not promise that.
    """
    return sum(map(pa.ipc.get_record_batch_size, table.combine_chunks().to_batches()))


def pieces(table: pa.Table, size: int) -> list[pa.Table]:
    """Slices of about equally many rows, of about `size` bytes each if the rows are about equally large."""
    n = -(-held_bytes(table) // max(1, size))
    edges = np.linspace(0, table.num_rows, max(1, min(n, table.num_rows)) + 1).astype(np.int64).tolist()
    return [table.slice(start, stop - start) for start, stop in itertools.pairwise(edges)]


def beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """Put the columns of two tables side by side. They have as many rows; the right one may have no column."""
    return pa.table([*left.columns, *right.columns], names=[*left.column_names, *right.column_names])
