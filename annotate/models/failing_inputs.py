"""Runs the batches of a unit, and keeps a bad input from spoiling its neighbours.

A batch that raises is cut in two and tried again, which finds the input at fault: it gets NaN and the reason, the
others their scores. One that does not fit in memory is cut in two likewise, down to one input; others of its size are
then cut before they are tried. Where a scorer fails on all inputs, the scorer is wrong and not the inputs: that stops
the run. This file does not import torch, so that Python functions run without it.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from annotate.credentials import redacted
from annotate.errors import AnnotateError, ConfigError
from annotate.models.base import BrokenDevice, FloatArray, Scores

REASON_LENGTH = 200
"""Characters of an exception's message that a reason keeps."""

SAMPLE = 16
"""Before a scorer is said to fail on all inputs, this many of them are tried one by one."""

_INSTALLED = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Folders of this package, of installed ones, and of Python's own."""

Step = Callable[[int, int], Any]
"""Scores rows `start` to `stop`: a float32 array or tensor `[stop - start, n_columns]`."""


class Device(Protocol):
    """Where batches run: what fits there, and what to do after a failure."""

    def fits(self, start: int, stop: int) -> bool:
        """Whether rows `start` to `stop` may fit in its memory, by what did not fit before."""
        ...

    def recover(self, error: Exception, start: int, stop: int) -> bool:
        """After these rows failed: free memory, or raise the error again where no later batch could succeed.

        Returns:
            Whether they failed for want of memory.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """How the batches of a unit went.

    Attributes:
        reasons: of failure, by row.
        halved: how many batches were cut in two.
        too_large: how many of these did not fit in memory.
    """

    reasons: Mapping[int, str]
    halved: int
    too_large: int


def fill(values: Any, step: Step, ranges: Iterable[tuple[int, int]], name: str, device: Device) -> Outcome:
    """Score all rows, batch by batch.

    Args:
        values: float32 array or tensor `[n, n_columns]` that gets the scores; rows that fail are left as they are.
        step: scores a range of rows.
        ranges: first row and end of each batch, together all rows.
        name: what to call the scorer in messages.
        device: where `step` runs.

    Raises:
        ConfigError: `step` gave another number of scores than there were inputs, or it fails on all inputs alike.
    """
    reasons: dict[int, str] = {}
    halved = too_large = 0
    works = len(values) < 2
    for batch in ranges:
        todo = [batch]
        while todo:
            start, stop = todo.pop()
            alone = stop - start == 1
            memory = not alone and not device.fits(start, stop)
            if not memory:
                error = _try_step(step, start, stop, values, name)
                if error is None:
                    works = True
                    continue
                memory = device.recover(error, start, stop)
                if not works:
                    _check_that_some_work(step, error, values, name, device)
                    works = True
                if alone:
                    reasons[start] = _reason(error)
                    continue
            halved += 1
            too_large += memory
            middle = (start + stop) // 2
            todo += [(middle, stop), (start, middle)]
    return Outcome(reasons, halved, too_large)


def collect(rows: FloatArray, order: npt.NDArray[np.int64], widths: Sequence[int], outcome: Outcome) -> list[Scores]:
    """Cut the columns by scorer, in the order of the distinct inputs; what is no finite number becomes NaN.

    Args:
        rows: float32 `[n, sum(widths)]`, NaN where scoring failed.
        order: int64 `[n]`, the distinct input of each row.
        widths: number of columns of each scorer.
        outcome: as `fill` gives it.
    """
    scores = np.empty(rows.shape, np.float32)
    scores[order] = np.where(np.isfinite(rows), rows, np.float32(np.nan))
    by_input = {int(order[row]): reason for row, reason in outcome.reasons.items()}
    parts = []
    stops = np.cumsum(widths)
    for start, stop in zip(stops - np.asarray(widths), stops, strict=True):
        values = np.ascontiguousarray(scores[:, start:stop])
        bad = np.flatnonzero(np.isnan(values).any(axis=1))
        failures = {int(i): by_input.get(int(i), "non-finite score") for i in bad}
        parts.append(Scores(values=values, failures=failures, halved=outcome.halved, too_large=outcome.too_large))
    return parts


def _try_step(step: Step, start: int, stop: int, values: Any, name: str) -> Exception | None:
    """Score the rows into `values`, or give back what went wrong with this batch."""
    try:
        scores = step(start, stop)
    except (AnnotateError, BrokenDevice):
        raise
    except Exception as error:
        _note_place(error)
        # Frames hold the tensors of the failed attempt: let them go before the next one.
        return error.with_traceback(None)
    expected = (stop - start, values.shape[1])
    if tuple(scores.shape) != expected:
        raise ConfigError(
            f"{name} was given {expected[0]} inputs and returned scores of shape {tuple(scores.shape)}, "
            f"expected {expected}",
            hint="return one row of scores for each input, with a column for each axis",
        )
    values[start:stop] = scores
    return None


def _check_that_some_work(step: Step, first: Exception, values: Any, name: str, device: Device) -> None:
    """Try rows from all over the unit, until one does not fail as the first batch did.

    Raises:
        ConfigError: they all do.
    """
    tried = np.unique(np.linspace(0, len(values) - 1, SAMPLE).round().astype(int)).tolist()
    for row in tried:
        error = _try_step(step, row, row + 1, values, name)
        if error is None:
            return
        device.recover(error, row, row + 1)
        if type(error) is not type(first):
            return
    raise ConfigError(
        f"{name} fails on every span that was tried ({len(tried)} of {len(values):,}): {_reason(first)}",
        hint="mend it and run again; nothing of this unit was committed",
    ) from first


def _note_place(error: Exception) -> None:
    """Note the last line that was reached of code that is neither installed nor of this package: the user's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_INSTALLED) and frame.filename.endswith(".py"):
            error.add_note(f"{Path(frame.filename).name}, line {frame.lineno}")
            return


def _reason(error: Exception) -> str:
    message = redacted(" ".join(str(error).split()))
    if len(message) > REASON_LENGTH:
        message = message[:REASON_LENGTH] + "..."
    place = "".join(f" ({note})" for note in getattr(error, "__notes__", [])[:1])
    return (f"{type(error).__name__}: {message}" if message else type(error).__name__) + place
