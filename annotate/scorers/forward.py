"""Runs the batches of a unit through a model, and keeps a bad input from spoiling its neighbours.

A batch that does not fit in memory is cut in two and tried again, down to one input. So is a batch that raises, which
finds the input at fault: it gets NaN and the reason, the others their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from annotate.errors import AnnotateError, ConfigError
from annotate.scorers.base import Backbone, FloatArray, Forward, Scores
from annotate.scorers.device import free_memory, is_broken, is_out_of_memory

REASON_LENGTH = 200
"""Characters of an exception's message that a reason keeps."""

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
        ConfigError: `step` gave another number of scores than there were inputs.
    """
    values = torch.full((len(order), sum(widths)), torch.nan, dtype=torch.float32, device=device)
    reasons: dict[int, str] = {}
    halved = 0
    with torch.inference_mode():
        for batch in ranges:
            todo = [batch]
            while todo:
                start, stop = todo.pop()
                error = _try_step(step, start, stop, values, name)
                if error is None:
                    continue
                if is_out_of_memory(error):
                    free_memory(device)
                if stop - start == 1:
                    reasons[int(order[start])] = _reason(error)
                    continue
                halved += 1
                middle = (start + stop) // 2
                todo += [(middle, stop), (start, middle)]
    scores = np.empty(values.shape, np.float32)
    scores[order] = values.cpu().numpy()
    return _split(scores, reasons, widths, halved)


def warm_up(forward: Forward, backbone: Backbone, count: int, name: str) -> Forward:
    """Score a short text, so that a model which fails on everything stops the run instead of failing each input.

    Args:
        forward: a loaded model.
        backbone: what it was loaded from; columns that it reads beside the text are null here.
        count: number of scorers that `forward` was loaded with.
        name: what to call the model in messages.

    Returns:
        `forward`.

    Raises:
        ConfigError: it gives no score.
    """
    if not count:
        return forward
    columns = {column: pa.nulls(1, pa.string()) for column in backbone.columns} | {"text": pa.array(["A short text."])}
    for scores in forward(backbone.prepare(pa.table(columns)), range(count)):
        if scores.failures:
            raise ConfigError(f"model {name!r} can't score a short text: {next(iter(scores.failures.values()))}")
    return forward


def _try_step(step: Step, start: int, stop: int, values: torch.Tensor, name: str) -> Exception | None:
    """Score the rows into `values`, or give back what went wrong with this batch."""
    try:
        scores = step(start, stop)
    except AnnotateError:
        raise
    except Exception as error:
        if is_broken(error):
            raise
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


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())
    if len(message) > REASON_LENGTH:
        message = message[:REASON_LENGTH] + "..."
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _split(scores: FloatArray, reasons: dict[int, str], widths: Sequence[int], halved: int) -> list[Scores]:
    """Cut the columns by scorer; a score that is no finite number fails that scorer alone."""
    parts = []
    stops = np.cumsum(widths)
    for start, stop in zip(stops - np.asarray(widths), stops, strict=True):
        values = np.ascontiguousarray(scores[:, start:stop])
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        values[bad] = np.nan
        failures = {int(i): reasons.get(int(i), "non-finite score") for i in bad}
        parts.append(Scores(values=values, failures=failures, halved=halved))
    return parts
