"""A token table as flat NumPy arrays, checked: every export is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from annotate.errors import ConfigError, InputError

PER_TOKEN = ("input_ids", "loss_mask", "position_ids")
PER_SEGMENT = ("segment_lengths", "document_rows", "document_pieces")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a trainer has to know about ids.

    Attributes:
        tokenizer: the tokenizer's name or hash, for people.
        size: how many ids there are, with those of the tags and with padding of the embedding.
        eos: the id that ends a document; None: documents have no end token.
        pad: the id that fills a window; None: windows are never padded.
    """

    tokenizer: str
    size: int
    eos: int | None = None
    pad: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1 << 31:
            raise ConfigError(f"a vocabulary has 1 to 2**31 ids, not {self.size}")
        for name, token in (("eos", self.eos), ("pad", self.pad)):
            if token is not None and not 0 <= token < self.size:
                raise ConfigError(f"{name} is id {token}, but the vocabulary has ids 0 to {self.size - 1}")
        if "\n" in self.tokenizer:
            raise ConfigError(f"a tokenizer's name is one line, not {self.tokenizer!r}")


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of one output part. A window is its segments, which are pieces of documents, and then padding.

    Attributes:
        table: the token table that the arrays are from.
        tokens: int32 `[n_tokens]`, all windows end to end, with padding.
        mask: uint8 `[n_tokens]`, 1 where the token is a target that counts.
        positions: int32 `[n_tokens]`, the place of each token in its segment.
        starts: int64 `[n_windows + 1]`, where each window starts in `tokens`, and the end of the last.
        segments: int64 `[n_segments]`, how many tokens each segment has.
        documents: int64 `[n_segments]`, the corpus row of each segment.
        pieces: int32 `[n_segments]`, the number of each segment among the pieces of its document.
        firsts: int64 `[n_windows + 1]`, the first segment of each window, and the number of segments.
    """

    table: pa.Table
    tokens: NDArray[np.int32]
    mask: NDArray[np.uint8]
    positions: NDArray[np.int32]
    starts: NDArray[np.int64]
    segments: NDArray[np.int64]
    documents: NDArray[np.int64]
    pieces: NDArray[np.int32]
    firsts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def width(self) -> int | None:
        """How many tokens every window has; None: they differ, or there is no window."""
        lengths = np.diff(self.starts)
        return int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else None

    @property
    def segment_ends(self) -> NDArray[np.int64]:
        """One past the end of each segment in `tokens`."""
        total = np.concatenate([[0], np.cumsum(self.segments)])
        shift = self.starts[:-1] - total[self.firsts[:-1]]  # the padding of the windows before
        return total[1:] + np.repeat(shift, np.diff(self.firsts))

    @property
    def padding(self) -> NDArray[np.int64]:
        """How many tokens of padding each window has at its end."""
        total = np.concatenate([[0], np.cumsum(self.segments)])
        return np.diff(self.starts) - np.diff(total[self.firsts])

    def targets(self) -> NDArray[np.uint8]:
        """The mask, with 0 at the first token of each window: nothing in the window predicts it."""
        mask = self.mask.copy()
        mask[self.starts[:-1]] = 0
        return mask


def read_windows(table: pa.Table, vocabulary: Vocabulary, where: str = "the token table") -> Windows:
    """Check a token table, and give its columns as flat arrays; without a copy if Arrow holds them in one piece.

    Args:
        table: columns of lists of integers. In a row, `input_ids`, `loss_mask` and `position_ids` are of one length,
            and `segment_lengths`, `document_rows` and `document_pieces` are. Other columns are not looked at.
        vocabulary: the ids that there are.
        where: what errors call the table.

    Raises:
        InputError: a column is missing or has nulls; lengths don't agree; an id lies outside the vocabulary; the mask
            has other values than 0 and 1, or a 1 on padding.
    """
    lengths = {name: _lengths(table, name, where) for name in PER_TOKEN + PER_SEGMENT}
    for names in (PER_TOKEN, PER_SEGMENT):
        for name in names[1:]:
            if len(wrong := np.flatnonzero(lengths[name] != lengths[names[0]])):
                row = int(wrong[0])
                raise InputError(
                    f"row {row} of {where} has {lengths[names[0]][row]} {names[0]} but {lengths[name][row]} {name}"
                )
    windows = Windows(
        table=table,
        tokens=_values(table, "input_ids", np.int32, where),
        mask=_values(table, "loss_mask", np.uint8, where),
        positions=_values(table, "position_ids", np.int32, where),
        starts=_offsets(lengths["input_ids"]),
        segments=_values(table, "segment_lengths", np.int64, where),
        documents=_values(table, "document_rows", np.int64, where),
        pieces=_values(table, "document_pieces", np.int32, where),
        firsts=_offsets(lengths["segment_lengths"]),
    )
    _check(windows, vocabulary, where)
    return windows


def _check(windows: Windows, vocabulary: Vocabulary, where: str) -> None:
    tokens, mask = windows.tokens, windows.mask
    if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary.size):
        at = int(np.flatnonzero((tokens < 0) | (tokens >= vocabulary.size))[0])
        raise InputError(
            f"{where} has id {tokens[at]}, but the vocabulary has ids 0 to {vocabulary.size - 1}",
            hint="Give the size of the vocabulary with its tags: one more than the highest id.",
        )
    if len(mask) and int(mask.max()) > 1:
        raise InputError(f"loss_mask of {where} has the value {mask.max()}; it is 0 or 1")
    if len(wrong := np.flatnonzero(np.diff(windows.firsts) == 0)):
        raise InputError(f"row {wrong[0]} of {where} has no segment; a window has at least 1")
    if (windows.segments < 1).any():
        raise InputError(f"{where} has a segment of {windows.segments.min()} tokens; a segment has at least 1")
    padding = windows.padding
    if len(wrong := np.flatnonzero(padding < 0)):
        row = int(wrong[0])
        size = int(np.diff(windows.starts)[row])
        raise InputError(f"row {row} of {where} has {size} tokens, but its segments have {size - padding[row]}")
    # Where padding counts, the mask has fewer ones on the tokens of segments than on all tokens.
    flags = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    if (flags[windows.starts[1:]] != flags[windows.starts[1:] - padding]).any():
        raise InputError(f"loss_mask of {where} is 1 on padding, the tokens after a window's segments")


def _lengths(table: pa.Table, name: str, where: str) -> NDArray[np.int64]:
    if name not in table.column_names:
        raise InputError(
            f"{where} has no column {name}; it has {', '.join(table.column_names)}",
            hint="Another version of annotate may have written these shards. Run the pipeline again: it makes them "
            "anew, from the scores that there are.",
        )
    kind = table.schema.field(name).type
    if not (pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind)) or not pat.is_integer(
        kind.value_type
    ):
        raise InputError(f"column {name} of {where} is of type {kind}; it has to be a list of integers")
    if table[name].null_count:
        raise InputError(f"column {name} of {where} has {table[name].null_count} nulls")
    return pc.list_value_length(table[name]).cast(pa.int64()).to_numpy()


def _values(table: pa.Table, name: str, dtype: type[np.integer], where: str) -> NDArray[Any]:
    chunks = [chunk.flatten().to_numpy() for chunk in table[name].chunks]
    values = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, dtype), *chunks])
    if values.dtype != dtype:
        limits = np.iinfo(dtype)
        if len(values) and (int(values.min()) < limits.min or int(values.max()) > limits.max):
            raise InputError(
                f"{name} of {where} has values from {values.min()} to {values.max()}, outside those of {limits.dtype}"
            )
        values = values.astype(dtype)
    return values


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
