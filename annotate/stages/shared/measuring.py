"""Reads the values that the rules of a tag scheme need, from the datasets of a pipeline: a value for each span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.curves import Curve
from annotate.graph import Documents, Map, Stage, Tables
from annotate.stages.calibrate import Calibrate, bin_counts
from annotate.stages.fit_curves import read_curves
from annotate.stages.near_duplicates import NEAR_DUPLICATE, NearDuplicates
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.joined_scores import read_scores, score_inputs
from annotate.stages.shared.tables import as_texts
from annotate.stages.thresholds import Thresholds, threshold_values
from annotate.tags.conditions import Quantile
from annotate.tags.quantiles import image
from annotate.tags.scheme import TagScheme
from annotate.tags.states import Measured, Ranks


@dataclass(frozen=True)
class Measuring(Map):
    """A stage that reads the values that rules need, of the spans of kept documents that are not left out.

    Attributes:
        thresholds: of the scheme.
    """

    thresholds: Thresholds

    @property
    def calibration(self) -> Calibrate:
        """The calibration that thresholds come from."""
        return self.thresholds.calibration

    @property
    def scores(self) -> Sequence[Annotations]:
        """The scores that rules read."""
        return self.calibration.scores

    @property
    def verdicts(self) -> NearDuplicates | None:
        """The verdicts, which say which documents are kept; None if all are."""
        return self.calibration.verdicts

    @property
    def scheme(self) -> TagScheme:
        """The scheme whose thresholds these are."""
        return self.thresholds.scheme

    @property
    def corpus(self) -> Documents:
        """The corpus whose spans these are."""
        return self.calibration.corpus

    @property
    def reads_text(self) -> bool:
        """Whether the text of documents is read too."""
        return False

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns that rules read."""
        return self.scheme.columns

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts, thresholds; and what a scheme needs: curves, the calibration, the corpus."""
        optional = {
            "curves": self.calibration.curves if self.scheme.curves else None,
            "calibration": self.calibration if self.scheme.order == "rank" else None,
            "corpus": self.corpus if self._reads_corpus or self.scheme.groupings else None,
        }
        return {
            **score_inputs(self.scores, self.calibration.found_repeated),
            "thresholds": self.thresholds,
            **{name: stage for name, stage in optional.items() if stage is not None},
        }

    def settings(self) -> Mapping[str, Any]:
        """The scheme, and the curves that the scorers have."""
        curves = {axis: curve.to_json() for axis, curve in self._shipped().items()}
        return {**self.scheme.identity(), **({"curves": curves} if curves else {})}

    def measured(self, tables: Tables, documents: pa.Table) -> Measured:
        """The values of the spans of a unit. `documents` is the result of the method `documents`."""
        spans, scores = read_scores(tables, self.scores, self.calibration.found_repeated)
        position = pa.array(spans["row"].to_numpy() - tables.rows.start)
        if self.verdicts is not None and NEAR_DUPLICATE in self.scheme.axes:
            similarity = self.verdicts.similarities(tables["verdicts"], tables.shard)
            scores |= {NEAR_DUPLICATE: similarity[position.to_numpy()]}
        return Measured(
            spans=spans,
            scores=scores,
            columns={
                # Views: a span has the text of its document, and not a copy.
                name: pl.Series(as_texts(documents[name], name, tables.shard))[position.to_numpy()]
                for name in self.scheme.columns
            },
            thresholds=self._thresholds(tables, spans),
            curves=self._shipped() | (read_curves(tables["curves"]) if "curves" in self.inputs else {}),
            shard=tables.shard,
        )

    def documents(self, tables: Tables) -> pa.Table:
        """The documents of a unit, if their text is read; else the columns that rules read, if any."""
        if not self._reads_corpus:
            return pa.table({})
        if not self.reads_text:
            return self.corpus.reader.others(tables.directory("corpus"), tables.unit("corpus"), self.scheme.columns)
        return self.corpus.reader.documents(
            tables.directory("corpus"), tables.unit("corpus"), extra=self.scheme.columns
        )

    def ranks(self, tables: Tables, scores: Mapping[str, npt.NDArray[np.float32]]) -> Ranks | None:
        """For each score, the share of all scores that lie in lower bins, by axis; None if ranks are not read."""
        if self.scheme.order != "rank":
            return None
        ranks = {}
        for axis in tables["calibration"]["axis"].to_pylist():
            counts = bin_counts(tables["calibration"], axis)
            below = np.cumsum(counts) - counts
            values = scores[axis]
            known = ~np.isnan(values)
            ranks[axis] = np.full(len(values), np.nan)
            ranks[axis][known] = below[image(values[known]) >> np.uint32(16)] / max(counts.sum(), 1)
        return ranks

    @property
    def _reads_corpus(self) -> bool:
        return bool(self.scheme.columns) or self.reads_text

    def _shipped(self) -> dict[str, Curve]:
        """Curves that the scorers have, of the axes that the rules read as a probability."""
        curves = {axis: curve for stage in self.scores for axis, curve in stage.curves.items()}
        return {axis: curve for axis, curve in curves.items() if axis in self.scheme.curves}

    def _thresholds(self, tables: Tables, spans: pa.Table) -> dict[Quantile, Any]:
        """The threshold of each quantile. For a quantile by group it is an array, with the threshold of each span."""
        fitted = threshold_values(tables["thresholds"])
        groups = {by: stage.groups(tables, spans) for by, stage in self.thresholds.by_group.items()}
        return {
            quantile: groups[quantile.by].spread(fitted.get(quantile, {})) if quantile.by else fitted[quantile][()]
            for quantile in self.scheme.quantiles
        }
