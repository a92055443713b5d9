"""Hidden states of spans: the mean over the tokens of a span, of each layer's output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from annotate.directions.rows import Rows
from annotate.models.base import FloatArray
from annotate.models.layers import find_layers


@torch.no_grad()
def span_states(
    model: Any,
    rows: Rows,
    spans: int,
    *,
    batch_size: int = 8,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> FloatArray:
    """The mean hidden state of each span in each layer.

    Args:
        model: a causal model of Transformers.
        rows: what it reads.
        spans: how many spans there are.
        batch_size: rows in one forward pass.
        tell: is given how many rows are done, of how many.

    Returns:
        float32 `[n_layers, n_spans, width]`, layer 1 first; NaN for a span without a token.
    """
    layers, width = find_layers(model, type(model).__name__), int(model.config.hidden_size)
    sums = torch.zeros(len(layers), spans + 1, width, dtype=torch.float64)
    number = np.zeros(spans)
    with _outputs(layers) as outputs:
        for which, ids, mask in rows.batches(batch_size, model.device):
            model(input_ids=ids, attention_mask=mask)
            of_token = np.full(tuple(ids.shape), spans)  # what is no text goes to a row of its own
            for i, own in enumerate(rows.spans[which]):
                of_token[i, : len(own)] = np.where(own < 0, spans, own)
            number += np.bincount(of_token.ravel(), minlength=spans + 1)[:spans]
            flat = torch.from_numpy(of_token.ravel())
            for layer, output in enumerate(outputs):
                sums[layer].index_add_(0, flat, output.flatten(0, 1).double().cpu())
            tell(which.stop, len(rows.ids))
    with np.errstate(invalid="ignore"):
        return (sums[:, :spans].numpy() / number[:, None]).astype(np.float32)


@contextlib.contextmanager
def _outputs(layers: Any) -> Iterator[list[torch.Tensor]]:
    """The outputs of the layers in the last forward pass, each float `[n, length, width]`."""
    found: list[torch.Tensor] = [torch.empty(0)] * len(layers)

    def keep(number: int, output: Any) -> None:
        found[number] = output[0] if isinstance(output, tuple) else output

    handles = [
        layer.register_forward_hook(lambda _, __, output, number=number: keep(number, output))
        for number, layer in enumerate(layers)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
