"""A loaded sequence classifier with the readouts of some scorers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from annotate.models.base import Prepared, Scores
from annotate.models.batches import Batches, PaddedBatch, Side
from annotate.models.device import find_device, to_device
from annotate.models.load import load_model
from annotate.models.precision import precision
from annotate.models.run import Room, run_batches
from annotate.models.text_model import TextModel, configured_pad_id

Readout = Callable[[torch.Tensor], torch.Tensor]
"""Turns float32 logits `[rows, n_labels]` into scores `[rows]`."""


class SequenceForward:
    """Runs the model once a batch, and each wanted readout on its logits."""

    def __init__(self, settings: TextModel, readouts: Sequence[Readout], device: str) -> None:
        self.device = find_device(device)
        self.room = Room(self.device)
        self.name = settings.name
        self.dtype = settings.dtype
        self.pad_id = settings.pad_id()
        self.readouts = readouts
        self.model = load_model("AutoModelForSequenceClassification", settings, device)
        # Decoders find the end of an input by the padding token that their config names. Where it names none they
        # refuse batches, so the last token is found by length instead.
        decodes = hasattr(self.model, "score")
        self.finds_end = configured_pad_id(self.model.config) is not None or not decodes
        # To a decoder what stands behind a token is invisible: padding there can't reach a score, nor shift positions.
        self.side: Side = "right" if decodes else settings.padding_side()

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the readouts at positions `wanted`."""
        batches = Batches(prepared, self.pad_id, self.side)

        def step(start: int, stop: int) -> torch.Tensor:
            with precision(self.device, self.dtype):
                logits = self._logits(batches.read(start, stop))
            return torch.stack([self.readouts[i](logits.float()) for i in wanted], dim=1)

        return run_batches(step, batches, [1] * len(wanted), self.room, self.name)

    def _logits(self, batch: PaddedBatch) -> torch.Tensor:
        inputs = {"input_ids": to_device(batch.ids, self.device)}
        if batch.mask is not None:
            inputs["attention_mask"] = to_device(batch.mask, self.device)
        if batch.types is not None:
            inputs["token_type_ids"] = to_device(batch.types, self.device)
        if self.finds_end:
            logits: torch.Tensor = self.model(**inputs).logits
            return logits
        hidden = self.model.base_model(**inputs).last_hidden_state  # of a spread model on its last GPU
        lengths = to_device(batch.lengths, hidden.device)
        last: torch.Tensor = self.model.score(hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1])
        return last.to(self.device)
