"""Placements: one tag at one offset of one document. They are the truth about where tags are.

A table of placements is sorted by row, then byte offset, then order. Offsets count from the start of the document, in
its untagged text. The kind of a placement says what is inserted there:

- `open`: the tag. It says what the text after it is like.
- `close`: its closing tag.
- `mark`: the tag. It says what the text before it, or around it, is like.
- `escape`: a backslash, so that text which happens to spell a tag is not read as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

KINDS = ("open", "close", "mark", "escape")
OPEN, CLOSE, MARK, ESCAPE = range(4)
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


def merge(placements: Sequence[pa.Table]) -> pa.Table:
    """Merge tables of placements. At one offset, those of an earlier table come first."""
    return _by_place(pa.concat_tables(placements).unify_dictionaries().combine_chunks())


def nest(outer: pa.Table, inner: pa.Table) -> pa.Table:
    """Put the tags of smaller spans inside those of larger ones: they open after these, and close before them."""
    table = pa.concat_tables([outer, inner]).unify_dictionaries().combine_chunks()
    kind = encoded(table["kind"])
    ends = np.isin(kind.indices.to_numpy(), [i for i, k in enumerate(kind.dictionary.to_pylist()) if k != "open"])
    inside = np.arange(table.num_rows) >= outer.num_rows
    turn = np.where(ends, 1 - inside, 2 + inside)  # at one place: what closes, inner before outer; then what opens
    return _by_place(table, turn)


def _by_place(table: pa.Table, *turn: Int64) -> pa.Table:
    """Sort by place, then by `turn` if it is given, then as they come; and count those at each place anew."""
    row, byte_offset = table["row"].to_numpy(), table["byte_offset"].to_numpy()
    return renumbered(table.take(np.lexsort((*turn, byte_offset, row))))  # stable


def renumbered(table: pa.Table) -> pa.Table:
    """Set `order` of sorted placements to their number at each place."""
    order = _order(table["row"].to_numpy(), table["byte_offset"].to_numpy())
    return table.set_column(table.column_names.index("order"), PLACEMENTS.field("order"), pa.array(order))


def encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """A column of strings, or of dictionaries of them, as one dictionary array."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    joined = column.unify_dictionaries().combine_chunks()
    return joined if isinstance(joined, pa.DictionaryArray) else joined.chunk(0)


def placements_of(row: Int64, offset: Int64, byte_offset: Int64, tags: pa.Array, kind: str) -> pa.Table:
    """Build a table of placements of one kind. All arrays are `[n]`, sorted by row, then byte offset."""
    names = tags.cast(pa.string()).dictionary_encode()
    kinds = np.full(len(row), KINDS.index(kind), np.int32)
    return placements_at(row, offset, byte_offset, names.indices.to_numpy(), names.dictionary, kinds)


def first_of_places(row: Int64, byte_offset: Int64) -> Int64:
    """The first placement at each place, which is one offset of one document. Both arrays are `[n]`, sorted."""
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (byte_offset[1:] != byte_offset[:-1])
    return np.flatnonzero(first)


def placements_at(
    row: Int64, offset: Int64, byte_offset: Int64, tag: Int32, names: Sequence[str] | pa.Array, kind: Int32
) -> pa.Table:
    """Build a table of placements. All arrays are `[n]`, sorted by row, then byte offset.

    A tag is given as its number in `names`, a kind as its number in `KINDS`.
    """
    return pa.Table.from_arrays(
        [
            pa.array(row, pa.int64()),
            pa.array(offset, pa.int64()),
            pa.array(byte_offset, pa.int64()),
            pa.array(_order(row, byte_offset)),
            pa.DictionaryArray.from_arrays(pa.array(tag), pa.array(names, pa.string())),
            pa.DictionaryArray.from_arrays(pa.array(kind), pa.array(KINDS)),
        ],
        schema=PLACEMENTS,
    )


def _order(row: Int64, byte_offset: Int64) -> npt.NDArray[np.int16]:
    """The number of each placement among those at its place, from 0."""
    first = first_of_places(row, byte_offset)
    step = np.ones(len(row), np.int16)
    step[first[1:]] -= np.diff(first).astype(np.int16)  # back to 0
    step[:1] = 0
    return np.cumsum(step, dtype=np.int16)
