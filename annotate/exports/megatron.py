"""The `.bin/.idx` pairs of Megatron-LM, with the loss mask in a second pair beside each.

Layout: https://github.com/NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.

A sequence is one window, with its padding; to Megatron it is a document of its own. `GPTDataset` lays sequences end to
end, in shuffled order, and cuts the stream every `sequence_length` tokens. So if a window has exactly `sequence_length`
tokens, not one more, the tokens of each sample are one window. `GPTDataset` takes one more token as the last label: the
first token of the next window. That is why the mask never counts the first token of a window. The last window has no
next one, so `GPTDataset` drops it: each run loses one window of each file. An extra token at the end of the file would
not help: it would be shuffled as a sequence, and shift all windows after it. `MaskedGPTDataset` does without the extra
token.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from annotate.errors import ConfigError
from annotate.exports.base import File, Format, little_endian
from annotate.exports.windows import Vocabulary, Windows

MAGIC = b"MMIDIDX\x00\x00"
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "float32": 7, "uint16": 8}
UINT16_BELOW = 65500  # DType.optimal_dtype


def index_bytes(lengths: NDArray[np.int64], dtype: np.dtype) -> bytes:
    """Make an `.idx` file, in which each sequence is a document.

    Args:
        lengths: int64, the length of each sequence: at least 1, and below 2**31.
        dtype: the type of the items in the `.bin` file.
    """
    ends = np.cumsum(lengths)
    count = len(lengths)
    return b"".join(
        [
            MAGIC,
            struct.pack("<QBQQ", 1, CODES[dtype.name], count, count + 1),
            little_endian(lengths, np.int32),
            little_endian((ends - lengths) * dtype.itemsize, np.int64),
            little_endian(np.arange(count + 1), np.int64),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Megatron(Format):
    """Five pairs of files a part, each with one sequence a window.

    `NAME_00000` has the tokens (uint16 below 65500 ids, else int32), `NAME_00000_mask` the mask (uint8),
    `NAME_00000_segments` the lengths of the segments of a window (int32), `NAME_00000_documents` their corpus rows
    (int64), and `NAME_00000_pieces` the number of each among the pieces of its document (int32). `IndexedDataset` reads
    all of them. With `annotate/exports/adapters/megatron_masks.py` the mask gets to the loss.
    """

    prefix: str = "tokens"

    name: ClassVar[str] = "megatron"
    reader: ClassVar[str] = "megatron.core.datasets.indexed_dataset.IndexedDataset"
    mask_alignment: ClassVar[str] = (
        "target-aligned to the tokens: mask[i] says whether token i counts as a target; the first token of a window "
        "never does. Megatron's own loss_mask[i] speaks of labels[i], which is token i+1: the adapter shifts"
    )

    def __post_init__(self) -> None:
        check_prefix(self.prefix)

    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """The type that `DType.optimal_dtype` chooses."""
        return np.dtype(np.uint16 if vocabulary.size < UINT16_BELOW else np.int32)

    def mask(self, windows: Windows) -> NDArray[np.uint8]:
        """The mask, with 0 at the first token of each window."""
        return windows.targets()

    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The pairs of a part."""
        stem = f"{self.prefix}_{number:05d}"
        tokens, segments = np.diff(windows.starts), np.diff(windows.firsts)
        pairs: list[tuple[str, NDArray[Any], NDArray[np.int64], np.dtype]] = [
            (stem, windows.tokens, tokens, self.token_dtype(vocabulary)),
            (f"{stem}_mask", self.mask(windows), tokens, np.dtype(np.uint8)),
            (f"{stem}_segments", windows.segments, segments, np.dtype(np.int32)),
            (f"{stem}_documents", windows.documents, segments, np.dtype(np.int64)),
            (f"{stem}_pieces", windows.pieces, segments, np.dtype(np.int32)),
        ]
        for name, values, lengths, dtype in pairs:
            yield File(f"{name}.bin", little_endian(values, dtype))
            yield File(f"{name}.idx", index_bytes(lengths, dtype))

    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded."""
        del vocabulary
        length = f"`sequence_length={width}`" if width else "any `sequence_length`"
        return (
            f"Give each `{self.prefix}_NNNNN` as a data prefix, with {length}"
            + (": then each sample is one window, in whatever order.\n" if width else ".\n")
            + "The format has no loss mask. Use `MaskedGPTDataset` of `annotate/exports/adapters/megatron_masks.py` in "
            f"place of `GPTDataset`: it reads `{self.prefix}_NNNNN_mask` and zeroes the loss of labels that don't "
            "count.\n"
            "`GPTDataset` itself takes a token more for the last label, and so never gives one window of each file, "
            "its last after shuffling; `MaskedGPTDataset` gives all. With another dataset set "
            "`add_extra_token_to_sequence=False` in `GPTDatasetConfig`: the last label of a window never counts.\n"
        )


def check_prefix(prefix: str) -> None:
    """Check that file names can start with a prefix.

    Raises:
        ConfigError: it is empty, has a slash, or begins with a dot.
    """
    if not prefix or "/" in prefix or prefix.startswith("."):
        raise ConfigError(f"prefix must be one word without a slash, and begin with no dot, got {prefix!r}")
