"""A weighted sum of scores, as an axis of its own: a likelihood ratio, or what several scorers say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.graph import Map, Stage, Tables
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.shared.annotations import Annotations, check_axis_columns
from annotate.stages.shared.joined_scores import check_scores, kept_scores, named_scores, score_inputs
from annotate.stages.split import Split
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class Combined(Annotations, Map):
    """A weighted sum of scores of spans. No model runs for it, so other weights cost no rescoring.

        unkind = Combined(scores, axis="unkind", weights={"niceness": -1})
        placements = Place((*scores, unkind), scheme)

    A span that lacks one of the scores has none.

    Attributes:
        scores: what `score` returned, or other annotations of the same spans.
        axis: name of the sum.
        weights: by axis of `scores`; axes that are not named do not count.
    """

    scores: Sequence[Annotations]
    _: KW_ONLY
    axis: str
    weights: Mapping[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", as_tuple(self.scores, "scores"))
        check_scores(self.scores)
        check_axis_columns(self.axes)
        there = [axis for stage in self.scores for axis in stage.axes]
        if unknown := sorted(self.weights.keys() - set(there)):
            raise ConfigError(
                f"weights name the axis {unknown[0]!r}, which no score has", hint=f"Scored axes: {', '.join(there)}."
            )
        if not self.weights or not all(np.isfinite(weight) and weight for weight in self.weights.values()):
            raise ConfigError(
                f"weights must be one or more finite numbers other than 0, got {dict(self.weights)}",
                hint='Name the axes that count, as in weights={"large": 1, "small": -1}.',
            )
        if self.axis in there:
            raise ConfigError(f"a score is of the axis {self.axis!r} already", hint="Give the sum another axis name.")

    @property
    def spans(self) -> Split:  # type: ignore[override]  # of what is summed up
        """What has scores."""
        return self.scores[0].spans

    @property
    def skip(self) -> NearDuplicates | None:  # type: ignore[override]
        """Verdicts; documents that are not kept have no scores."""
        return self.scores[0].skip

    @property
    def axes(self) -> tuple[str, ...]:
        """The one axis."""
        return (self.axis,)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, the scores, and verdicts if any."""
        return score_inputs(self.scores, None)

    def settings(self) -> Mapping[str, Any]:
        """The axis and the weights."""
        return {"axes": [self.axis], "weights": {axis: float(weight) for axis, weight in self.weights.items()}}

    def unit(self, tables: Tables) -> UnitOutput:
        """Sum up the scores of a unit's spans, in float64, in the order of the weights' names."""
        spans, scores = kept_scores(tables, named_scores(self.scores), verdicts=self.skip is not None)
        total = np.zeros(spans.num_rows, np.float64)
        for axis in sorted(self.weights):
            total += self.weights[axis] * scores[axis].astype(np.float64)
        values = total.astype(np.float32)
        missing = ~np.isfinite(values)
        table = {"row": spans["row"], "span": spans["span"], "truncated": np.zeros(len(values), bool)}
        return UnitOutput(
            pa.table({**table, self.axis: pa.array(values, mask=missing)}),
            counts={"spans": len(values), "without_score": int(missing.sum())},
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say how many spans lack a score that is part of the sum."""
        if not (without := manifest.counts.get("without_score", 0)):
            return []
        return [
            f"{without:,} of {manifest.counts['spans']:,} spans have no {self.axis}: one of "
            f"{', '.join(sorted(self.weights))} has no score there"
        ]
