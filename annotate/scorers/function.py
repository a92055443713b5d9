"""Scorers that are plain Python: a function from a table to scores."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from annotate.arguments import as_tuple
from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.models.axes import check_axes
from annotate.models.base import FloatArray, Forward, Json, Prepared, Scores
from annotate.models.failing_inputs import collect, fill
from annotate.models.repeats import drop_repeats
from annotate.source_code import source_identity


@dataclass(frozen=True, kw_only=True)
class PythonScorer:
    """Scores spans with a Python function.

    The function gets a table with the columns it asked for, and returns float32 `[n, n_axes]`, or `[n]` for one axis.
    The scores of a row may depend on that row alone. Where a class is given, each actor makes one object of it, and
    calls that like a function: its `__init__` is the place to load a model.

    >>> import pyarrow.compute as pc
    >>> def shouting(table):
    ...     letters = pc.utf8_length(table["text"])
    ...     capitals = pc.count_substring_regex(table["text"], "[A-Z]")
    ...     return pc.divide(pc.cast(capitals, "float32"), pc.max_element_wise(letters, 1))
    >>> scorer = PythonScorer(function=shouting, axes=("shouting",), version=1)
    >>> prepared = scorer.backbone.prepare(pa.table({"text": ["STOP", "Stop", "stop"]}))
    >>> [scores] = scorer.backbone.load([scorer], "cpu")(prepared, [0])
    >>> scores.values.tolist()
    [[1.0], [0.25], [0.0]]

    Attributes:
        function: see above.
        axes: names of the columns of scores.
        columns: what the function reads of the spans and their documents' corpus columns.
        version: stands for the function's source in the recipe; raise it when results change.
        anchors: by axis, a text that must score low and one that must score high; other columns are null in that check.
        batch_rows: rows of a table at most.
        gpu: whether the function uses a GPU; then each actor has one, where the cluster has them.
    """

    function: Callable[..., Any]
    axes: Sequence[str]
    columns: Sequence[str] = ("text",)
    version: str | int | None = None
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    batch_rows: int = 1024
    gpu: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigError(f"function must be callable, got {self.function!r}")
        for name, value in (("axes", self.axes), ("columns", self.columns)):
            object.__setattr__(self, name, as_tuple(value, name))
        check_axes(self.axes, self.anchors)
        if not self.columns:
            raise ConfigError("columns must name one column or more, got none")
        if self.batch_rows < 1:
            raise ConfigError(f"batch_rows must be positive, got {self.batch_rows}")

    @property
    def curves(self) -> Mapping[str, Curve]:
        """None: what a function's scores stand for is not known."""
        return {}

    @property
    def backbone(self) -> PythonScorer:
        """The function is all there is; nothing is shared."""
        return self

    def resolved(self) -> PythonScorer:
        """The same scorer: there is nothing to pin."""
        return self

    @functools.cached_property
    def _source(self) -> Json:
        """What identifies the function: read once, since files may be edited while a run goes on."""
        return source_identity(self.function, self.version)

    def identity(self) -> Json:
        """The function's source with that of what it reaches, or its version.

        Raises:
            ConfigError: there is no source, and no version.
        """
        return {
            "kind": "python",
            "function": self._source,
            "axes": list(self.axes),
            "columns": list(self.columns),
            "batch_rows": self.batch_rows,
        }

    def reading(self) -> None:
        """None: the columns are all that a function needs."""

    def prepare(self, spans: pa.Table, reading: None = None) -> Prepared:
        """Drop repeats; the distinct rows stay a table."""
        del reading
        distinct, inverse = drop_repeats(spans, self.columns)
        return Prepared(
            arrays={"table": distinct},
            inverse=inverse,
            distinct=distinct.num_rows,
            tokens=0,
            truncated=np.zeros(len(inverse), np.bool_),
        )

    def load(self, scorers: Sequence[object], device: str) -> Forward:
        """Make the object, where the function is a class."""
        call: Callable[..., Any] = self.function() if isinstance(self.function, type) else self.function
        return _FunctionForward(self, call, len(scorers))


class _FunctionForward:
    device = None

    def __init__(self, scorer: PythonScorer, call: Callable[..., Any], copies: int) -> None:
        self.scorer = scorer
        self.call = call
        self.copies = copies

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        scorer = self.scorer
        table: pa.Table = prepared.arrays["table"]
        rows, width = scorer.batch_rows, len(scorer.axes)
        ranges = [(start, min(start + rows, table.num_rows)) for start in range(0, table.num_rows, rows)]
        function = getattr(scorer.function, "__name__", type(scorer.function).__name__)
        name = f"the scorer of {', '.join(scorer.axes)} ({function})"

        def step(start: int, stop: int) -> FloatArray:
            scores = np.asarray(self.call(table.slice(start, stop - start)), dtype=np.float32)
            return scores[:, np.newaxis] if scores.ndim == 1 and width == 1 else scores

        values = np.full((table.num_rows, width), np.nan, np.float32)
        with _without_gradients():
            outcome = fill(values, step, ranges, name, _Anywhere())
        (scores,) = collect(values, np.arange(table.num_rows), [width], outcome)
        return [scores] * len(wanted)


class _Anywhere:
    """Where a function runs is not known. If it uses torch, what this says of a failure is heeded."""

    def fits(self, start: int, stop: int) -> bool:
        del start, stop
        return True

    def recover(self, error: Exception, start: int, stop: int) -> bool:
        del start, stop
        if "torch" not in sys.modules:
            return isinstance(error, MemoryError)
        from annotate.models.run import recover_from

        return recover_from(error)


def _without_gradients() -> contextlib.AbstractContextManager[object]:
    """What a function that runs a torch model needs. Where nothing has imported torch, neither does this."""
    if "torch" not in sys.modules:
        return contextlib.nullcontext()
    import torch

    return torch.inference_mode()
