"""Before which token of its document a place in the text is.

A place is the start of a span, and blanks before the first word may be part of the span. So a place is before the token
that holds the first character from the place on that is not blank. If that token also holds characters from before the
place that are not blank, the place is after the token: it has moved. If nothing but blanks follows, the place is before
the first token that starts there or later.

Blanks are what the splitter takes for blanks: ASCII blanks, U+2028, U+2029 and the ideographic space.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import compiled, constant, text_buffers
from annotate.errors import InputError
from annotate.tokens.encoding import TokenizedTexts, whole

Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def boundaries(
    encoded: TokenizedTexts, texts: pa.Array | pa.ChunkedArray, row: Int64, byte_offset: Int64
) -> tuple[Int64, Mask]:
    """Find the token before which each place is.

    Args:
        encoded: the tokens of the documents. If segments were tokenized by themselves, a place where a segment begins
            is before its first token, even if that is blank.
        texts: the documents that these are the tokens of.
        row: int64 `[m]`, the document of each place.
        byte_offset: int64 `[m]`, where in the document it is. Places are sorted by row, then byte offset.

    Returns:
        int64 `[m]`, ascending, the index of the token in `encoded`, or of the end of the document's tokens. And bool
        `[m]`, whether the place has moved past characters that are not blank.

    Raises:
        InputError: the places are not sorted, or one is outside its document. Names the row.
    """
    data, text_starts = text_buffers(whole(texts))
    _check(row, byte_offset, text_starts, encoded)
    index, moved = np.zeros(len(row), np.int64), np.zeros(len(row), np.bool_)
    _find(
        constant(row, np.int64),
        constant(byte_offset, np.int64),
        data,
        text_starts,
        constant(encoded.documents, np.int64),
        constant(encoded.starts, np.int64),
        constant(encoded.ends, np.int64),
        encoded.by_segment,
        index,
        moved,
    )
    return index, moved


def _check(row: Int64, byte_offset: Int64, text_starts: Int64, encoded: TokenizedTexts) -> None:
    n = len(text_starts) - 1
    if len(encoded.documents) != n + 1:
        raise InputError(f"there are {n} documents, but tokens of {len(encoded.documents) - 1}")
    same = row[1:] == row[:-1]
    if ((row[1:] < row[:-1]) | (same & (byte_offset[1:] < byte_offset[:-1]))).any():
        raise InputError("placements and spans must be sorted by row, then byte offset")
    if not len(row):
        return
    if not 0 <= row[0] <= row[-1] < n:
        raise InputError(f"placements or spans name the rows {row[0]} to {row[-1]}, but there are {n} documents")
    outside = (byte_offset < 0) | (byte_offset > np.diff(text_starts)[row])
    if outside.any():
        at = int(np.argmax(outside))
        raise InputError(
            f"the place at byte {byte_offset[at]} of row {row[at]} is outside of its document",
            hint="The placements were made for another text.",
        )


@compiled
def _find(
    row: Int64,
    byte_offset: Int64,
    text: Bytes,
    text_starts: Int64,
    documents: Int64,
    starts: Int64,
    ends: Int64,
    by_segment: bool,  # noqa: FBT001 - numba has no keyword-only arguments
    index: Int64,
    moved: Mask,
) -> None:
    document = np.int64(-1)
    begin = stop = place = word = before = token = exact = first = last = reach = np.int64(0)
    for i in range(len(row)):
        if row[i] != document:
            document = row[i]
            begin, stop = text_starts[document], text_starts[document + 1]
            first, last = documents[document], documents[document + 1]
            token = exact = first
            reach = np.int64(0)  # the farthest end so far: with a normalizer, ends need not ascend
            word = begin - 1
        place = begin + byte_offset[i]
        if by_segment:
            while exact < last and starts[exact] < byte_offset[i]:
                exact += 1
            if (
                exact < last
                and starts[exact] == byte_offset[i]
                and (exact == first or ends[exact - 1] <= starts[exact])
            ):
                index[i] = exact
                continue
        if word < place:  # else the same blanks are before the same word
            before = place  # end of the last character before the place that is not blank
            while before > begin:
                width = 0
                if text[before - 1] == 32 or 9 <= text[before - 1] <= 13:
                    width = 1
                elif before - begin >= 3 and _wide(text, before - 3):
                    width = 3
                if width == 0:
                    break
                before -= width
            word = place
            while word < stop:
                width = 0
                if text[word] == 32 or 9 <= text[word] <= 13:
                    width = 1
                elif word + 3 <= stop and _wide(text, word):
                    width = 3
                if width == 0:
                    break
                word += width
        if word < stop:
            while token < last:
                reach = max(reach, ends[token])
                if reach > word - begin:
                    break
                token += 1
            moved[i] = token < last and before > begin and starts[token] < before - begin
            index[i] = token + 1 if moved[i] else token
        else:
            while token < last and starts[token] < place - begin:
                token += 1
            index[i] = token
            moved[i] = token > first and ends[token - 1] > place - begin


@compiled
def _wide(text: Bytes, at: int) -> bool:
    """Whether U+2028, U+2029 or U+3000 begins there."""
    if text[at] == 0xE2:
        return text[at + 1] == 0x80 and (text[at + 2] == 0xA8 or text[at + 2] == 0xA9)
    return text[at] == 0xE3 and text[at + 1] == 0x80 and text[at + 2] == 0x80
