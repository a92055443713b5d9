"""What a model is to this package: a backbone prepares the spans of a work unit, its loaded form scores them.

Scoring a unit has three steps. `Backbone.prepare` runs on a CPU and holds no model: it drops repeated inputs,
tokenizes, sorts by length and cuts batches. `Forward.__call__` runs in the actor that holds the model, and sees only
what `prepare` made. `expand` puts the scores back in span order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError

if TYPE_CHECKING:
    import torch

Json = Mapping[str, Any]
FloatArray = npt.NDArray[np.float32]

Pool = Literal["mean", "max", "first", "last"]
"""How hidden states `[tokens, width]` become `[width]`: over all tokens, special ones too, or the state of one."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The distinct inputs of one work unit, ready for a model.

    Attributes:
        arrays: what the model reads. Each kind of backbone says which arrays, and of what shape.
        inverse: int64 `[n_spans]`, the distinct input of each span; -1 - i for a span that the model is not run on, for
            reason i of `not_run`.
        distinct: number of distinct inputs.
        tokens: number of model tokens of the distinct inputs, 0 where there is no tokenizer.
        truncated: bool `[n_spans]`, whether the span was longer than the model's window.
        context_cut: bool `[n_spans]`, whether the prompt or context before the span lost its start, because both
            together were too long; None where there is neither.
        unfit: by distinct input, the reason why its score is dropped, whatever the model gives.
        unknown: bool `[n_spans]`, whether the model's tokenizer does not know half of the span or more; None where
            there is no tokenizer.
        not_run: reasons why the model is not run on some spans.
    """

    arrays: Mapping[str, Any]
    inverse: npt.NDArray[np.int64]
    distinct: int
    tokens: int
    truncated: npt.NDArray[np.bool_]
    context_cut: npt.NDArray[np.bool_] | None = None
    unfit: Mapping[int, str] = field(default_factory=dict)
    unknown: npt.NDArray[np.bool_] | None = None
    not_run: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of one scorer for the distinct inputs of one unit.

    Attributes:
        values: float32 `[n_distinct, n_axes]`, NaN where scoring failed.
        failures: reason by distinct input, for every input that has a NaN.
        halved: how many batches were cut in two (out of memory, or to find an input that raises).
        too_large: how many of these did not fit in memory.
    """

    values: FloatArray
    failures: Mapping[int, str] = field(default_factory=dict)
    halved: int = 0
    too_large: int = 0


class BrokenDevice(Exception):
    """The device of this process can't be used any more, as after an assertion on a GPU: the process has to end."""


class Forward(Protocol):
    """A loaded model with the heads of some scorers."""

    @property
    def device(self) -> torch.device | None:
        """Where the model is; None where torch is not used."""
        ...

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the scorers at positions `wanted` of those the model was loaded with, in that order.

        Raises:
            BrokenDevice: this process can't go on.
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """The expensive part of a scorer, hashable and picklable. It holds settings, never weights."""

    @property
    def gpu(self) -> bool:
        """Whether a GPU is of use to it."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the span table that `prepare` reads."""
        ...

    def reading(self) -> Any:
        """What `prepare` needs beside the settings, such as the tokenizer. It can be sent to other processes.

        Raises:
            ConfigError: it can't be found.
        """
        ...

    def prepare(self, spans: pa.Table, reading: Any = None) -> Prepared:
        """Drop repeats, tokenize, sort and batch: a pure function of the span table and the settings.

        Args:
            spans: the span table.
            reading: what `reading` returned; None to find it here.
        """
        ...

    def load(self, scorers: Sequence[Any], device: str) -> Forward:
        """Read the weights onto `device`, with the heads of some scorers.

        Args:
            scorers: those that have this backbone. Each backbone says what it needs of them: an encoder a `head`, a
                sequence classifier a `readout`, a causal model a `sign`.
            device: "cpu" or "cuda".

        Raises:
            ConfigError: the model can't be loaded, or is not what the scorers say.
        """
        ...


def without(prepared: Prepared, rest: Prepared, left_out: Mapping[int, str]) -> Prepared:
    """Inputs of a unit, without some that end the process of the model.

    Args:
        prepared: all inputs.
        rest: what the backbone made of the spans that are left.
        left_out: the distinct inputs that are left out, each with the reason.
    """
    reasons = sorted(set(left_out.values()))
    codes = np.zeros(prepared.distinct, np.int64)
    codes[list(left_out)] = [-1 - reasons.index(reason) for reason in left_out.values()]
    inverse = codes[prepared.inverse]
    inverse[inverse == 0] = rest.inverse
    return replace(
        prepared,
        arrays=rest.arrays,
        inverse=inverse,
        distinct=rest.distinct,
        tokens=rest.tokens,
        unfit=rest.unfit,
        not_run=reasons,
    )


def check_served(scorers: Sequence[object], member: str, backbone: str) -> None:
    """Refuse a scorer that lacks what its backbone needs of it.

    Args:
        scorers: those that the backbone is loaded with.
        member: what it needs.
        backbone: what to call it in the message.

    Raises:
        ConfigError: one has no such member.
    """
    for scorer in scorers:
        if not hasattr(scorer, member):
            raise ConfigError(f"{backbone} serves scorers that have a `{member}`, got {type(scorer).__name__}")


def expand(prepared: Prepared, scores: Scores) -> tuple[FloatArray, dict[int, str]]:
    """Put scores of distinct inputs back in span order.

    Returns:
        float32 `[n_spans, n_axes]`, and the reason of failure by span.
    """
    run = prepared.inverse >= 0
    values = np.full((len(run), scores.values.shape[1]), np.nan, np.float32)
    values[run] = scores.values[prepared.inverse[run]]
    failures = {**scores.failures, **prepared.unfit}
    if not failures and run.all():
        return values, {}
    values[np.isin(prepared.inverse, np.fromiter(prepared.unfit, np.int64))] = np.nan
    failed = ~run | np.isin(prepared.inverse, np.fromiter(failures, np.int64))
    reasons = {**{-1 - i: reason for i, reason in enumerate(prepared.not_run)}, **failures}
    return values, {int(i): reasons[int(prepared.inverse[i])] for i in np.flatnonzero(failed)}
