"""A causal model in which a tag does one thing: it adds a vector to the hidden states behind it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

WIDTH, LAYERS = 16, 3


class Adding(nn.Module):
    """Adds, at the positions from the first of some tokens on, the vector of that token."""

    def __init__(self, ids: list[int], vectors: torch.Tensor) -> None:
        super().__init__()
        self.ids, self.vectors = ids, vectors
        self.seen = torch.empty(0)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor]:
        for i, vector in zip(self.ids, self.vectors, strict=True):
            hidden = hidden + ((self.seen == i).cumsum(1) > 0)[..., None] * vector
        return (hidden,)


class Plain(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


class Additive(nn.Module):
    """The second of three layers adds; at a tag, hidden states are those of the text before it.

    Nothing else looks back. So whatever is expected of the text under a tag is what is expected without it, after the
    vector is added.
    """

    def __init__(self, rows: int, ids: list[int], closing: list[int], vectors: torch.Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.config = SimpleNamespace(hidden_size=WIDTH, num_hidden_layers=LAYERS)
        self.device, self.tags = torch.device("cpu"), [*ids, *closing]
        self.embedding = nn.Embedding(rows, WIDTH)
        self.embedding.weight.data = torch.randn(rows, WIDTH, generator=generator)
        self.embedding.weight.data[ids] = vectors
        self.layers = nn.ModuleList([Plain(), Adding(ids, vectors), Plain()])
        self.head = torch.randn(rows, WIDTH, generator=generator)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.layers[1].seen = input_ids
        text = ~torch.isin(input_ids, torch.tensor(self.tags))
        last = torch.where(text, torch.arange(input_ids.shape[1]), 0).cummax(1).values
        read = torch.where(text.cumsum(1) > 0, input_ids.gather(1, last), 0)
        hidden = self.embedding(read)
        for layer in self.layers:
            output = layer(hidden)
            hidden = output[0] if isinstance(output, tuple) else output
        return SimpleNamespace(logits=hidden @ self.head.T)
