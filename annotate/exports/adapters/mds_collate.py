"""Batches of MDS samples.

Torch's own collate function refuses them: windows have different numbers of segments, and `length` is uint64.
Needs NumPy and torch alone: copy this file to where the trainer is, and give `collate` to the DataLoader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from torch.nn.utils.rnn import pad_sequence

IGNORED = -100
"""A label that no loss counts."""


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make a batch of windows.

    Args:
        samples: as `StreamingDataset` gives them; n of them.

    Returns:
        `input_ids`, `labels` (-100 where the mask is 0, not shifted) and `position_ids` (from 0 in each segment; 0 for
        padding), int64 `[n, width]`. Windows that are shorter than others are filled up with 0, in labels with -100.
        `length`, int64 `[n]`: tokens without padding. Windows have different numbers of segments, so what is about
        segments is a list of n tensors: `indices` (int64 `[k, 2]`, start and end), `documents` and `pieces` (int64
        `[k]`).
    """
    windows = [_window(sample) for sample in samples]
    batch: dict[str, Any] = {
        name: pad_sequence([window[name] for window in windows], batch_first=True, padding_value=fill)
        for name, fill in (("input_ids", 0), ("labels", IGNORED), ("position_ids", 0))
    }
    batch["length"] = torch.tensor([int(sample["length"]) for sample in samples])
    for name in ("indices", "documents", "pieces"):
        batch[name] = [_int64(sample[name]) for sample in samples]
    return batch


def _window(sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    ids, mask = _int64(sample["input_ids"]), _int64(sample["mask"])
    positions = torch.zeros_like(ids)
    for start, end in numpy.asarray(sample["indices"]).tolist():
        positions[start:end] = torch.arange(end - start)
    return {"input_ids": ids, "labels": torch.where(mask == 1, ids, IGNORED), "position_ids": positions}


def _int64(values: Any) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(values).astype(numpy.int64))
