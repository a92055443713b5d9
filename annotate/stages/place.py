"""Place the tags of a scheme: the truth about where tags are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from annotate.stages.base import Narrow, Stage, Tables
from annotate.stages.calibrate import read_scores, score_inputs
from annotate.stages.near_duplicates import NearDuplicates
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

    @property
    def scheme(self) -> TagScheme:
        """The scheme whose thresholds these are."""
        return self.thresholds.scheme

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts and thresholds."""
        return {**score_inputs(self.scores, self.verdicts), "thresholds": self.thresholds}

    def settings(self) -> Mapping[str, Any]:
        """The scheme."""
        return dict(self.scheme.identity())

    def unit(self, tables: Tables) -> Output:
        """Place the tags of a unit."""
        spans, scores = read_scores(tables, self.scores, self.verdicts)
        placed = place(spans, scores, self.scheme, threshold_values(tables["thresholds"]), {})
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
