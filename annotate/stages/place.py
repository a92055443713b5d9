"""Place the tags of a scheme: the truth about where tags are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.stages.base import Narrow, Stage, Tables
from annotate.stages.calibrate import bin_counts, read_scores, score_inputs
from annotate.stages.corpus import Corpus
from annotate.stages.fit_curves import read_curves
from annotate.stages.near_duplicates import NEAR_DUPLICATE, NearDuplicates
from annotate.stages.repeated_spans import RepeatedSpans
from annotate.stages.schedule import Schedule
from annotate.stages.score import Annotations
from annotate.stages.split import Split
from annotate.stages.tables import as_texts, span_texts
from annotate.stages.thresholds import Thresholds, threshold_values
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.tags.layouts import place
from annotate.tags.quantiles import image
from annotate.tags.rules import Quantile
from annotate.tags.scheme import TagScheme, at
from annotate.tags.states import Measured
from annotate.tags.timetable import tag_rates
from annotate.text.splits import Splits


@dataclass(frozen=True)
class Place(Narrow):
    """Tags of a scheme before the spans of kept documents where their rules hold.

    Attributes:
        scores: what rules read.
        verdicts: which documents are kept; None for all.
        thresholds: of the scheme.
        schedule: when documents are trained on; for a scheme that has phases.
    """

    scores: tuple[Annotations, ...]
    verdicts: NearDuplicates | None
    thresholds: Thresholds
    schedule: Schedule | None = None

    name: ClassVar[str] = "placements"
    schema: ClassVar[str] = "placements"

    def __post_init__(self) -> None:
        phases = self.schedule.phases if self.schedule is not None else ()
        if phases != self.scheme.phases:
            if self.schedule is not None:
                raise ConfigError(
                    "the tag scheme and its schedule must have the same phases",
                    hint="Give Schedule(phases=scheme.phases).",
                )
            names = ", ".join(phase.name for phase in self.scheme.phases)
            raise ConfigError(
                f"the tag scheme has phases ({names}), but no schedule says which documents are in them",
                hint="Give Place and the shards schedule=Schedule(spans, verdicts, scheme.phases).",
            )
        fitted = self.thresholds.calibration.curves is not None
        for axis in self.scheme.curves:
            if not fitted and axis not in self._shipped():
                tag = next(tag for tag in self.scheme.tags if axis in tag.parsed.curves)
                raise ConfigError(
                    f"{at(tag.where)}the rule of tag {tag.name!r} reads p({axis}), but no curve gives a "
                    f"probability for {axis!r}",
                    hint=f"Give Calibrate(labels=FILE), use a probe that has a curve, or compare with a quantile: "
                    f"`{axis} >= q(0.7)`.",
                )

    def _shipped(self) -> dict[str, Curve]:
        """Curves that the scorers have, of the axes that the rules read as a probability."""
        curves = {axis: curve for stage in self.scores for axis, curve in stage.curves.items()}
        return {axis: curve for axis, curve in curves.items() if axis in self.scheme.curves}

    @property
    def scheme(self) -> TagScheme:
        """The scheme whose thresholds these are."""
        return self.thresholds.scheme

    @property
    def spans(self) -> Split:
        """What is tagged."""
        return self.scores[0].spans

    @property
    def splits(self) -> Splits | None:
        """The splits of the calibration."""
        return self.thresholds.calibration.splits

    @property
    def places(self) -> tuple[Place, ...]:
        """Itself; of nested ones, each."""
        return (self,)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All that can be between angle brackets."""
        return self.scheme.spelled

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans of the calibration."""
        return self.thresholds.repeated

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts, thresholds; and what a scheme needs: curves, the calibration, the corpus."""
        optional = {
            "curves": self.thresholds.calibration.curves if self.scheme.curves else None,
            "calibration": self.thresholds.calibration if self.scheme.order == "rank" else None,
            "corpus": self.corpus if self._reads_corpus or self.scheme.groupings else None,
            "schedule": self.schedule if self.scheme.phases else None,
        }
        return {
            **score_inputs(self.scores, self.verdicts, self.repeated),
            "thresholds": self.thresholds,
            **{name: stage for name, stage in optional.items() if stage is not None},
        }

    @property
    def corpus(self) -> Corpus:
        """The corpus whose spans are tagged."""
        return self.scores[0].corpus

    @property
    def _reads_corpus(self) -> bool:
        """Whether rules read columns of the corpus, or a layout its text."""
        return bool(self.scheme.columns) or self.scheme.reads_text

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Those that rules read."""
        return self.scheme.columns

    def settings(self) -> Mapping[str, Any]:
        """The scheme, the curves that the scorers have, and what phases are drawn by."""
        curves = {axis: curve.to_json() for axis, curve in self._shipped().items()}
        drawn = {"schedule": self.schedule.drawn_by()} if self.schedule is not None and self.scheme.phases else {}
        return {**self.scheme.identity(), **({"curves": curves} if curves else {}), **drawn}

    def unit(self, tables: Tables) -> Output:
        """Place the tags of a unit."""
        spans, scores = read_scores(tables, self.scores, self.verdicts, self.repeated)
        position = pa.array(spans["row"].to_numpy() - tables.rows.start)
        if self.verdicts is not None and NEAR_DUPLICATE in self.scheme.axes:
            similarity = self.verdicts.similarities(tables["verdicts"], tables.shard)
            scores |= {NEAR_DUPLICATE: similarity[position.to_numpy()]}
        documents = self._documents(tables)
        measured = Measured(
            spans=spans,
            scores=scores,
            columns={
                name: as_texts(documents[name].take(position), name, tables.shard) for name in self.scheme.columns
            },
            thresholds=self._thresholds(tables, spans),
            curves=self._shipped() | (read_curves(tables["curves"]) if "curves" in self.inputs else {}),
            shard=tables.shard,
            untagged=self._untagged(tables, spans["row"].to_numpy()) if self.scheme.phases else None,
        )
        texts = span_texts(documents, spans, tables.rows, tables.shard) if self.scheme.reads_text else None
        ranks = self._ranks(tables, scores) if self.scheme.order == "rank" else None
        placed = place(measured, self.scheme, ranks=ranks, texts=texts)
        table = placed.cast(contract("placements").schema)
        opened = pc.filter(table["tag"], pc.not_equal(table["kind"], "close"))
        counts = {f"<{name}>": pc.sum(pc.equal(opened, name)).as_py() or 0 for name in self.scheme.shown}
        if self.scheme.groupings:
            unfitted = [np.isnan(each) for quantile, each in measured.thresholds.items() if quantile.by]
            counts["spans_of_a_group_without_scores"] = int(np.any(unfitted, axis=0).sum())
        unscored = np.any([np.isnan(values) for values in scores.values()], axis=0) if scores else np.zeros(0, bool)
        return Output(
            table,
            counts={
                **counts,
                "spans": spans.num_rows,
                "spans_with_a_null_score": int(unscored.sum()),
            },
        )

    def _thresholds(self, tables: Tables, spans: pa.Table) -> dict[Quantile, Any]:
        """The threshold of each quantile; of one by group that of each span."""
        fitted = threshold_values(tables["thresholds"])
        groups = {by: stage.groups(tables, spans) for by, stage in self.thresholds.by_group.items()}
        return {
            quantile: groups[quantile.by].spread(fitted.get(quantile, {})) if quantile.by else fitted[quantile][()]
            for quantile in self.scheme.quantiles
        }

    def _documents(self, tables: Tables) -> pa.Table:
        """The documents of a unit, where rules or layouts read them."""
        if not self._reads_corpus:
            return pa.table({})
        corpus = self.corpus
        return corpus.documents(tables.directory("corpus"), tables.unit("corpus"), extra=self.scheme.columns)

    def _untagged(self, tables: Tables, row: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The spans of documents that their phase leaves without tags: bool `[n_spans]`."""
        assert self.schedule is not None, "there are phases"
        rows, of_span = np.unique(row, return_inverse=True)
        rates = tag_rates(tables["schedule"], self.schedule.places(tables.shard, rows))
        untagged: npt.NDArray[np.bool_] = self.schedule.untagged(tables.shard, rows, rates)[of_span]
        return untagged

    def _ranks(self, tables: Tables, scores: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """The share of all scores that lie in lower bins than each score does, by axis."""
        ranks = {}
        for axis in tables["calibration"]["axis"].to_pylist():
            counts = bin_counts(tables["calibration"], axis)
            below = np.cumsum(counts) - counts
            values = scores[axis]
            known = ~np.isnan(values)
            ranks[axis] = np.full(len(values), np.nan)
            ranks[axis][known] = below[image(values[known]) >> np.uint32(16)] / max(counts.sum(), 1)
        return ranks

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when a tag is nowhere or everywhere, and when spans have no threshold."""
        spans = manifest.counts.get("spans", 0)
        said = []
        if unfitted := manifest.counts.get("spans_of_a_group_without_scores", 0):
            said.append(
                f"{unfitted:,} of {spans:,} spans are of groups without a score to fit a quantile on: the rules that "
                "compare with it never hold there"
            )
        for name, shown in zip(self.scheme.names, self.scheme.shown, strict=True):
            n = manifest.counts.get(f"<{shown}>", 0)
            rule = next((tag.rule for tag in self.scheme.tags if tag.name == name), None)
            if spans and n in (0, spans) and rule is not None and self.scheme.control == "none":
                where = "no span" if n == 0 else "every span"
                said.append(f"<{shown}> is on {where}: its rule is `{rule}`")
        return said
