"""Calibration by groups: the distribution of scores within each group of documents; it knows no threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import Documents, Reduce, Stage, Tables
from annotate.stages.calibrate import Calibrate
from annotate.stages.repeated_spans import REPEATS
from annotate.stages.shared.joined_scores import read_scores
from annotate.stages.shared.tables import as_texts
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.tags.group_quantiles import GroupBy, GroupKey, Int64, Tally, check_groups, tally_bins
from annotate.text.arrays import one_array


@dataclass(frozen=True)
class CalibrateGroups(Reduce):
    """Counts of scores by group and bin, over the documents that a calibration counts.

    Groups are read from the corpus, and each axis is counted: a scheme may then take any quantile by these columns.

    Attributes:
        calibration: what is counted without groups.
        by: columns of the corpus, texts or integers; documents with the same values in them are a group.
    """

    calibration: Calibrate
    by: tuple[str, ...]

    name: ClassVar[str] = "group-calibration"
    schema: ClassVar[str] = "group-calibration"
    piece_schema: ClassVar[str] = "group-calibration"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The inputs of the calibration, and the corpus."""
        return {**self.calibration.inputs, "corpus": self.corpus}

    @property
    def corpus(self) -> Documents:
        """The corpus whose columns make the groups."""
        return self.calibration.corpus

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns that documents are grouped by."""
        return self.by

    @property
    def label(self) -> str:
        """With the columns."""
        return f"calibration by {', '.join(self.by)}"

    def settings(self) -> Mapping[str, Any]:
        """The columns, and what decides which scores are counted."""
        return {"by": list(self.by), **self.calibration.counted()}

    def groups(self, tables: Tables, spans: pa.Table) -> GroupBy:
        """The group of each span of a unit, by its document.

        Args:
            tables: of a stage that has the corpus as the input `corpus`.
            spans: with the column `row`.

        Raises:
            InputError: the corpus has no such column.
            ConfigError: a column is no text and no integers.
        """
        rows, documents = np.unique(spans["row"].to_numpy(), return_inverse=True)
        table = self.corpus.reader.columns_of(tables.directory("corpus"), tables.unit("corpus"), self.by)
        table = table.take(pa.array(rows - tables.rows.start))
        found = GroupBy.of([as_texts(table[name], name, tables.shard) for name in self.by])
        return GroupBy(numbers=found.numbers[documents], keys=found.keys)

    def piece(self, tables: Tables) -> pa.Table:
        """Count the scores of a unit."""
        calibration = self.calibration
        spans, scores = read_scores(tables, calibration.scores, calibration.found_repeated, "calibration")
        scores.pop(REPEATS, None)  # a count, which has no quantiles
        groups = self.groups(tables, spans)
        check_groups(self.by, groups.keys)
        counted = [contract(self.schema).schema.empty_table()]
        for axis, values in scores.items():
            nulls = np.bincount(groups.numbers[np.isnan(values)], minlength=len(groups.keys))
            counted.append(self._table(axis, groups.keys, tally_bins(values, groups), nulls))
        return pa.concat_tables(counted)

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Add counts."""
        merged = contract(self.schema).schema.empty_table()
        for piece in pieces:
            merged = self._added(pa.concat_tables([merged, piece]))
        return merged

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """The merged counts are the result."""
        del shared
        return UnitOutput(
            merged, counts={"groups": len(set(_groups(merged))), "scores": pc.sum(merged["n"]).as_py() or 0}
        )

    def _added(self, table: pa.Table) -> pa.Table:
        """Rows of the same axis and group as one, in order of both."""
        keys = sorted(set(_groups(table)), key=lambda key: [(value is not None, value or "") for value in key])
        check_groups(self.by, keys)
        places = {key: i for i, key in enumerate(keys)}
        added = [contract(self.schema).schema.empty_table()]
        for axis in sorted(set(table["axis"].to_pylist())):
            some = table.filter(pc.equal(table["axis"], axis))
            place = np.array([places[key] for key in _groups(some)], np.int64)
            tally = _tally(some)
            nulls = np.zeros(len(keys), np.int64)
            np.add.at(nulls, place, some["nulls"].to_numpy())
            numbers = np.repeat(place, np.diff(tally.starts))
            added.append(self._table(axis, keys, Tally.of(numbers, tally.keys, len(keys), tally.counts), nulls))
        return pa.concat_tables(added)

    def _table(self, axis: str, keys: Sequence[GroupKey], tally: Tally, nulls: Int64) -> pa.Table:
        """A table with a row for each group."""
        starts = pa.array(tally.starts, pa.int32())
        columns = [
            pa.array([axis] * len(keys), pa.string()),
            pa.array([list(zip(self.by, key, strict=True)) for key in keys], pa.map_(pa.string(), pa.string())),
            pa.array(tally.totals),
            pa.array(nulls, pa.int64()),
            pa.ListArray.from_arrays(starts, pa.array(tally.keys)),
            pa.ListArray.from_arrays(starts, pa.array(tally.counts)),
        ]
        return pa.table(columns, schema=contract(self.schema).schema)


def group_key(group: Sequence[tuple[str, str | None]]) -> GroupKey:
    """The values of a group, from the list of names and values that stands for it in a table."""
    return tuple(value for _, value in group)


def whole_counts(calibration: pa.Table) -> dict[str, Tally]:
    """The counts of each axis by bin, from a finished calibration. The whole corpus is one group."""
    return {axis: _tally(calibration.slice(i, 1)) for i, axis in enumerate(calibration["axis"].to_pylist())}


def group_counts(calibration: pa.Table) -> tuple[list[GroupKey], dict[str, Tally]]:
    """The groups in order, and the counts of each axis by group and bin, from a finished calibration by groups."""
    axes = calibration["axis"].to_pylist()
    tables = {axis: calibration.filter(pc.equal(calibration["axis"], axis)) for axis in dict.fromkeys(axes)}
    keys = _groups(next(iter(tables.values()))) if tables else []
    return keys, {axis: _tally(table) for axis, table in tables.items()}


def _groups(table: pa.Table) -> list[GroupKey]:
    return [group_key(group) for group in table["group"].to_pylist()]


def _tally(table: pa.Table) -> Tally:
    """Counts by row and bin."""
    starts = np.append(0, np.cumsum(pc.list_value_length(table["bins"]).to_numpy()))
    bins, counts = (one_array(table[name]).flatten().to_numpy() for name in ("bins", "counts"))
    return Tally(starts=starts, keys=bins, counts=counts)
