"""The check that a scorer measures in the direction that the user means."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.models.base import Backbone, Forward, expand
from annotate.scorers.base import Scorer


def check_anchors(scorers: Sequence[Scorer], backbone: Backbone, forward: Forward) -> None:
    """Score each scorer's anchor texts, and refuse one that has them the wrong way round.

    Args:
        scorers: those that `forward` was loaded with, in that order.
        backbone: theirs; columns that it reads beside the text are null in this check.
        forward: the loaded model.

    Raises:
        ConfigError: an anchor that must score low scores as high as the other, or can't be scored.
    """
    for position, scorer in enumerate(scorers):
        pairs = [(axis, scorer.anchors[axis]) for axis in scorer.axes if axis in scorer.anchors]
        if not pairs:
            continue
        texts = [text for _, pair in pairs for text in pair]
        columns = {name: pa.array(texts) if name == "text" else pa.nulls(len(texts)) for name in backbone.columns}
        prepared = backbone.prepare(pa.table(columns))
        (scores,) = forward(prepared, [position])
        values, failures = expand(prepared, scores)
        if failures:
            reason = next(iter(failures.values()))
            raise ConfigError(f"an anchor text of {pairs[0][0]!r} can't be scored: {reason}")
        for i, (axis, (low, high)) in enumerate(pairs):
            column = scorer.axes.index(axis)
            _check_pair(axis, low, high, float(values[2 * i, column]), float(values[2 * i + 1, column]))


def _check_pair(axis: str, low: str, high: str, low_score: float, high_score: float) -> None:
    if low_score < high_score:
        return
    raise ConfigError(
        f"the anchors of {axis!r} score the wrong way round: {low!r} must score low and got {low_score:.4g}, "
        f"{high!r} must score high and got {high_score:.4g}",
        hint="set sign=-1 or the other label, if the model measures the opposite; or choose clearer anchors",
    )
