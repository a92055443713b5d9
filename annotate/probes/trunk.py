"""Runs a Transformers encoder layer by layer, taking pools and branches on the way.

The model's own layers are wrapped, not copied out, so that every architecture with a plain list of layers keeps its own
masks, positions and norms.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from annotate.models.layers import find_layers
from annotate.models.pooling import pool
from annotate.probes.file import Feature


@dataclass(kw_only=True)
class Branch:
    """A probe's own copies of the layers from `start` on, which take the trunk's hidden states of layer `start`."""

    start: int
    layers: nn.ModuleList


@dataclass(kw_only=True)
class _Pass:
    """What one forward pass wants, and what it has found so far."""

    features: frozenset[Feature] = frozenset()
    branches: Mapping[int, tuple[Branch, frozenset[Feature]]] = field(default_factory=dict)
    lengths: torch.Tensor | None = None
    starts: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    top: int = 0
    states: dict[int, torch.Tensor] = field(default_factory=dict)
    pools: dict[tuple[int | None, Feature], torch.Tensor] = field(default_factory=dict)
    last: Any = None

    def take(self, owner: int | None, layer: int, hidden: torch.Tensor) -> None:
        """Pool a hidden state for each feature that is wanted of it."""
        wanted = self.features if owner is None else self.branches[owner][1]
        for feature in wanted:
            if feature.layer == layer:
                self.pools[owner, feature] = pool(hidden, feature.pool, self.lengths, self.starts, self.mask)


class _Wrapped(nn.Module):
    """A layer of the model, at its place in the list of layers."""

    def __init__(self, index: int, layer: nn.Module, run: list[_Pass]) -> None:
        super().__init__()
        self.index = index
        self.layer = layer
        self.run = run

    def __getattr__(self, name: str) -> Any:
        # Models read settings off their layers, such as ModernBERT's `attention_type`.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        run = self.run[0]
        if self.index == 0:
            run.take(None, 0, hidden)
        for owner, (branch, _) in run.branches.items():
            if branch.start <= self.index < branch.start + len(branch.layers):
                state = hidden if self.index == branch.start else run.states[owner]
                result = branch.layers[self.index - branch.start](state, *args, **kwargs)
                run.states[owner] = _hidden(result)
                run.take(owner, self.index + 1, run.states[owner])
        if self.index >= run.top:
            # Nothing above is wanted of the trunk: hand on what the last layer gave, in the form the model expects.
            return run.last
        run.last = self.layer(hidden, *args, **kwargs)
        run.take(None, self.index + 1, _hidden(run.last))
        return run.last


class Trunk:
    """An encoder whose pass stops at the highest layer that is wanted, and gives pooled hidden states."""

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.width = int(model.config.hidden_size)
        self._run = [_Pass()]
        layers = find_layers(model, name)
        self.layers = [layers[i] for i in range(len(layers))]
        for i, layer in enumerate(self.layers):
            layers[i] = _Wrapped(i, layer, self._run)

    def copy_layers(self, start: int, count: int) -> nn.ModuleList:
        """Copies of the layers from `start` (0 is the first) on, for a tail."""
        return nn.ModuleList(copy.deepcopy(layer) for layer in self.layers[start : start + count])

    def pools(
        self,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        starts: torch.Tensor,
        mask: torch.Tensor | None,
        features: frozenset[Feature],
        branches: Mapping[int, tuple[Branch, frozenset[Feature]]],
    ) -> dict[tuple[int | None, Feature], torch.Tensor]:
        """Run one batch.

        Args:
            ids: int64 `[rows, longest]`.
            lengths: int64 `[rows]`.
            starts: int64 `[rows]`, where the first token of each row is.
            mask: int64 `[rows, longest]`, None where nothing is padded.
            features: what is wanted of the trunk.
            branches: by owner, a tail and what is wanted of it.

        Returns:
            float32 `[rows, width]` by owner (None for the trunk) and feature.
        """
        top = max([1, *(feature.layer for feature in features), *(branch.start for branch, _ in branches.values())])
        run = _Pass(features=features, branches=branches, lengths=lengths, starts=starts, mask=mask, top=top)
        self._run[0] = run
        try:
            self.model(input_ids=ids, attention_mask=mask)
        finally:
            self._run[0] = _Pass()
        return run.pools


def _hidden(result: Any) -> torch.Tensor:
    hidden: torch.Tensor = result[0] if isinstance(result, tuple) else result
    return hidden
