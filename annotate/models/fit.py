"""Whether a model fits into the memory that is free, as the headers of its weight files tell."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from annotate.models.device import memory_left
from annotate.models.text_model import Dtype

_BYTES: Mapping[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of a number of a loaded model. With 2, its embedding and its head have 4 nonetheless."""
_WIDE = {"float64": 8, "float32": 4}
"""Bytes of a number in files that have more than 2."""
_ROOM = 1.1
"""A loaded model needs a little more than its weights."""


def lacking_memory(weights: Mapping[str, int], dtype: Dtype, device: torch.device, *, spread: bool = False) -> str:
    """Why a model can't be loaded, with numbers; empty if it can.

    Wherever it runs, it is first read into the CPU's memory, unless it is spread.

    Args:
        weights: numbers in its files by their dtype, as `count_weights` gives them.
        dtype: of the loaded model.
        device: where it runs.
        spread: whether it is on all GPUs of this process.
    """
    # For float32 it is read as that; for the others as it was saved, and converted afterwards.
    reading = sum(count * (4 if dtype == "float32" else _WIDE.get(saved, 2)) for saved, count in weights.items())
    loaded = sum(weights.values()) * _BYTES[dtype]
    # What is spread is read onto the GPUs, and converted there.
    places = [(device, max(reading, loaded))] if spread else [(torch.device("cpu"), reading), (device, loaded)]
    for place, size in places:
        needed, there = int(size * _ROOM), memory_left(place, every=spread)
        if needed > there:
            name = "GPUs" if spread else place.type
            first = ", where it is read first" if place.type != device.type else ""
            half = dtype == "float32" and not _WIDE.keys() & weights.keys()
            return (
                f"in {dtype} it needs about {needed / 1e9:,.1f} GB of memory, and {there / 1e9:,.1f} GB are free on "
                f"this machine's {name}{first}." + (' dtype="bfloat16" needs little more than half.' if half else "")
            )
    return ""
