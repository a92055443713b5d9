"""The token files of OLMo-core: memmaps without a header, with a label mask and document boundaries beside each.

Layout: https://github.com/allenai/OLMo-core, src/olmo_core/data (numpy_dataset.py, utils.py). The files end in `.npy`
because OLMo-core expects it, and have no header: `numpy.load` refuses them, `numpy.fromfile` reads them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv

from annotate.exports.base import TARGET_ALIGNED, File, Format, little_endian
from annotate.exports.windows import Vocabulary, Windows


@dataclass(frozen=True, kw_only=True)
class Olmo(Format):
    """Three files a part.

    `tokens/part-00000.npy` has the tokens, in the smallest of uint8, uint16 and uint32 that holds the ids;
    `tokens/part-00000.csv.gz` a line `start,end,document row,piece` for each segment; `label_mask/part-00000.npy` a
    bool for each token.

    When OLMo-core reads windows, it finds documents by their end token. So a piece without an end token is taken for
    one document with the piece after it. The manifest counts such pieces (`segments_without_eos`).
    """

    name: ClassVar[str] = "olmo"
    reader: ClassVar[str] = "olmo_core.data.NumpyFSLDataset"
    mask_alignment: ClassVar[str] = TARGET_ALIGNED

    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """The type that `NumpyDatasetConfig.get_dtype` chooses."""
        return np.dtype(next(d for d in (np.uint8, np.uint16, np.uint32) if vocabulary.size - 1 <= np.iinfo(d).max))

    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The three files of a part."""
        yield File(f"tokens/part-{number:05d}.npy", little_endian(windows.tokens, self.token_dtype(vocabulary)))
        ends = windows.segment_ends
        columns = [ends - windows.segments, ends, windows.documents, windows.pieces]
        bounds = pa.table(columns, names=["start", "end", "document", "piece"])
        lines = pa.BufferOutputStream()
        pyarrow.csv.write_csv(bounds, lines, pyarrow.csv.WriteOptions(include_header=False))
        packed = gzip.compress(lines.getvalue(), 6, mtime=0)
        yield File(f"tokens/part-{number:05d}.csv.gz", packed)
        yield File(f"label_mask/part-{number:05d}.npy", little_endian(windows.mask, np.uint8))

    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded."""
        return (
            "`NumpyFSLDatasetConfig(paths=[FOLDER/tokens/*.npy], label_mask_paths=[FOLDER/label_mask/*.npy], "
            f"expand_glob=True, sequence_length={width or '...'}, generate_doc_lengths=True, "
            f"dtype='{self.token_dtype(vocabulary)}', ...)`, with eos_token_id={vocabulary.eos} and "
            f"pad_token_id={vocabulary.pad} in its tokenizer. OLMo-core reads the masks itself.\n"
            "The files have no header, in spite of their name: `numpy.fromfile` reads them, `numpy.load` doesn't.\n"
        )
