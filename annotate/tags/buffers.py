"""What an Arrow string array is made of: one buffer of UTF-8, and offsets into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.text.arrays import large_string

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StringBuffers:
    """A string array as its buffers: document i is `data[starts[i] : starts[i + 1]]`.

    Attributes:
        data: the UTF-8 of all documents. The array has the same memory.
        starts: int64 `[n + 1]`, where each document begins. The first is not 0 where the array is a slice.
        nulls: bool `[n]`, which documents are null; None: none is.
    """

    data: pa.Buffer
    starts: Int64
    nulls: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, texts: Any) -> StringBuffers:
        """View a `pa.Array` or `pa.ChunkedArray` of any string type. Copies unless it is one large_string array."""
        array = large_string(texts)
        _, offsets, data = array.buffers()
        empty = np.zeros(1, np.int64)
        return cls(
            data=data or pa.py_buffer(b""),
            starts=np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8) if len(array) else empty,
            nulls=array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None,
        )

    def with_data(self, data: pa.Buffer | None, starts: Int64) -> pa.LargeStringArray:
        """The same documents with other text; those that are null stay null."""
        known = None if self.nulls is None else pa.py_buffer(np.packbits(~self.nulls, bitorder="little"))
        buffers = [known, pa.py_buffer(starts), data or pa.py_buffer(b"")]
        return pa.Array.from_buffers(pa.large_string(), len(starts) - 1, buffers)


@dataclass(frozen=True, kw_only=True)
class TakenOut:
    """What `take_out` gives: the texts without the ranges, and the ranges themselves."""

    texts: pa.LargeStringArray
    ranges: pa.LargeBinaryArray


def take_out(documents: StringBuffers, begins: Int64, ends: Int64, row: Int64) -> TakenOut:
    """Take byte ranges out of documents. The bytes that stay are copied once.

    Args:
        documents: the documents.
        begins: int64 `[m]`, ascending, where each range begins in `documents.data`.
        ends: int64 `[m]`, where it ends: not after the next one begins.
        row: int64 `[m]`, the document that it is in.
    """
    edges = np.stack((begins, ends), axis=1).ravel()  # text, range, text, range, ..., text
    pieces = slices(documents.data, np.concatenate((documents.starts[:1], edges, documents.starts[-1:])))
    text = pieces.take(np.arange(0, len(pieces), 2))
    gone = np.concatenate(([0], np.cumsum(ends - begins)))
    before = gone[np.searchsorted(row, np.arange(len(documents.starts)))]
    return TakenOut(
        texts=documents.with_data(text.buffers()[2], documents.starts - documents.starts[0] - before),
        ranges=pieces.take(np.arange(1, len(pieces), 2)),
    )


def slices(data: pa.Buffer, offsets: Int64) -> pa.LargeBinaryArray:
    """Cut a buffer at ascending offsets, int64 `[n + 1]`, into n pieces, which have the same memory."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), data]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
