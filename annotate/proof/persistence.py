"""Metric 15: what is left of the tags after more training on text without them.

The model with true tags, of seed 0, is trained on from its last checkpoint: for a quarter of the steps, at a quarter of
the learning rate, with a new optimizer, on the text that it was trained on, without tags. Its windows come in another
order, unless they are in phases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annotate.proof.arms import THEN_NO_TAGS, TRUE
from annotate.proof.gaps import swap_gaps
from annotate.proof.intervals import Float64, Int64, Interval, mean_interval, ratio_interval
from annotate.proof.runs import Run, Work

LESS = 4  # the steps and the rate are divided by it
FIRST = Run(arm=TRUE, seed=0)
THEN = Run(arm=THEN_NO_TAGS, seed=0)


@dataclass(frozen=True, kw_only=True)
class Left:
    """A measure before and after, of one model, so that intervals are of documents or of texts alone.

    Attributes:
        before: after the training with tags.
        after: after the training without.
        share: `after` as a share of `before`; None where `before` is not above 0.
    """

    before: Interval
    after: Interval
    share: Interval | None


@dataclass(frozen=True, kw_only=True)
class OfPersistence:
    """What is left of a family of tags.

    Attributes:
        tags: of the family.
        gap: the swap gap, nats a span.
        judged: the judged difference of texts, mean over tags, each in the direction of the corpus; None if no texts
            were written, or if the judge does not tell the spans of the corpus apart by any tag.
    """

    tags: tuple[str, ...]
    gap: Left
    judged: Left | None


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """The training without tags: its steps and highest learning rate; and what is left of each family."""

    steps: int
    learning_rate: float
    families: tuple[OfPersistence, ...]


def further(work: Work) -> Work:
    """The training that goes on with the last model of `FIRST`."""
    recipe = replace(
        work.recipe,
        steps=max(1, work.recipe.steps // LESS),
        checkpoints=1,
        learning_rate=work.recipe.learning_rate / LESS,
    )
    return replace(work, recipe=recipe, start=work.model_folder(FIRST, work.recipe.steps))


def gap_left(before: Float64, after: Float64, states: Int64, documents: Int64) -> Left:
    """What is left of the swap gap.

    Args:
        before: float64 `[n, states]`, log-likelihoods of spans.
        after: of the same shape.
        states: int64 `[n]`, the tag of each span.
        documents: int64 `[n]`.
    """
    was, then = swap_gaps(before, states), swap_gaps(after, states)
    counted = ~np.isnan(was)
    return _left(was[counted], then[counted], documents[counted])


def judged_left(before: Float64, after: Float64) -> Left:
    """What is left of a judged difference, float64 `[n]` by text; texts of one number are a pair."""
    return _left(before, after, np.arange(len(before)))


def _left(before: Float64, after: Float64, documents: Int64) -> Left:
    was = mean_interval(before, documents)
    return Left(
        before=was,
        after=mean_interval(after, documents),
        share=ratio_interval(after, before, documents) if was.above_zero else None,
    )
