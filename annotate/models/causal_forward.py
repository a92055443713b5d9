"""A loaded causal language model that scores spans by their mean log-probability per token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from annotate.models.base import Prepared, Scores
from annotate.models.batches import Batches
from annotate.models.device import find_device, to_device
from annotate.models.load import load_model
from annotate.models.precision import precision
from annotate.models.run import Room, run_batches
from annotate.models.text_model import TextModel


class CausalForward:
    """Runs the model once a batch; the scorers differ in sign only."""

    def __init__(self, settings: TextModel, signs: Sequence[int], device: str) -> None:
        self.device = find_device(device)
        self.room = Room(self.device)
        self.name = settings.name
        self.dtype = settings.dtype
        self.pad_id = settings.pad_id()
        self.signs = signs
        self.model = load_model("AutoModelForCausalLM", settings, device)

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the scorers at positions `wanted`."""
        # On the right, whatever side the tokenizer pads: no token sees what stands behind it.
        batches = Batches(prepared, self.pad_id, "right")
        counted_from = prepared.arrays["counted_from"]
        signs = torch.tensor([float(self.signs[i]) for i in wanted], device=self.device)

        def step(start: int, stop: int) -> torch.Tensor:
            batch = batches.read(start, stop)
            ids = to_device(batch.ids, self.device)
            mask = None if batch.mask is None else to_device(batch.mask, self.device)
            with precision(self.device, self.dtype):
                logits = self.model(input_ids=ids, attention_mask=mask).logits
            begin = to_device(counted_from[start:stop].astype("int64"), self.device)
            mean = mean_log_probability(logits, ids, begin, to_device(batch.lengths, self.device))
            return mean.unsqueeze(1) * signs

        return run_batches(step, batches, [1] * len(wanted), self.room, self.name)


def mean_log_probability(
    logits: torch.Tensor, ids: torch.Tensor, begin: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    """Mean over the tokens from `begin` to `end` of each row of their log-probability given those before.

    Args:
        logits: `[rows, longest, vocabulary]`; those at a position are for the token after it.
        ids: int64 `[rows, longest]`.
        begin: int64 `[rows]`; the first token of all has no probability and is never counted.
        end: int64 `[rows]`.

    Returns:
        float32 `[rows]`, NaN where no token is counted.
    """
    longest = ids.shape[1]
    if longest < 2:
        return torch.full((len(ids),), torch.nan, device=ids.device)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none"
    ).view(len(ids), longest - 1)
    position = torch.arange(1, longest, device=ids.device)
    counted = (position >= begin.unsqueeze(1)) & (position < end.unsqueeze(1))
    return -(losses * counted).sum(dim=1) / counted.sum(dim=1)
