"""datatrove's file dataset with the loss mask that lies beside each file, which datatrove writes but never reads.

Needs datatrove alone: copy this file to where the trainer is.
"""

from __future__ import annotations

import numpy
import torch
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset


def read_loss(file: DatatroveFileDataset, item: int) -> torch.Tensor:
    """The mask of window `item` of a file: bool, one a token."""
    width = file.seq_len + 1
    with file.fs.open(f"{file.file_path}.loss", "rb") as masks:
        masks.seek(item * width)
        return torch.from_numpy(numpy.frombuffer(masks.read(width), numpy.bool_).copy())


class MaskedFileDataset(DatatroveFileDataset):
    """Items of `DatatroveFileDataset` with `loss_mask`: as a label, input_ids[i] counts where loss_mask[i] is true."""

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        """Window `item`."""
        return {**super().__getitem__(item), "loss_mask": read_loss(self, item)}


class MaskedFolderDataset(DatatroveFolderDataset):
    """Items of `DatatroveFolderDataset` with `loss_mask`, as in `MaskedFileDataset`."""

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        """Window `item`, counted over all files."""
        found = super().__getitem__(item)  # finds the file, too
        at = self.current_file
        return {**found, "loss_mask": read_loss(self.files[at], item - self.lens[at])}
