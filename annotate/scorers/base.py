"""What a scorer is: the protocol that every kind, and a user's own, implements.

Scoring a work unit has three steps. `Backbone.prepare` runs on a CPU and holds no model: it drops repeated inputs,
tokenizes, sorts by length and cuts batches. `Forward.__call__` runs in the actor that holds the model and sees only
what `prepare` made. `expand` puts the scores back in span order. Scorers with equal backbones share `prepare` and one
forward pass; each has a head of its own, so a new axis never rescores the old ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Json = Mapping[str, Any]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The distinct inputs of one work unit, ready for a model.

    Attributes:
        arrays: what the model reads: `[n_distinct]`-shaped or flat arrays, or a table column for a Python function.
        inverse: int64 `[n_spans]`, the distinct input of each span.
        distinct: number of distinct inputs.
        tokens: number of model tokens of the distinct inputs, 0 where there is no tokenizer.
        truncated: bool `[n_spans]`, whether the span was longer than the model's window.
        context_cut: bool `[n_spans]`, whether what is read before the span (a prompt, a context) lost its start for
            the same reason; None where nothing is.
        unfit: by distinct input, why it can't be scored, whatever the model gives for it.
        unknown: bool `[n_spans]`, whether the model's tokenizer does not know half of the span or more; None where
            there is no tokenizer.
    """

    arrays: Mapping[str, Any]
    inverse: npt.NDArray[np.int64]
    distinct: int
    tokens: int
    truncated: npt.NDArray[np.bool_]
    context_cut: npt.NDArray[np.bool_] | None = None
    unfit: Mapping[int, str] = field(default_factory=dict)
    unknown: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of one scorer for the distinct inputs of one unit.

    Attributes:
        values: float32 `[n_distinct, n_axes]`, NaN where scoring failed.
        failures: reason by distinct input, for every input that has a NaN.
        halved: how many batches were cut in two (out of memory, or to find an input that raises).
    """

    values: FloatArray
    failures: Mapping[int, str] = field(default_factory=dict)
    halved: int = 0


class Forward(Protocol):
    """A loaded model with the heads of some scorers; where it runs on torch, its attribute `device` says on what."""

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the scorers at positions `wanted` of those the model was loaded with, in that order."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """The expensive part of a scorer, hashable and picklable; it holds settings, never weights."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the span table that `prepare` reads."""
        ...

    def prepare(self, spans: pa.Table) -> Prepared:
        """Drop repeats, tokenize, sort and batch: a pure function of the span table and the settings."""
        ...

    def load(self, scorers: Sequence[Scorer], device: str) -> Forward:
        """Read the weights onto `device` ("cpu" or "cuda").

        Raises:
            ConfigError: the model can't be loaded, or is not what the scorers say.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """Gives every span a float32 score on one or more axes.

    One that knows how its scores become probabilities may also have `curves`: by axis, a curve of `annotate.curves`.
    One that has no use for a GPU may say so by `gpu = False`.
    """

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what is measured, one a column of the scores."""
        ...

    @property
    def backbone(self) -> Backbone:
        """What does the work; scorers with equal backbones share it."""
        ...

    @property
    def anchors(self) -> Mapping[str, tuple[str, str]]:
        """By axis, a text that must score low and one that must score high."""
        ...

    def resolved(self) -> Scorer:
        """The same scorer with every name pinned (a hub revision to a commit, a path to an absolute one)."""
        ...

    def identity(self) -> Json:
        """All that can change a score, JSON-ready, with hashes of the model's files and no path; part of the recipe."""
        ...


def expand(prepared: Prepared, scores: Scores) -> tuple[FloatArray, dict[int, str]]:
    """Put scores of distinct inputs back in span order.

    Returns:
        float32 `[n_spans, n_axes]`, and the reason of failure by span.
    """
    values = scores.values[prepared.inverse]
    failures = {**scores.failures, **prepared.unfit}
    if not failures:
        return values, {}
    values[np.isin(prepared.inverse, np.fromiter(prepared.unfit, np.int64))] = np.nan
    failed = np.isin(prepared.inverse, np.fromiter(failures, np.int64))
    return values, {int(i): failures[int(prepared.inverse[i])] for i in np.flatnonzero(failed)}
