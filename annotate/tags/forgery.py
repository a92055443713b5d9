r"""Text that happens to spell a tag: finding it, and escaping it so that nothing but a placement makes a tag.

An escape is a placement like any other: a backslash after the `<` of `<nice>`, which then reads `<\nice>`. Taking the
placements out gives the document back, byte for byte. No name of a tag has `<`, `>` or a backslash in it. So spellings
never overlap, an escaped text spells no tag, and an inserted tag does not complete one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.tags.buffers import StringBuffers, slices
from annotate.tags.placements import placements_of
from annotate.text.arrays import large_string


def spells_a_tag(texts: Any, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which documents hold the spelling of a tag: bool `[n]`, false for null documents.

    Args:
        texts: the documents, `pa.Array` or `pa.ChunkedArray` of any string type.
        names: all that can be between angle brackets.
    """
    found = pc.match_substring_regex(large_string(texts), _pattern(names))
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)


def escape_placements(texts: Any, names: Sequence[str]) -> pa.Table:
    """Place an escape into each spelling of a tag in the documents. `tag` is the tag that is spelled.

    Args:
        texts: the documents, `pa.Array` or `pa.ChunkedArray` of any string type.
        names: all that can be between angle brackets.

    Returns:
        Placements of kind `escape`, of the schema `annotate.tags.placements.PLACEMENTS`.
    """
    array = large_string(texts)
    rows = np.flatnonzero(spells_a_tag(array, names))
    few = StringBuffers.of(array.take(pa.array(rows)))
    data = memoryview(few.data)
    found = [(m.start(), m.end()) for m in re.finditer(_pattern(names).encode(), data)]
    start, end = np.array(found, np.int64).reshape(-1, 2).T
    document = np.searchsorted(few.starts, start, side="right") - 1
    whole = end <= few.starts[document + 1]  # no tag is spelled across two documents
    start, end, document = start[whole], end[whole], document[whole]
    # The code points before each place: those of all pieces between places and starts of documents, summed.
    cuts = np.sort(np.concatenate((few.starts, start + 1)))
    points = np.concatenate(([0], np.cumsum(pc.utf8_length(slices(few.data, cuts).cast(pa.large_string())).to_numpy())))
    offset = points[np.searchsorted(cuts, start + 1)] - points[np.searchsorted(cuts, few.starts[document])]
    spelled = [bytes(data[a + 1 : b - 1]).decode() for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    byte_offset = start + 1 - few.starts[document]
    return placements_of(rows[document], offset, byte_offset, pa.array(spelled, pa.string()), "escape")


def _pattern(names: Sequence[str]) -> str:
    return f"<(?:{'|'.join(re.escape(name) for name in names)})>"
