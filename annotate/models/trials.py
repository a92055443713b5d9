"""What a model did with some settings: how fast it was, and how far its scores moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUANTILE = 0.7
"""Spans above it would get a tag: how many change sides is told of each trial."""
FLIPPED = 0.01
"""Settings that move a larger share of spans to the other side are not proposed."""
SECONDS = 3.0
"""What one pass over a sample takes, if not said otherwise."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a model did with some settings.

    Attributes:
        dtype: of its layers.
        batch_tokens: padded tokens of a batch at most.
        tokens_per_second: padding not counted; 0 if there was a problem.
        off: how far scores are from those with the settings as they are: root mean square, as a share of the standard
            deviation of all scores. Of several axes, the largest.
        flipped: the share of spans that are on the other side of the quantile 0.7. Of several axes, the largest.
        memory: most memory that tensors took on a GPU, in bytes; None on a CPU.
        problem: why it was not measured; empty if it was.
    """

    dtype: str
    batch_tokens: int
    tokens_per_second: float = 0.0
    off: float = 0.0
    flipped: float = 0.0
    memory: int | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What was tried.

    Attributes:
        model: its name.
        device: "cpu" or "cuda".
        threads: of the model on a CPU.
        spans: distinct spans of the sample.
        tokens: their tokens.
        prepared_per_second: tokens a second of what goes before the model: tokenizing, sorting, batching; on one CPU.
        tried: with the settings as they are first.
    """

    model: str
    device: str
    threads: int
    spans: int
    tokens: int
    prepared_per_second: float
    tried: Sequence[Trial]

    @property
    def now(self) -> Trial:
        """With the settings as they are."""
        return self.tried[0]

    @property
    def best(self) -> Trial:
        """The fastest of those that move at most 1 % of the spans. Of equally fast ones, that of smaller batches."""
        allowed = [trial for trial in self.tried if not trial.problem and trial.flipped <= FLIPPED]
        most = max(trial.tokens_per_second for trial in allowed)
        good = [trial for trial in allowed if trial.tokens_per_second > 0.97 * most]
        return next((trial for trial in good if trial == self.now), min(good, key=lambda trial: trial.batch_tokens))
