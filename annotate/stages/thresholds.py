"""Thresholds of a tag scheme: exact quantiles, from a second pass inside the bins where they fall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.stages.base import Stage, Tables, Wide
from annotate.stages.calibrate import Calibrate, bin_counts, read_scores
from annotate.stages.near_duplicates import NEAR_DUPLICATE, NearDuplicates
from annotate.stages.repeated_spans import REPEATS, RepeatedSpans
from annotate.stages.score import Score
from annotate.storage.contracts import contract
from annotate.storage.parts import Output
from annotate.tags.quantiles import exact_quantile, merge_values, quantile_bin, values_in_bins
from annotate.tags.scheme import TagScheme


@dataclass(frozen=True)
class Thresholds(Wide):
    """The exact value, n and ties of every quantile that a scheme's rules name."""

    scores: tuple[Score, ...]
    verdicts: NearDuplicates | None
    calibration: Calibrate
    scheme: TagScheme

    name: ClassVar[str] = "thresholds"
    schema: ClassVar[str] = "thresholds"
    piece_schema: ClassVar[str | None] = "value-counts"

    def __post_init__(self) -> None:
        scored = [axis for stage in self.scores for axis in stage.axes]
        marked = [NEAR_DUPLICATE] if self.verdicts is not None and not self.verdicts.drop else []
        marked += [REPEATS] if self.repeated is not None else []
        quantiles = {axis for axis, _ in self.scheme.quantiles}
        for axis in self.scheme.axes:
            if axis not in scored and (axis not in marked or axis in quantiles):
                raise ConfigError(
                    f"the tag scheme reads the axis {axis!r}, which no scorer measures",
                    hint=f"Scored axes: {', '.join(scored)}. `{NEAR_DUPLICATE}` stands for the similarity to a kept "
                    f"document where the filter has drop=False, and `{REPEATS}` for how often a span occurs where the "
                    "calibration is given repeated spans; these have no quantiles.",
                )
        if (self.calibration.scores, self.calibration.verdicts) != (self.scores, self.verdicts):
            raise ConfigError("thresholds must be given the scores and verdicts of their calibration")

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans of the calibration."""
        return self.calibration.repeated

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Those of the calibration, and the calibration."""
        return {**self.calibration.inputs, "calibration": self.calibration}

    def settings(self) -> Mapping[str, Any]:
        """The quantiles; nothing else of a scheme changes them."""
        return {"quantiles": [list(item) for item in self.scheme.quantiles]}

    def piece(self, tables: Tables) -> pa.Table:
        """Count the distinct scores of a unit inside the bins of the quantiles."""
        _, scores = read_scores(tables, self.scores, self.verdicts, self.repeated, self.calibration.splits)
        found = []
        for axis, bins in self._bins(tables["calibration"]).items():
            values, counts = values_in_bins(scores[axis], bins)
            found.append(_value_counts(axis, values, counts))
        return pa.concat_tables(found) if found else contract("value-counts").schema.empty_table()

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Add the counts of equal scores."""
        table = pa.concat_tables(list(pieces))
        found = [contract("value-counts").schema.empty_table()]
        for axis in sorted(set(table["axis"].to_pylist())):
            here = table.filter(pa.compute.equal(table["axis"], axis))
            found.append(_value_counts(axis, *merge_values([(here["value"].to_numpy(), here["count"].to_numpy())])))
        return pa.concat_tables(found)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Find the exact quantiles."""
        rows = []
        for axis, q in self.scheme.quantiles:
            here = merged.filter(pa.compute.equal(merged["axis"], axis))
            counts = bin_counts(shared["calibration"], axis)
            fitted = exact_quantile(counts, q, here["value"].to_numpy(), here["count"].to_numpy())
            value = None if np.isnan(fitted.value) else float(fitted.value)
            rows.append(
                {"axis": axis, "quantile": q, "value": value, "rank": fitted.rank, "n": fitted.n, "ties": fitted.ties}
            )
        return Output(pa.Table.from_pylist(rows, schema=contract("thresholds").schema))

    def _bins(self, calibration: pa.Table) -> dict[str, list[int]]:
        bins: dict[str, list[int]] = {}
        for axis, q in self.scheme.quantiles:
            counts = bin_counts(calibration, axis)
            if counts.sum():
                bins.setdefault(axis, []).append(quantile_bin(counts, q)[0])
        return bins


def threshold_values(table: pa.Table) -> dict[tuple[str, float], np.float32]:
    """Raw score by axis and quantile; NaN, which nothing reaches, where an axis has no scores."""
    values = table["value"].to_numpy(zero_copy_only=False).astype(np.float32)
    keys = zip(table["axis"].to_pylist(), table["quantile"].to_pylist(), strict=True)
    return {key: values[i] for i, key in enumerate(keys)}


def _value_counts(axis: str, values: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> pa.Table:
    columns = [pa.array([axis] * len(values), pa.string()), pa.array(values, pa.uint32()), pa.array(counts, pa.int64())]
    return pa.table(columns, schema=contract("value-counts").schema)
