"""Documents laid end to end in one byte buffer, so that a kernel sees half a megabyte at a time and no rows.

A byte that UTF-8 never uses stands between two documents and at both ends. Kernels treat it as they treat a blank line,
which is why no rule can look from one document into the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import InputError

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SEPARATOR = 0xFF
MARGIN = (
    16  # separators at both ends of a page: a window of up to this many bytes round a document never leaves the page
)
PAGE_BYTES = 1 << 19  # temporaries of a larger page leave the processor's cache and the allocator's arena


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some neighbouring documents of an array.

    Attributes:
        buffer: uint8, the documents with a separator after each, and `MARGIN` separators at both ends.
        starts: int64 `[n_documents]`, where each document begins in `buffer`.
        ends: int64 `[n_documents]`, one past the last byte of each; a null is an empty document.
        first: position in the array of the first document.
    """

    buffer: Bytes
    starts: Positions
    ends: Positions
    first: int


def pages(texts: pa.Array | pa.ChunkedArray, page_bytes: int = PAGE_BYTES) -> Iterator[Page]:
    """Lay the documents out in pages of about `page_bytes`; a longer document makes a longer page.

    Args:
        texts: string or large_string; the bytes need not be valid UTF-8.
        page_bytes: a page ends with the first document that reaches this many bytes.

    Raises:
        InputError: `texts` is not text.
    """
    require_text(texts)
    first = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        # Through binary, because filling and joining must not mind bytes that are not UTF-8.
        documents = chunk.cast(pa.large_binary()).fill_null(b"")
        ends = np.cumsum(pc.binary_length(documents).to_numpy(zero_copy_only=False))
        done = 0
        while done < len(documents):
            reached = (ends[done - 1] if done else 0) + page_bytes
            stop = min(int(np.searchsorted(ends, reached)) + 1, len(documents))
            yield _page(documents.slice(done, stop - done), first + done)
            done = stop
        first += len(chunk)


def _page(documents: pa.LargeBinaryArray, first: int) -> Page:
    margin = pa.array([bytes([SEPARATOR]) * (MARGIN - 1)], pa.large_binary())
    parts = pa.concat_arrays([margin, documents, margin])
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(parts)], pa.int64()), parts)
    joined = pc.binary_join(whole, pa.scalar(bytes([SEPARATOR]), pa.large_binary()))
    lengths = pc.binary_length(documents).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths + 1) + (MARGIN - 1)
    return Page(
        buffer=np.frombuffer(joined.buffers()[2], np.uint8, count=int(ends[-1]) + MARGIN),
        starts=ends - lengths,
        ends=ends,
        first=first,
    )


def windows(buffer: Bytes, positions: Positions, offsets: range) -> Bytes:
    """Read the bytes at the same offsets from each position.

    Returns:
        uint8 `[len(offsets), n]`, so that rules work on whole rows.
    """
    read: Bytes = buffer[positions + np.array(offsets)[:, None]]
    return read


def require_text(texts: pa.Array | pa.ChunkedArray) -> None:
    """Check that an array is string or large_string.

    Raises:
        InputError: it is not.
    """
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise InputError(f"texts must be string or large_string, not {texts.type}", hint="cast the column first")
