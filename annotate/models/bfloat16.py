"""What "bfloat16" means: matrix products of the layers in bfloat16, everything else in float32.

With MiniLM on a CPU that has AVX512_BF16, one thread, 1,050 test texts and probes of toxicity, formality and
acceptability this gave 1.7 to 1.9 times the tokens/s of float32, scores within 0.2 to 0.6 % of their standard deviation
(root mean square), and no span on the other side of the 70 % quantile. All weights in bfloat16 were no faster and ten
times as far off. Dynamic int8 was 2.2 times as fast as float32, but 4 to 12 % off, with 2 to 4 % of spans on the other
side, and a span's score depended on its batch. A CPU without such instructions gains nothing.
"""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from annotate.models.text_model import Dtype


def precision(device: torch.device, dtype: Dtype) -> AbstractContextManager[object]:
    """What model calls run in: bfloat16 autocast where a pipeline names it, else nothing."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def convert_weights(model: Any) -> None:
    """Hold the linear layers of the base model in bfloat16, and all else, its head too, in float32.

    A head's logits in bfloat16 would have three digits, and a corpus' quantiles would fall on ties.
    """
    inside = {id(module) for module in model.base_model.modules()}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module) in inside:
            module.to(torch.bfloat16)
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.float()
        if isinstance(module, nn.Linear):
            module.forward = functools.partial(_exact_linear, module)  # type: ignore[method-assign]


def _exact_linear(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    with torch.autocast(inputs.device.type, enabled=False):
        return nn.functional.linear(inputs.float(), layer.weight, layer.bias)
