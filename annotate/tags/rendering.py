"""Rendering: lay placements into text, and take them out again by position.

An Arrow string array keeps all its documents in one UTF-8 buffer, and both functions work on that buffer. They cut it
where placements are, whatever document these are in, and join the pieces with what is inserted, in one pass. Where each
document then begins follows from the number of bytes that were inserted before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.tags.buffers import StringBuffers, slices, take_out
from annotate.tags.placements import encoded, first_of_places

Int64 = npt.NDArray[np.int64]
_EMPTY = pa.scalar(b"", pa.large_binary())


def render(texts: Any, placements: pa.Table) -> pa.LargeStringArray:
    """Insert what the placements say into the documents.

    Args:
        texts: the documents, `pa.Array` or `pa.ChunkedArray` of any string type; null documents stay null.
        placements: of the schema `annotate.tags.placements.PLACEMENTS`; `row` is the position in `texts`.

    Returns:
        large_string, one row a document.

    Raises:
        InputError: the placements are not sorted, or one is outside its document or inside a character. Names the row.
        ConfigError: a placement is of a kind that is not known.
    """
    documents = StringBuffers.of(texts)
    inserted = _Inserted.of(placements, documents)
    at = documents.starts[inserted.row] + inserted.byte_offset
    _check_inside(at <= documents.starts[inserted.row + 1], inserted)
    first = first_of_places(inserted.row, inserted.byte_offset)
    _check_whole(documents, at, first, inserted)
    # The text between two places is a piece. Before each piece comes what is inserted at the place before it.
    pieces = slices(documents.data, np.concatenate((documents.starts[:1], at[first], documents.starts[-1:])))
    before = slices(inserted.data, np.concatenate(([0], inserted.ends_before[first], inserted.ends_before[-1:])))
    joined = pc.binary_join_element_wise(before, pieces, _EMPTY)
    starts = documents.starts - documents.starts[0] + inserted.ends_before[inserted.first_of_row]
    return documents.with_data(joined.buffers()[2], starts)


def strip(tagged: Any, placements: pa.Table) -> pa.LargeStringArray:
    """Take the placements out, by position: the inverse of `render`, byte for byte.

    Args:
        tagged: what `render` gave, of any string type.
        placements: the same placements.

    Returns:
        large_string, one row a document.

    Raises:
        InputError: something else stands where a placement should be. Names the row.
        ConfigError: a placement is of a kind that is not known.
    """
    documents = StringBuffers.of(tagged)
    inserted = _Inserted.of(placements, documents)
    in_row = inserted.ends_before[:-1] - inserted.ends_before[inserted.first_of_row[inserted.row]]
    at = documents.starts[inserted.row] + inserted.byte_offset + in_row
    _check_inside(at + np.diff(inserted.ends_before) <= documents.starts[inserted.row + 1], inserted)
    first = first_of_places(inserted.row, inserted.byte_offset)
    lengths = np.diff(inserted.ends_before[first], append=inserted.ends_before[-1])
    taken = take_out(documents, at[first], at[first] + lengths, inserted.row[first])
    _check_same(taken.ranges, inserted)
    return taken.texts


@dataclass(frozen=True, kw_only=True)
class _Inserted:
    """What m placements insert, end to end: placement i inserts `data[ends_before[i]:ends_before[i + 1]]`."""

    row: Int64  # (m,)
    byte_offset: Int64  # (m,)
    data: pa.Buffer
    ends_before: Int64  # (m + 1,)
    first_of_row: Int64  # (n_documents + 1,), the first placement at or after each document

    @classmethod
    def of(cls, placements: pa.Table, documents: StringBuffers) -> _Inserted:
        row, byte_offset = placements["row"].to_numpy(), placements["byte_offset"].to_numpy()
        n = len(documents.starts) - 1
        same = row[1:] == row[:-1]
        if ((row[1:] < row[:-1]) | (same & (byte_offset[1:] < byte_offset[:-1]))).any():
            raise InputError("placements must be sorted by row, then byte offset.")
        if len(row) and not 0 <= row[0] <= row[-1] < n:
            raise InputError(f"placements name the rows {row[0]} to {row[-1]}, but there are {n} documents.")
        inserted = spelled(placements)
        this = cls(
            row=row,
            byte_offset=byte_offset,
            data=inserted.buffers()[2] or pa.py_buffer(b""),
            ends_before=np.frombuffer(inserted.buffers()[1], np.int64, len(row) + 1) if len(row) else np.zeros(1, int),
            first_of_row=np.searchsorted(row, np.arange(n + 1)),
        )
        _check_inside(byte_offset >= 0, this)
        if documents.nulls is not None and documents.nulls[row].any():
            raise InputError(f"a placement is in row {row[documents.nulls[row]][0]}, whose document is null.")
        return this


def spelled(placements: pa.Table) -> pa.LargeBinaryArray:
    """What each placement inserts, as UTF-8.

    Raises:
        ConfigError: a placement is of a kind that is not known.
    """
    tag, kind = (encoded(placements[name]) for name in ("tag", "kind"))
    names = tag.dictionary.to_pylist()
    table = pa.array([_spell(k, t) for k in kind.dictionary.to_pylist() for t in names], pa.large_binary())
    codes = kind.indices.to_numpy() * len(names) + tag.indices.to_numpy()
    return table.take(pa.array(codes))


def _spell(kind: str, tag: str) -> bytes:
    match kind:
        case "open" | "mark":
            return f"<{tag}>".encode()
        case "close":
            return f"</{tag}>".encode()
        case "escape":
            return b"\\"
    raise ConfigError(f"the kind of a placement must be 'open', 'close', 'mark' or 'escape', got {kind!r}.")


def _check_inside(inside: npt.NDArray[np.bool_], inserted: _Inserted) -> None:
    if not inside.all():
        at = int(np.argmin(inside))
        raise InputError(
            f"the placement at byte {inserted.byte_offset[at]} of row {inserted.row[at]} is outside of its document.",
            hint="The placements were made for another text. Render the text that they were made for.",
        )


def _check_whole(documents: StringBuffers, at: Int64, first: Int64, inserted: _Inserted) -> None:
    """Check that no place is inside a character, where the byte is a UTF-8 continuation byte, 10xxxxxx."""
    inner = first[at[first] < documents.starts[inserted.row[first] + 1]]
    split = (np.frombuffer(documents.data, np.uint8)[at[inner]] & 0xC0) == 0x80
    if split.any():
        which = int(inner[np.argmax(split)])
        raise InputError(
            f"the placement at byte {inserted.byte_offset[which]} of row {inserted.row[which]} is inside a character.",
            hint="The placements were made for another text. Render the text that they were made for.",
        )


def _check_same(found: pa.LargeBinaryArray, inserted: _Inserted) -> None:
    found_bytes = np.frombuffer(found.buffers()[2] or b"", np.uint8)
    expected = np.frombuffer(inserted.data, np.uint8)[: inserted.ends_before[-1]]
    if np.array_equal(found_bytes[: len(expected)], expected):
        return
    byte = int(np.argmax(found_bytes[: len(expected)] != expected))
    at = int(np.searchsorted(inserted.ends_before, byte, side="right")) - 1
    begin, end = inserted.ends_before[at : at + 2]
    raise InputError(
        f"row {inserted.row[at]} should hold {expected[begin:end].tobytes()!r} where the placement at byte "
        f"{inserted.byte_offset[at]} of its text is, but holds {found_bytes[begin:end].tobytes()!r}.",
        hint="The placements were made for another text. Render the text that they were made for.",
    )
