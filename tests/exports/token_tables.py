"""Token tables: drawn by Hypothesis, or one fixed table, small enough to be read."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from annotate.exports.windows import Vocabulary

PAD, EOS = 0, 1
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.uint8())),
        ("position_ids", pa.list_(pa.int32())),
        ("segment_lengths", pa.list_(pa.int32())),
        ("document_rows", pa.list_(pa.int64())),
        ("document_pieces", pa.list_(pa.int32())),
    ]
)


def vocabulary(size=1000, tokenizer="test/tokenizer"):
    return Vocabulary(tokenizer=tokenizer, size=size, eos=EOS, pad=PAD)


def window(pieces, width, draw_mask, row):
    """One row, of pieces of ids, padded to `width` (None: as long as it is)."""
    ids = [token for piece in pieces for token in piece]
    pad = 0 if width is None else width - len(ids)
    return {
        "input_ids": ids + [PAD] * pad,
        "loss_mask": [int(draw_mask(i)) for i in range(len(ids))] + [0] * pad,
        "position_ids": [i for piece in pieces for i in range(len(piece))] + list(range(pad)),
        "segment_lengths": [len(piece) for piece in pieces],
        "document_rows": [row + i for i in range(len(pieces))],
        "document_pieces": [(row + i) % 3 for i in range(len(pieces))],
    }


def to_table(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@st.composite
def token_tables(draw, size=1000):
    """A table, whose windows have one width or are not padded, of ids below `size`."""
    windows = draw(
        st.lists(
            st.lists(st.lists(st.integers(2, size - 1), min_size=1, max_size=7), min_size=1, max_size=4),
            min_size=1,
            max_size=6,
        )
    )
    longest = max(sum(map(len, pieces)) for pieces in windows)
    width = longest + draw(st.integers(0, 3)) if draw(st.booleans()) else None
    seed = draw(st.integers(0, 1 << 32))
    bits = np.random.default_rng(seed).integers(0, 2, (len(windows), longest))
    ends = draw(st.booleans())
    rows = []
    for i, pieces in enumerate(windows):
        pieces = [[*piece[:-1], EOS] if ends else piece for piece in pieces]
        rows.append(window(pieces, width, lambda j, i=i: bits[i, j], 10 * i))
    return to_table(rows)


def example(windows=8, width=16, size=1000, seed=0):
    """A fixed table: windows of one width, of two or three documents each, mostly with some padding."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(windows):
        lengths = draw.integers(2, width // 3, 3)
        pieces = [[*draw.integers(2, size, n - 1).tolist(), EOS] for n in lengths]
        rows.append(window(pieces, width, lambda j: draw.integers(0, 3) > 0, 3 * i))
    return to_table(rows)


def of_phase(table, phase):
    """A token table whose windows are all of one phase."""
    return table.append_column("phase", pa.repeat(pa.scalar(phase, pa.string()), table.num_rows))
