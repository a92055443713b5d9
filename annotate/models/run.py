"""Runs the batches of a unit through a torch model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from annotate.models.base import BrokenDevice, Scores
from annotate.models.batches import Batches
from annotate.models.device import free_memory, is_broken, is_out_of_memory
from annotate.models.failing_inputs import collect, fill
from annotate.models.padding_masks import unpacked

Step = Callable[[int, int], torch.Tensor]
"""Scores rows `start` to `stop`: float32 `[stop - start, n_columns]`."""


@dataclass(frozen=True)
class Room:
    """The room on a device for batches of a model. The loaded model keeps it, so that what did not fit is remembered.

    The memory that a batch takes grows with its padded tokens and, where attention needs a matrix, with its longest
    input. So a batch that has as many of both as one that did not fit will not fit either.

    Attributes:
        device: where the model is.
        failed: padded tokens and longest input of batches that did not fit.
    """

    device: torch.device
    failed: list[tuple[int, int]] = field(default_factory=list)

    def fits(self, rows: int, longest: int) -> bool:
        """Whether a batch may fit, by what did not fit before."""
        return not any(rows * longest >= tokens and longest >= length for tokens, length in self.failed)


def run_batches(step: Step, batches: Batches, widths: Sequence[int], room: Room, name: str) -> list[Scores]:
    """Score all rows, batch by batch.

    Args:
        step: scores a range of rows; its result may still be on the device.
        batches: together all rows.
        widths: number of columns of each scorer, in the order in which `step` gives them.
        room: of the device where `step` leaves its result.
        name: what to call the model in messages.

    Returns:
        One `Scores` a scorer, in the order of the distinct inputs.

    Raises:
        ConfigError: `step` gave another number of scores than there were inputs, or it fails on all inputs alike.
        BrokenDevice: the device can't be used any more.
    """
    order = batches.arrays["order"]
    values = torch.full((len(order), sum(widths)), torch.nan, dtype=torch.float32, device=room.device)
    with torch.inference_mode(), unpacked():
        outcome = fill(values, step, batches.ranges(), name, _On(room, batches))
    try:
        rows = values.cpu().numpy()
    except RuntimeError as error:  # a GPU tells late of what went wrong
        recover_from(error)
        raise
    return collect(rows, order, widths, outcome)


@dataclass(frozen=True)
class _On:
    """The device of a model, for the batches of a unit."""

    room: Room
    batches: Batches

    def fits(self, start: int, stop: int) -> bool:
        return not self.room.failed or self.room.fits(stop - start, self.batches.longest(start, stop))

    def recover(self, error: Exception, start: int, stop: int) -> bool:
        memory = recover_from(error)
        if memory and stop - start > 1:
            longest = self.batches.longest(start, stop)
            self.room.failed.append(((stop - start) * longest, longest))
        return memory


def recover_from(error: Exception) -> bool:
    """Free memory after an out-of-memory error, so that a smaller batch fits.

    Returns:
        Whether it was out of memory.

    Raises:
        BrokenDevice: the device can't be used any more.
    """
    if is_broken(error):
        raise BrokenDevice(f"{type(error).__name__}: {error}") from error
    if memory := is_out_of_memory(error):
        free_memory()
    return memory
