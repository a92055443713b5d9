"""Megatron's GPT dataset with our loss mask: zeroes the loss of labels that don't count.

Needs megatron-core alone: copy this file to where the trainer is, and use `MaskedGPTDataset` for `GPTDataset`.
"""

from __future__ import annotations

from typing import Any

import numpy
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset


class MaskedGPTDataset(GPTDataset):
    """Samples of `GPTDataset`, their loss masked by `<path prefix>_mask.bin`, a sequence for each of tokens."""

    dataset: Any

    def __init__(self, indexed_dataset: Any, dataset_path: Any, *rest: Any, **options: Any) -> None:
        super().__init__(indexed_dataset, dataset_path, *rest, **options)
        self._masks = self.build_low_level_dataset(f"{dataset_path}_mask", self.config)

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
        """The sample of `GPTDataset`; labels[i] is token i+1, so its loss counts where mask[i+1] is 1."""
        sample = super().__getitem__(idx)
        if self.masks_and_position_ids_are_cached:
            # In the mask that it keeps for all samples, megatron-core 0.16 zeroes the padding of the first one.
            self.cached_loss_mask = torch.ones_like(sample["loss_mask"])
        counts = torch.from_numpy(self._mask == 1)
        counts = counts[1:] if self.config.add_extra_token_to_sequence else torch.roll(counts, -1)
        return {**sample, "loss_mask": sample["loss_mask"] * counts}
