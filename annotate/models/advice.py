"""What somebody should know of how a loaded model runs here, from short timed samples."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from annotate.models.base import Backbone, Forward
from annotate.models.device import device_kind, is_gpu
from annotate.models.linear_on_cpu import use_onednn
from annotate.models.precision import TYPES
from annotate.models.speed import measure_speed
from annotate.models.text_model import Dtype, TextModel

LARGE = 65_536
"""`batch_tokens` that keep a GPU busy with most models."""
_WORTH = 1.2
"""What gains less is not worth a word."""
_ROWS, _WIDTH, _PASSES = 512, 768, 5
_SECONDS = 0.2


def advise(backbone: TextModel, forward: Forward) -> Mapping[str, str]:
    """Warnings about settings that make a model slow where it was loaded, by subject.

    Args:
        backbone: what it was loaded from.
        forward: the loaded model, with one scorer or more.
    """
    device = forward.device
    assert device is not None, "models on torch are on a device"
    said = {}
    kind = device_kind(device)
    if backbone.dtype != "float32" and (times := slower_than_float32(device, backbone.dtype)) > _WORTH:
        said["dtype"] = (
            f'dtype="{backbone.dtype}" is {times:.1f} times as slow as float32 on this device ({kind}; a layer was '
            "timed): it lacks the instructions. `annotate tune` compares them on your corpus. After a change all spans "
            "are scored anew"
        )
    if is_gpu(device) and backbone.batch_tokens < LARGE and (times := faster_with(LARGE, backbone, forward)) > _WORTH:
        said["batch_tokens"] = (
            f"batch_tokens={backbone.batch_tokens} keeps this GPU ({kind}) at {1 / times:.0%}: on a short sample "
            f"{LARGE:,} gave {times:.1f} times as many tokens/s. `annotate tune` measures which is best for your "
            "corpus. After a change all spans are scored anew"
        )
    return said


def slower_than_float32(device: torch.device, dtype: Dtype) -> float:
    """How many times as long a linear layer takes in a type of 16 bits as in float32."""
    layer = nn.Linear(_WIDTH, _WIDTH, device=device).requires_grad_(requires_grad=False)
    states = torch.randn(_ROWS, _WIDTH, device=device)
    if not is_gpu(device):
        use_onednn(layer)
    with torch.inference_mode():
        exact = _seconds(layer, states)
        return _seconds(layer.to(TYPES[dtype]), states.to(TYPES[dtype])) / exact


def _seconds(layer: nn.Linear, states: torch.Tensor) -> float:
    taken = []
    for _ in range(_PASSES + 1):  # the first is slow
        started = time.perf_counter()
        float(layer(states)[0, 0])  # waits for a GPU
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def faster_with(batch_tokens: int, backbone: TextModel, forward: Forward) -> float:
    """How many times as many tokens a second a loaded model gives with other batches, on a short sample."""
    both = cast("list[Backbone]", [backbone, dataclasses.replace(backbone, batch_tokens=batch_tokens)])
    rates = [measure_speed(each, forward, seconds=_SECONDS).tokens_per_second for each in both]
    return rates[1] / rates[0]
