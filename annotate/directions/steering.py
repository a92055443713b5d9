"""Adding directions to a model's hidden states while it reads or writes (Rimsky et al. 2024, CAA, arXiv 2312.06681)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from annotate.errors import ConfigError
from annotate.models.layers import find_layers

Additions = Mapping[int, torch.Tensor]
"""By layer, counted from 1, what is added to its output at each position: float `[width]`."""


@contextlib.contextmanager
def steered(model: Any, additions: Additions) -> Iterator[None]:
    """Within it, the model's hidden states have something added to them, at all positions.

        with steered(model, direction.at(4, weight=1.5)):
            model.generate(...)

    Args:
        model: a Transformers model with a plain list of layers.
        additions: by layer, counted from 1, what is added to its output: float `[width]`.

    Raises:
        ConfigError: the model has no such layer, or its hidden states have another width.
    """
    layers = find_layers(model, type(model).__name__)
    width = model.config.hidden_size
    for layer, added in additions.items():
        if not 1 <= layer <= len(layers):
            raise ConfigError(f"there is no layer {layer}; the model has {len(layers)}, counted from 1")
        if added.shape != (width,):
            raise ConfigError(
                f"a direction of layer {layer} has shape {tuple(added.shape)}; hidden states have [{width}]"
            )
    handles = [
        layers[layer - 1].register_forward_hook(lambda _, __, output, added=added: _plus(output, added))
        for layer, added in additions.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plus(output: Any, added: torch.Tensor) -> Any:
    if isinstance(output, tuple):
        return (_plus(output[0], added), *output[1:])
    return output + added.to(output.device, output.dtype)
