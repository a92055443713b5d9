"""Where the words of spans begin, for tags that stand inside a span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.tags.buffers import StringBuffers

Int64 = npt.NDArray[np.int64]
_BLANK = np.zeros(256, bool)
_BLANK[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True  # the ASCII characters at which `str.split` splits


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of spans, in the order of the text; all arrays int64 `[n_words]`.

    Attributes:
        span: the span that each word is in.
        number: of the word in its span, from 0.
        offset: where it begins in its span, in code points.
        byte_offset: where it begins in its span, in bytes of UTF-8.
    """

    span: Int64
    number: Int64
    offset: Int64
    byte_offset: Int64


def later_words(texts: pa.Array) -> Words:
    """The words of each span, without the first. A word is what stands between ASCII blanks.

    Args:
        texts: large_string `[n_spans]`, without nulls.
    """
    documents = StringBuffers.of(texts)
    starts = documents.starts
    data = np.frombuffer(documents.data, np.uint8)[starts[0] : starts[-1]]
    starts = starts - starts[0]
    blank = _BLANK[data]
    begins = ~blank
    begins[1:] &= blank[:-1]
    begins[starts[:-1][np.diff(starts) > 0]] = ~blank[starts[:-1][np.diff(starts) > 0]]  # a word ends with its span
    at = np.flatnonzero(begins)
    span = np.searchsorted(starts, at, side="right") - 1
    first = np.searchsorted(span, np.arange(len(starts) - 1))
    number = np.arange(len(at)) - first[span]
    later = number > 0
    at, span, number = at[later], span[later], number[later]
    # The code points before a word: the bytes before it that begin a character.
    places = np.unique(np.concatenate([starts, at]))
    leads = ((data & 0xC0) != 0x80).astype(np.int64)
    counts = np.append(0, np.cumsum(np.add.reduceat(leads, places[places < len(data)]))) if len(data) else np.zeros(1)
    points = counts[np.searchsorted(places, at)] - counts[np.searchsorted(places, starts[span])]
    return Words(span=span, number=number, offset=points.astype(np.int64), byte_offset=at - starts[span])
