"""Runs the batches of a unit through a torch model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from annotate.models.base import Scores
from annotate.models.device import free_memory, is_broken, is_out_of_memory
from annotate.models.failing_inputs import collect, fill

Step = Callable[[int, int], torch.Tensor]
"""Scores rows `start` to `stop`: float32 `[stop - start, n_columns]`."""


def run_batches(
    step: Step,
    ranges: Iterable[tuple[int, int]],
    order: npt.NDArray[np.int64],
    widths: Sequence[int],
    device: torch.device,
    name: str,
) -> list[Scores]:
    """Score all rows, batch by batch.

    Args:
        step: scores a range of rows; its result may still be on the device.
        ranges: first row and end of each batch, together all rows.
        order: int64 `[n]`, the distinct input of each row.
        widths: number of columns of each scorer, in the order in which `step` gives them.
        device: where `step` leaves its result.
        name: what to call the model in messages.

    Returns:
        One `Scores` a scorer, in the order of the distinct inputs.

    Raises:
        ConfigError: `step` gave another number of scores than there were inputs, or it fails on all inputs alike.
    """
    values = torch.full((len(order), sum(widths)), torch.nan, dtype=torch.float32, device=device)
    with torch.inference_mode():
        reasons, halved = fill(values, step, ranges, name, functools.partial(recover_from, device=device))
    return collect(values.cpu().numpy(), order, reasons, widths, halved)


def recover_from(error: Exception, device: torch.device) -> None:
    """Free memory after an out-of-memory error, so that a smaller batch fits; raise what says the device is broken."""
    if is_broken(error):
        raise error
    if is_out_of_memory(error):
        free_memory(device)
