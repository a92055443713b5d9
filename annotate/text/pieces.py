"""Very long documents in pieces, so that splitting one takes memory for a piece and not for the document."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PIECE_BYTES = 4 << 20

# A blank line with a word right before it and right after it, where every unit ends. Wide blanks, joiners and combining
# marks beside it would need a closer look: a line with one before it, or with a rare script after it, is passed over.
_BLANK_LINE = re.compile(
    rb"[^ \t\n\v\f\r](?<!\xe3\x80\x80)(?<!\xe2\x80[\xa8\xa9\x8d])"
    rb"(\r?\n\r?\n)(?=[!-~\xc3\xd0\xd1\xe4-\xe9\xeb-\xed]|\xe3[\x81\x83])"
)


def long_documents(texts: pa.Array | pa.ChunkedArray) -> list[int]:
    """Rows of the documents that are worth cutting into pieces."""
    size = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    return [int(row) for row in np.flatnonzero(size > 2 * PIECE_BYTES)]


def in_pieces(document: pa.StringScalar | pa.LargeStringScalar, *, before_blanks: bool) -> pa.LargeStringArray:
    """Cut a document at the first blank line after every `PIECE_BYTES`, where there is one.

    Args:
        document: text that is not null.
        before_blanks: whether blanks at a cut begin the next piece or end the one before.

    Returns:
        large_string, views of the document's own bytes.
    """
    buffer = document.as_buffer()
    offsets = [0]
    while match := _BLANK_LINE.search(buffer, offsets[-1] + PIECE_BYTES):
        offsets.append(match.start(1) if before_blanks else match.end(1))
    offsets.append(buffer.size)
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(np.array(offsets, np.int64)), buffer)
