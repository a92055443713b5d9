"""The `.ds` files of datatrove and nanotron, with their `.index`, `.loss` and `.metadata`.

Layout: https://github.com/huggingface/datatrove, pipeline/tokens/tokenizer.py (`TokenizedFile`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from annotate.exports.base import TARGET_ALIGNED, File, Format, little_endian
from annotate.exports.megatron import check_prefix
from annotate.exports.windows import Vocabulary, Windows

UINT16_UP_TO = 1 << 16  # ids, as in PipelineStepWithTokenizer.token_size


@dataclass(frozen=True, kw_only=True)
class Datatrove(Format):
    """Four files a part: `NAME_00000_unshuffled.ds`, and three beside it.

    Tokens are uint16, or uint32 above 65536 ids. The index has the end of each segment, and of each run of padding. So
    a reader that takes positions from it takes padding for a document. `DatatroveFileDataset` cuts windows of
    `seq_len + 1` tokens: with a `seq_len` one less than our windows, it gives these one by one. It never reads `.loss`;
    `annotate/exports/adapters/datatrove_masks.py` does.
    """

    prefix: str = "tokens"

    name: ClassVar[str] = "datatrove"
    reader: ClassVar[str] = "datatrove.utils.dataset.DatatroveFileDataset"
    mask_alignment: ClassVar[str] = TARGET_ALIGNED

    def __post_init__(self) -> None:
        check_prefix(self.prefix)

    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """The type that the tokenizer step of datatrove chooses."""
        return np.dtype(np.uint16 if vocabulary.size <= UINT16_UP_TO else np.uint32)

    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The four files of a part."""
        path, dtype = f"{self.prefix}_{number:05d}_unshuffled.ds", self.token_dtype(vocabulary)
        yield File(path, little_endian(windows.tokens, dtype))
        yield File(f"{path}.index", little_endian(document_ends(windows), np.uint64))
        yield File(f"{path}.loss", little_endian(windows.mask, np.uint8))
        count = len(windows.tokens)
        lines = [f"{vocabulary.tokenizer}|{dtype.itemsize}", str(count), metric(count)]
        yield File(f"{path}.metadata", "\n".join(lines).encode())

    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded."""
        size = self.token_dtype(vocabulary).itemsize
        length = f"seq_len={width - 1}" if width else "seq_len=..."
        return (
            f"`DatatroveFolderDataset(folder, {length}, token_size={size})`"
            + (f": windows have {width} tokens, one more than `seq_len`.\n" if width else ".\n")
            + "datatrove writes `.loss` but never reads it. Use `MaskedFolderDataset` of "
            "`annotate/exports/adapters/datatrove_masks.py`, which adds `loss_mask` to each item.\n"
        )


def document_ends(windows: Windows) -> NDArray[np.int64]:
    """One past the end of each segment and of each run of padding, in the tokens of a part, in order."""
    return np.sort(np.concatenate([windows.segment_ends, windows.starts[1:][windows.padding > 0]]))


def metric(count: int) -> str:
    """A count of tokens as datatrove writes it for people: `humanize.metric(count, unit="T")`, such as `1.50 kT`."""
    exponent = math.floor(math.log10(count)) if count else 0
    value = count / 10 ** (exponent // 3 * 3)
    digits = 2 - exponent % 3
    if round(value, digits) >= 10 ** (exponent % 3 + 1):  # 9.999 is 10.0
        exponent += 1
        value = count / 10 ** (exponent // 3 * 3)
        digits = 2 - exponent % 3
    return f"{value:.{digits}f} {'kMGTPE'[exponent // 3 - 1] if exponent >= 3 else ''}T"
