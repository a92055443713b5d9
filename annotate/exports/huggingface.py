"""Parquet for Hugging Face `datasets`, with labels that a Transformers model takes as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from annotate.errors import ConfigError
from annotate.exports.base import TARGET_ALIGNED, File, Format
from annotate.exports.windows import PER_SEGMENT, PER_TOKEN, Vocabulary, Windows

IGNORED = -100
"""A label that no loss counts: `ignore_index` of torch's cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Format):
    """One Parquet file a part, one row a window.

    Columns: `input_ids`, `labels` (-100 where the mask is 0; aligned with `input_ids`, since the models shift),
    `position_ids` (from 0 in each segment), `loss_mask`, `seq_lengths` (of the segments, without padding),
    `document_rows`, `document_pieces`, and the other columns of the token table, as they are. If all windows are of one
    width, their lists are fixed-size lists.

    There is no `attention_mask`. Padding is at the end of a window and has no label, so a causal model needs none; and
    with one, Transformers would not find packed segments by `position_ids`.

    Attributes:
        row_group: how many windows a row group has. Whoever reads one of them reads all.
    """

    row_group: int = 1000

    name: ClassVar[str] = "huggingface"
    reader: ClassVar[str] = "datasets.load_dataset"
    mask_alignment: ClassVar[str] = f"{TARGET_ALIGNED}; labels are input_ids, {IGNORED} where it is 0, not shifted"

    def __post_init__(self) -> None:
        if self.row_group < 1:
            raise ConfigError(f"row_group must be at least 1 window, got {self.row_group}")

    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """int32, whatever the vocabulary."""
        del vocabulary
        return np.dtype(np.int32)

    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The file of a part."""
        del vocabulary
        sink = pa.BufferOutputStream()
        pq.write_table(
            shard_table(windows),
            sink,
            row_group_size=self.row_group,
            compression="zstd",
            use_dictionary=False,  # ids repeat too little in a window
            write_statistics=False,  # of no use in lists
        )
        yield File(f"data/train-{number:05d}.parquet", memoryview(sink.getvalue()).cast("B"))

    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded."""
        del vocabulary, width
        return (
            '`datasets.load_dataset(FOLDER, split="train", streaming=True)`. Give `input_ids`, `labels` and '
            "`position_ids` to the model, and no `attention_mask`. `seq_lengths` are the lengths of the pieces of "
            "documents in a window, for attention of variable length; they leave out the padding.\n"
        )

    def front_matter(self) -> str:
        """Says which files are data, since `manifest.json` is none."""
        return "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n"


def shard_table(windows: Windows) -> pa.Table:
    """The windows as a table, as the Parquet file has them."""
    columns = {
        "input_ids": _lists(windows, windows.tokens),
        "labels": _lists(windows, np.where(windows.mask == 1, windows.tokens, np.int32(IGNORED))),
        "position_ids": _lists(windows, windows.positions),
        "loss_mask": _lists(windows, windows.mask),
        "seq_lengths": _segment_lists(windows, windows.segments.astype(np.int32)),
        "document_rows": _segment_lists(windows, windows.documents),
        "document_pieces": _segment_lists(windows, windows.pieces),
    }
    known = {*PER_TOKEN, *PER_SEGMENT}
    return pa.table(columns | {name: windows.table[name] for name in windows.table.column_names if name not in known})


def _lists(windows: Windows, values: NDArray[Any]) -> pa.Array:
    if windows.width is not None:
        return pa.FixedSizeListArray.from_arrays(pa.array(values), windows.width)
    return pa.LargeListArray.from_arrays(pa.array(windows.starts), pa.array(values))


def _segment_lists(windows: Windows, values: NDArray[Any]) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(windows.firsts.astype(np.int32)), pa.array(values))
