"""What "bfloat16" and "float16" mean: matrix products of the layers in it, everything else in float32.

With MiniLM on an AMD CPU that has AVX512_BF16, one thread, 300 texts and the shipped probes, bfloat16 gives 1.5 times
the tokens/s of float32 by oneDNN. With 1,050 texts and probes of toxicity, formality and acceptability, its scores were
within 0.2 to 0.6 % of their standard deviation (root mean square), and no span on the other side of the 70 % quantile.
All weights in bfloat16 were no faster and ten times as far off. docs/benchmarks.md has what int8 gave: too many spans
on the other side; and a span's score depended on its batch.

float16 is eight times as exact: on 300 texts, with the shipped probes, scores were within 0.1 % (bfloat16: 0.3 to
0.7 %; timed by hand). But it ends at 65,504: a model whose states are larger (some that were trained in bfloat16) gives
no finite score. It is for GPUs, where it was not run: the CPU above took 2.3 times as long as with float32.

A CPU without instructions for a type is many times slower with it than with float32 (5.8 times with bfloat16, on one
with AVX2 alone). `slower_than_float32` says so before a corpus is scored.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from annotate.models.text_model import Dtype

TYPES: Mapping[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def precision(device: torch.device, dtype: Dtype) -> AbstractContextManager[object]:
    """What model calls run in: autocast to the type of 16 bits that a pipeline names, else nothing."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, TYPES[dtype])


def convert_weights(model: Any, dtype: Dtype) -> None:
    """Hold the linear layers of the base model in a type of 16 bits, and all else, its head too, in float32.

    A head's logits in bfloat16 would have three digits, and a corpus' quantiles would fall on ties.
    """
    inside = {id(module) for module in model.base_model.modules()}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module) in inside:
            module.to(TYPES[dtype])
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.float()
        if isinstance(module, nn.Linear):
            module.forward = functools.partial(_exact, module.forward)  # type: ignore[method-assign]


def _exact(forward: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    # What is called may be Accelerate's, which first moves the inputs to the layer's GPU.
    with torch.autocast(inputs.device.type, enabled=False):
        return forward(inputs.float())
