"""Place the tags of a scheme: the truth about where tags are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.stages.base import Narrow, Stage, Tables
from annotate.stages.calibrate import read_scores, score_inputs
from annotate.stages.fit_curves import read_curves
from annotate.stages.near_duplicates import NEAR_DUPLICATE, NearDuplicates
from annotate.stages.repeated_spans import RepeatedSpans
from annotate.stages.score import Score
from annotate.stages.thresholds import Thresholds, threshold_values
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.tags.placements import place
from annotate.tags.scheme import TagScheme


@dataclass(frozen=True)
class Place(Narrow):
    """Tags of a scheme before the spans of kept documents where their rules hold."""

    scores: tuple[Score, ...]
    verdicts: NearDuplicates | None
    thresholds: Thresholds

    name: ClassVar[str] = "placements"
    schema: ClassVar[str] = "placements"

    def __post_init__(self) -> None:
        fitted = self.thresholds.calibration.curves is not None
        for axis in self.scheme.curves:
            if not fitted and axis not in self._shipped():
                raise ConfigError(
                    f"a rule reads p({axis}), but no curve gives a probability for {axis!r}",
                    hint=f"Give Calibrate(labels=FILE), use a probe that has a curve, or compare with a quantile: "
                    f"`{axis} >= q(0.7)`.",
                )

    def _shipped(self) -> dict[str, Curve]:
        """Curves that the scorers have, of the axes that the rules read as a probability."""
        curves = {axis: curve for s in self.scores for axis, curve in getattr(s.scorer, "curves", {}).items()}
        return {axis: curve for axis, curve in curves.items() if axis in self.scheme.curves}

    @property
    def scheme(self) -> TagScheme:
        """The scheme whose thresholds these are."""
        return self.thresholds.scheme

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans of the calibration."""
        return self.thresholds.repeated

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts, thresholds; and curves, where a rule reads a probability fitted on labels."""
        curves = self.thresholds.calibration.curves if self.scheme.curves else None
        fitted: Mapping[str, Stage] = {"curves": curves} if curves is not None else {}
        return {**score_inputs(self.scores, self.verdicts, self.repeated), "thresholds": self.thresholds, **fitted}

    def settings(self) -> Mapping[str, Any]:
        """The scheme, and the curves that the scorers have."""
        curves = {axis: curve.to_json() for axis, curve in self._shipped().items()}
        return {**self.scheme.identity(), **({"curves": curves} if curves else {})}

    def unit(self, tables: Tables) -> Output:
        """Place the tags of a unit."""
        spans, scores = read_scores(tables, self.scores, self.verdicts, self.repeated)
        if self.verdicts is not None and NEAR_DUPLICATE in self.scheme.axes:
            similarity = self.verdicts.similarities(tables["verdicts"], tables.shard)
            scores |= {NEAR_DUPLICATE: similarity[spans["row"].to_numpy() - tables.rows.start]}
        curves = self._shipped() | (read_curves(tables["curves"]) if "curves" in self.inputs else {})
        placed = place(spans, scores, self.scheme, threshold_values(tables["thresholds"]), curves)
        table = placed.cast(contract("placements").schema)
        counts = {f"<{tag.name}>": pc.sum(pc.equal(table["tag"], tag.name)).as_py() or 0 for tag in self.scheme.tags}
        tagged = len(np.unique(np.stack([table["row"].to_numpy(), table["offset"].to_numpy()]), axis=1).T)
        unscored = np.any([np.isnan(values) for values in scores.values()], axis=0) if scores else np.zeros(0, bool)
        return Output(
            table,
            counts={
                **counts,
                "spans": spans.num_rows,
                "tagged_spans": tagged,
                "spans_with_a_null_score": int(unscored.sum()),
            },
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when a tag is nowhere or everywhere."""
        spans = manifest.counts.get("spans", 0)
        said = []
        for tag in self.scheme.tags:
            n = manifest.counts.get(f"<{tag.name}>", 0)
            if spans and n in (0, spans):
                where = "no span" if n == 0 else "every span"
                said.append(f"<{tag.name}> is on {where}: its rule is `{tag.rule}`")
        return said
