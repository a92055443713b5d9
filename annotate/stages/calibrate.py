"""Calibration: the distribution of scores on each axis over kept documents; it knows no threshold."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.arguments import as_path, as_tuple
from annotate.graph import Documents, Reduce, Stage, Tables
from annotate.randomness import bottom_k, keyed_hash, name_key
from annotate.stages.fit_curves import CurveKind, FitCurves, fit_curves
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.repeated_spans import REPEATS, FindRepeatedSpans, RepeatedSpans
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.joined_scores import check_scores, read_scores, score_inputs
from annotate.stages.split import Split
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.tags.quantiles import BINS, histogram


@dataclass(frozen=True)
class Calibrate(Reduce):
    """Counts of scores by bin, and a sample of spans with all axes together.

        Calibrate(scores, labels="labels.parquet")

    Both merge exactly, in any order. The bits of a float32 score are mapped to an integer that has the same order; its
    high 16 bits are the bin. The sample has the spans with the smallest keyed hashes. If the verdicts have subsets,
    only documents for calibration are counted, so thresholds come from these alone.

    Attributes:
        scores: the stages that `score()` returns, and other scores of the same spans.
        sample: spans in the sample.
        seed: of the sample.
        labels: a file of labelled texts, on which the curves for `p(axis)` in rules are fitted. It has a column of
            texts, and for each axis a column of labels (0, 1 or null) with its name. None for the curves that scorers
            have.
        labels_kind: "platt", "isotonic", or "auto" for isotonic where there are 1,000 labels or more.
        repeated: what to do about spans that occur many times in the corpus. Spans that are left out are not counted.
            None not to look for them.

    Raises:
        ConfigError: there are no scores; they are of different spans, or under different verdicts; two are of one axis.
    """

    scores: Sequence[Annotations]
    _: KW_ONLY
    sample: int = 100_000
    seed: int = 0
    labels: str | PathLike[str] | None = None
    labels_kind: CurveKind = "auto"
    repeated: RepeatedSpans | None = None

    name: ClassVar[str] = "calibration"
    schema: ClassVar[str] = "calibration"
    piece_schema: ClassVar[str] = "calibration"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", as_tuple(self.scores, "scores"))
        check_scores(self.scores)
        if self.labels is not None:
            object.__setattr__(self, "labels", as_path(self.labels, "labels"))

    @property
    def spans(self) -> Split:
        """The spans that have the scores."""
        return self.scores[0].spans

    @property
    def corpus(self) -> Documents:
        """The corpus of these spans."""
        return self.spans.corpus

    @property
    def verdicts(self) -> NearDuplicates | None:
        """The verdicts that the scores were made under; None if all documents are kept."""
        return self.scores[0].skip

    @functools.cached_property
    def found_repeated(self) -> FindRepeatedSpans | None:
        """The stage that finds repeated spans; None if they are not looked for."""
        return None if self.repeated is None else FindRepeatedSpans(self.spans, self.verdicts, self.repeated)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, annotations, verdicts, repeated spans."""
        return score_inputs(self.scores, self.found_repeated)

    @functools.cached_property
    def curves(self) -> FitCurves | None:
        """The stage that fits curves on the labels; None without labels."""
        return None if self.labels is None else fit_curves(str(self.labels), self.scores, kind=self.labels_kind)

    def settings(self) -> Mapping[str, Any]:
        """Size and seed of the sample."""
        return {"sample": self.sample, "seed": self.seed, **self.counted()}

    def counted(self) -> dict[str, Any]:
        """The settings that decide which scores are counted, JSON-ready: the axes, and the subsets if any."""
        subsets = self.verdicts.subsets if self.verdicts is not None else None
        axes = {"axes": [list(stage.axes) for stage in self.scores]}
        return {**axes, "subsets": subsets.identity()} if subsets is not None else axes

    def piece(self, tables: Tables) -> pa.Table:
        """Count and sample the scores of a unit."""
        spans, scores = read_scores(tables, self.scores, self.found_repeated, "calibration")
        scores.pop(REPEATS, None)  # a count, which has no quantiles
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
        assert sample is not None, "a reduce has at least one piece"
        return _table(counts, nulls, sample)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """The merged counts are the result."""
        del shared
        return UnitOutput(
            merged, counts={f"scores of {a}": n for a, n in zip(*_columns(merged, "axis", "n"), strict=True)}
        )


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
