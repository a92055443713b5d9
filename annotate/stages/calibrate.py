"""Calibration: the distribution of scores on each axis over kept documents; it knows no threshold."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import Reduce, Stage, Tables
from annotate.randomness import bottom_k, keyed_hash, name_key
from annotate.stages.fit_curves import FitCurves, Kind, fit_curves
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.repeated_spans import REPEATS, RepeatedSpans, dropped_spans, repeats
from annotate.stages.score import Annotations, kept_scores
from annotate.storage.contracts import contract
from annotate.storage.parts import Output
from annotate.tags.quantiles import BINS, histogram
from annotate.text.splits import Splits


def score_inputs(
    scores: tuple[Annotations, ...], verdicts: NearDuplicates | None, repeated: RepeatedSpans | None
) -> dict[str, Stage]:
    """The inputs of a stage that reads scores: spans, annotations by number, verdicts and repeated spans if any.

    Raises:
        ConfigError: there are no scores, they are of different spans, or were scored under other verdicts.
    """
    if not scores:
        raise ConfigError("there are no scores", hint="Give what score(spans, scorers=[...]) returns.")
    if len({stage.spans for stage in scores}) > 1:
        raise ConfigError("the scores are of different spans", hint="Score all axes on one Split stage.")
    axes = [axis for stage in scores for axis in stage.axes]
    if twice := sorted({axis for axis in axes if axes.count(axis) > 1}):
        raise ConfigError(f"two scores are of the axis {twice[0]!r}", hint="Give one of them another axis name.")
    if any(stage.skip != verdicts for stage in scores):
        raise ConfigError("scores and the stages after them must be given the same verdicts")
    if repeated is not None and (repeated.spans, repeated.verdicts) != (scores[0].spans, verdicts):
        raise ConfigError("repeated spans must be of the spans that are scored, under the same verdicts")
    named: dict[str, Stage] = {f"scores-{i}": stage for i, stage in enumerate(scores)}
    optional = {"verdicts": verdicts, "repeated": repeated}
    return {"spans": scores[0].spans, **named, **{name: stage for name, stage in optional.items() if stage is not None}}


def read_scores(
    tables: Tables,
    scores: tuple[Annotations, ...],
    verdicts: NearDuplicates | None,
    repeated: RepeatedSpans | None,
    splits: Splits | None = None,
) -> tuple[pa.Table, dict[str, npt.NDArray[np.float32]]]:
    """Spans and scores of the kept documents of a unit, from inputs named by `score_inputs`.

    Spans that are left out are not among them; where there are repeated spans, their number is the score `repeats`.
    With splits, those of the documents for calibration alone.
    """
    named = {f"scores-{i}": stage for i, stage in enumerate(scores)}
    spans, values = kept_scores(tables, named, verdicts=verdicts is not None)
    stay = np.ones(spans.num_rows, bool)
    if repeated is not None:
        values = {**values, REPEATS: repeats(tables["repeated"], spans)}
        stay &= ~dropped_spans(tables["repeated"], spans)
    if splits is not None:
        chosen = splits.chosen(tables["verdicts"]["split_group"].to_numpy(), "calibration")
        stay &= chosen[spans["row"].to_numpy() - tables.rows.start]
    if stay.all():
        return spans, values
    return spans.filter(pa.array(stay)), {axis: each[stay] for axis, each in values.items()}


@dataclass(frozen=True)
class Calibrate(Reduce):
    """Counts of scores by bin, and a sample of spans with all axes together.

    Both merge exactly, in any order: integer counts over the high 16 bits of the order-preserving image of the float32
    score, and the spans with the smallest keyed hashes.

    Attributes:
        scores: what `score()` returns.
        verdicts: what the scores skipped.
        sample: spans in the sample.
        seed: of the sample.
        labels: a file of labelled texts, on which the curves are fitted that `p(axis)` in a rule reads (a column of
            texts, and a column of labels, 0, 1 or null, named after each axis); None for the curves that scorers have.
        labels_kind: "platt", "isotonic", or "auto" for isotonic where there are 1,000 labels or more.
        repeated: spans that occur many times in the corpus; those that are left out are not counted here.
        splits: documents for training, calibration and evaluation; only those for calibration are counted here, so
            thresholds come from them alone.
    """

    scores: tuple[Annotations, ...]
    verdicts: NearDuplicates | None = None
    sample: int = 100_000
    seed: int = 0
    labels: str | None = None
    labels_kind: Kind = "auto"
    repeated: RepeatedSpans | None = None
    splits: Splits | None = None

    name: ClassVar[str] = "calibration"
    schema: ClassVar[str] = "calibration"
    piece_schema: ClassVar[str | None] = "calibration"

    def __post_init__(self) -> None:
        if self.splits is not None and self.verdicts is None:
            raise ConfigError(
                "splits are by split group, which the near-duplicate filter finds",
                hint="Give the calibration verdicts: NearDuplicates(corpus).",
            )

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts, repeated spans."""
        return score_inputs(self.scores, self.verdicts, self.repeated)

    @functools.cached_property
    def curves(self) -> FitCurves | None:
        """The stage that fits curves on the labels; they are no part of the distribution."""
        return None if self.labels is None else fit_curves(self.labels, self.scores, kind=self.labels_kind)

    def settings(self) -> Mapping[str, Any]:
        """Size and seed of the sample."""
        splits = {"splits": self.splits.identity()} if self.splits is not None else {}
        return {"sample": self.sample, "seed": self.seed, "axes": [list(stage.axes) for stage in self.scores], **splits}

    def piece(self, tables: Tables) -> pa.Table:
        """Count and sample the scores of a unit."""
        spans, scores = read_scores(tables, self.scores, self.verdicts, self.repeated, self.splits)
        scores.pop(REPEATS, None)  # a count, with no distribution to be a quantile of
        row, span = spans["row"].to_numpy(), spans["span"].to_numpy()
        keys = keyed_hash(self.seed, name_key(tables.shard), row, span) if len(row) else np.empty(0, np.uint64)
        sample = bottom_k(
            [pa.table({"key": pa.array(keys), **{a: pa.array(v) for a, v in scores.items()}})], self.sample
        )
        return _table(
            {axis: histogram(values) for axis, values in scores.items()},
            {axis: int(np.isnan(values).sum()) for axis, values in scores.items()},
            sample,
        )

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Add counts, and keep the smallest keys."""
        counts: dict[str, npt.NDArray[np.int64]] = {}
        nulls: dict[str, int] = {}
        sample: pa.Table | None = None
        for piece in pieces:
            for row in range(piece.num_rows):
                axis = piece["axis"][row].as_py()
                counts[axis] = counts.get(axis, np.zeros(BINS, np.int64)) + bin_counts(piece, axis)
                nulls[axis] = nulls.get(axis, 0) + piece["nulls"][row].as_py()
            both = [s for s in (sample, sample_of(piece)) if s is not None]
            sample = bottom_k(both, self.sample)
        assert sample is not None, "a wide stage has at least one piece"
        return _table(counts, nulls, sample)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """The merged counts are the result."""
        del shared
        return Output(merged, counts={f"scores of {a}": n for a, n in zip(*_columns(merged, "axis", "n"), strict=True)})


def bin_counts(calibration: pa.Table, axis: str) -> npt.NDArray[np.int64]:
    """Counts of an axis by bin: int64 `[65536]`."""
    at = calibration["axis"].to_pylist().index(axis)
    counts = np.zeros(BINS, np.int64)
    bins = calibration["bins"][at].values.to_numpy()
    counts[bins] = calibration["counts"][at].values.to_numpy()
    return counts


def sample_of(calibration: pa.Table) -> pa.Table:
    """The sample: a column `key`, and one an axis (NaN where there is no score)."""
    axes = calibration["axis"].to_pylist()
    columns = {axis: calibration["sample"][i].values for i, axis in enumerate(axes)}
    return pa.table({"key": calibration["sample_keys"][0].values, **columns})


def _columns(table: pa.Table, *names: str) -> tuple[list[Any], ...]:
    return tuple(table[name].to_pylist() for name in names)


def _table(counts: Mapping[str, npt.NDArray[np.int64]], nulls: Mapping[str, int], sample: pa.Table) -> pa.Table:
    filled = {axis: np.flatnonzero(values) for axis, values in counts.items()}
    columns = [
        pa.array(list(counts), pa.string()),
        pa.array([int(values.sum()) for values in counts.values()], pa.int64()),
        pa.array([nulls[axis] for axis in counts], pa.int64()),
        pa.array([filled[axis].astype(np.uint32) for axis in counts], pa.list_(pa.uint32())),
        pa.array([values[filled[axis]] for axis, values in counts.items()], pa.list_(pa.int64())),
        pa.array([sample["key"].to_numpy() for _ in counts], pa.list_(pa.uint64())),
        pa.array([sample[axis].to_numpy() for axis in counts], pa.list_(pa.float32())),
    ]
    return pa.table(columns, schema=contract("calibration").schema)
