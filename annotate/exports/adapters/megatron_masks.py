"""Megatron's GPT dataset with our loss mask: zeroes the loss of labels that don't count, and gives every window.

Needs megatron-core alone: copy this file to where the trainer is, and use `MaskedGPTDataset` for `GPTDataset`.

`GPTDataset` takes one token more than a sample has, as the last label. So of a file with n windows it makes n - 1
samples, and the window that is last after shuffling is never seen. That label is the first token of a window, which the
mask never counts. This dataset does without it, whatever its configuration says, and makes n samples.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset

_EXTRA = "add_extra_token_to_sequence"


class MaskedGPTDataset(GPTDataset):
    """Samples of `GPTDataset`, with the loss mask of `<path prefix>_mask.bin`, which has a mask for each window."""

    dataset: Any

    def __init__(
        self, indexed_dataset: Any, dataset_path: Any, indexed_indices: Any, num_samples: Any, split: Any, config: Any
    ) -> None:
        own = copy.copy(config)  # others of a blend share it
        setattr(own, _EXTRA, False)
        super().__init__(indexed_dataset, dataset_path, indexed_indices, num_samples, split, own)
        self._masks = self.build_low_level_dataset(f"{dataset_path}_mask", own)

    @staticmethod
    def _key_config_attributes() -> list[str]:
        """The settings that a cache of indices is found by. The extra token is one: it changes the indices."""
        return [*GPTDataset._key_config_attributes(), _EXTRA]

    def _query_document_sample_shuffle_indices(self, idx: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        # The mask of a sample is cut and joined as its tokens are: by the same method, from the other file.
        tokens = self.dataset
        try:
            self.dataset = self._masks
            self._mask, _ = super()._query_document_sample_shuffle_indices(idx)
        finally:
            self.dataset = tokens
        return super()._query_document_sample_shuffle_indices(idx)

    def __getitem__(self, idx: int | None) -> dict[str, torch.Tensor]:
        """A sample: labels[i] is token i+1, so its loss counts where mask[i+1] is 1, and the last never."""
        sample = super().__getitem__(idx)
        if self.masks_and_position_ids_are_cached:
            # In the mask that it keeps for all samples, megatron-core 0.16 zeroes the padding of the first one.
            self.cached_loss_mask = torch.ones_like(sample["loss_mask"])
        counts = torch.roll(torch.from_numpy(self._mask == 1), -1)
        counts[-1] = False
        return {**sample, "loss_mask": sample["loss_mask"] * counts}
