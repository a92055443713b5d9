"""Thresholds of a tag scheme: exact quantiles, from a second pass inside the bins where they fall."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import Reduce, Stage, Tables
from annotate.stages.calibrate import Calibrate
from annotate.stages.calibrate_groups import CalibrateGroups, group_counts, group_key, whole_counts
from annotate.stages.near_duplicates import NEAR_DUPLICATE
from annotate.stages.repeated_spans import REPEATS
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.joined_scores import read_scores
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.tags.conditions import Quantile
from annotate.tags.group_quantiles import GroupBy, GroupKey, Tally, exact_quantiles, quantile_bins, tally_values
from annotate.tags.quantiles import Fitted
from annotate.tags.scheme import TagScheme
from annotate.tags.vocabulary import Tag, at

FEW = 100  # scores: the share of spans above a median of so many is off by 5 points or more one time in three


@dataclass(frozen=True, init=False)
class Thresholds(Reduce):
    """The exact value of every quantile that a scheme's rules name; for quantiles by group, that of each group.

    With each value are the number of scores that it was taken from, and the number of scores that are equal to it.

        Place(Thresholds(Calibrate(scores, sample=1_000_000), scheme))

    Attributes:
        calibration: the calibration of the scores; or scores, to use the defaults of `Calibrate`.
        scheme: the scheme whose rules name the quantiles.

    Raises:
        ConfigError: a rule reads an axis that no scorer measures; or the scores don't go together.
    """

    calibration: Calibrate
    scheme: TagScheme

    name: ClassVar[str] = "thresholds"
    schema: ClassVar[str] = "thresholds"
    piece_schema: ClassVar[str] = "value-counts"

    def __init__(self, calibration: Calibrate | Sequence[Annotations], scheme: TagScheme) -> None:
        if not isinstance(calibration, Calibrate):
            calibration = Calibrate(calibration)
        if not isinstance(scheme, TagScheme):
            raise ConfigError(
                f"Thresholds(calibration, scheme) needs a tag scheme, got {scheme!r}",
                hint="Give TagScheme(...), preset(...), or load_scheme(FILE).",
            )
        object.__setattr__(self, "calibration", calibration)
        object.__setattr__(self, "scheme", scheme)
        self._check_axes()

    def _check_axes(self) -> None:
        """Check that the axes that rules read are measured."""
        scored = [axis for stage in self.scores for axis in stage.axes]
        verdicts = self.calibration.verdicts
        marked = [NEAR_DUPLICATE] if verdicts is not None and not verdicts.drop else []
        marked += [REPEATS] if self.calibration.repeated is not None else []
        quantiles = {quantile.axis for quantile in self.scheme.quantiles}
        for axis in self.scheme.axes:
            if axis not in scored and (axis not in marked or axis in quantiles):
                tag = next(tag for tag in self.scheme.tags if axis in _axes(tag))
                near = [f"Did you mean {name!r}? " for name in difflib.get_close_matches(axis, scored, 1)]
                raise ConfigError(
                    f"{at(tag.where)}the rule of tag {tag.name!r} reads the axis {axis!r}, which no scorer measures",
                    hint=f"{''.join(near)}Scored axes: {', '.join(scored)}. `{NEAR_DUPLICATE}` stands for the "
                    f"similarity to a kept document where the filter has drop=False, and `{REPEATS}` for how often a "
                    "span occurs where Calibrate is given repeated=RepeatedSpans(); these have no quantiles.",
                )

    @property
    def scores(self) -> Sequence[Annotations]:
        """The scores of the calibration."""
        return self.calibration.scores

    @functools.cached_property
    def by_group(self) -> Mapping[tuple[str, ...], CalibrateGroups]:
        """The calibrations by groups that the scheme asks for, by the columns that make these."""
        return {by: CalibrateGroups(self.calibration, by) for by in self.scheme.groupings}

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The calibration and its inputs; for quantiles by group also the corpus, and the calibrations by group."""
        inputs: dict[str, Stage] = {**self.calibration.inputs, "calibration": self.calibration}
        if self.by_group:
            inputs["corpus"] = self.calibration.corpus
        return inputs | {f"groups-{i}": stage for i, stage in enumerate(self.by_group.values())}

    def settings(self) -> Mapping[str, Any]:
        """The quantiles; nothing else of a scheme changes them."""
        asked = [[each.axis, each.q, *([list(each.by)] if each.by else [])] for each in self.scheme.quantiles]
        return {"quantiles": asked}

    def piece(self, tables: Tables) -> pa.Table:
        """Count the distinct scores of a unit inside the bins of the quantiles."""
        spans, scores = read_scores(tables, self.scores, self.calibration.found_repeated, "calibration")
        found = [self._schema("value-counts").empty_table()]
        for place, (by, keys, counted) in enumerate(self._counted(tables)):
            groups = self.by_group[by].groups(tables, spans) if by else GroupBy.whole(spans.num_rows)
            places = {key: number for number, key in enumerate(keys)}
            numbers = np.array([places[key] for key in groups.keys], np.int64)[groups.numbers]
            for axis, shares in self._asked(by).items():
                bins = [quantile_bins(counted[axis], q) for q in shares]
                tally = tally_values(scores[axis], numbers, bins, len(keys))
                found.append(self._value_counts(axis, place, tally))
        return pa.concat_tables(found)

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Add the counts of equal scores."""
        schema = self._schema("value-counts")
        merged = schema.empty_table()
        keys = [name for name in ("axis", "grouping", "group", "value") if name in schema.names]
        for piece in pieces:
            table = pl.DataFrame(pa.concat_tables([merged, piece]))
            added = table.group_by(keys).agg(pl.col("count").sum()).sort(keys).select(schema.names)
            merged = added.to_arrow().cast(schema)
        return merged

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Find the exact quantiles, in the order of the scheme, each for all its groups."""
        table = pl.DataFrame(merged)
        fitted: dict[Quantile, list[tuple[GroupKey, Fitted]]] = {}
        for place, (by, keys, counted) in enumerate(self._counted(shared)):
            here = table.filter(pl.col("grouping") == place) if self.by_group else table
            for axis, shares in self._asked(by).items():
                some = here.filter(pl.col("axis") == axis)
                numbers = some["group"].to_numpy() if self.by_group else np.zeros(some.height, np.int64)
                second = Tally.of(numbers, some["value"].to_numpy(), len(keys), some["count"].to_numpy())
                for q in shares:
                    exact = exact_quantiles(counted[axis], q, second)
                    fitted[Quantile(axis, q, by)] = list(zip(keys, exact, strict=True))
        rows = [_row(quantile, *each) for quantile in self.scheme.quantiles for each in fitted[quantile]]
        sizes = [each.n for quantile, found in fitted.items() if quantile.by for _, each in found]
        few = {"of_groups": len(sizes), "of_few_scores": sum(n < FEW for n in sizes), "fewest": min(sizes, default=0)}
        return UnitOutput(
            pa.Table.from_pylist(rows, schema=self._schema("thresholds")), counts=few if self.by_group else {}
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say how many thresholds are of few scores."""
        counts = manifest.counts
        if not counts.get("of_few_scores", 0):
            return []
        return [
            f"{counts['of_few_scores']:,} of {counts['of_groups']:,} thresholds of groups come from fewer than {FEW} "
            f"scores, the smallest number is {counts['fewest']:,}: by chance, the share of spans above them can be "
            "far from what the rule says"
        ]

    def _counted(self, tables: Tables | Mapping[str, pa.Table]) -> Iterator[Counted]:
        """The groups and counts of the whole corpus, which is one group, then of each grouping of the scheme."""
        yield (), [()], whole_counts(tables["calibration"])
        for i, by in enumerate(self.by_group):
            keys, counted = group_counts(tables[f"groups-{i}"])
            yield by, keys, counted or dict.fromkeys(self._asked(by), Tally.none())

    def _asked(self, by: tuple[str, ...]) -> dict[str, list[float]]:
        """The quantiles by these columns that the scheme names, by axis."""
        asked: dict[str, list[float]] = {}
        for quantile in self.scheme.quantiles:
            if quantile.by == by:
                asked.setdefault(quantile.axis, []).append(quantile.q)
        return asked

    def _schema(self, name: str) -> pa.Schema:
        """The schema of a contract, with the columns about groups only if the scheme has quantiles by group."""
        kept = contract(name)
        told = [column for column in kept.columns if column.optional] if self.by_group else []
        return pa.schema([*kept.schema, *(pa.field(c.name, c.types[0], nullable=c.nullable) for c in told)])

    def _value_counts(self, axis: str, grouping: int, tally: Tally) -> pa.Table:
        schema = self._schema("value-counts")
        n = len(tally.keys)
        columns = {
            "axis": pa.array([axis] * n, pa.string()),
            "value": pa.array(tally.keys),
            "count": pa.array(tally.counts),
            "grouping": pa.array(np.full(n, grouping, np.int32)),
            "group": pa.array(np.repeat(np.arange(len(tally.starts) - 1), np.diff(tally.starts))),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)


Counted = tuple[tuple[str, ...], list[GroupKey], dict[str, Tally]]  # columns; their groups; counts by axis


def _axes(tag: Tag) -> set[str]:
    return {*tag.parsed.axes, *(quantile.axis for quantile in tag.parsed.quantiles)}


def threshold_values(table: pa.Table) -> dict[Quantile, dict[GroupKey, np.float32]]:
    """Raw score by quantile and group, `()` for the whole corpus; NaN, which no score reaches, for no scores."""
    found: dict[Quantile, dict[GroupKey, np.float32]] = {}
    for row in table.to_pylist():
        group = row.get("group", [])
        value = np.float32(np.nan if row["value"] is None else row["value"])
        by = tuple(name for name, _ in group)
        found.setdefault(Quantile(row["axis"], row["quantile"], by), {})[group_key(group)] = value
    return found


def _row(quantile: Quantile, group: GroupKey, fitted: Fitted) -> dict[str, Any]:
    value = None if np.isnan(fitted.value) else float(fitted.value)
    row = {"axis": quantile.axis, "quantile": quantile.q, "value": value, "rank": fitted.rank}
    return row | {"n": fitted.n, "ties": fitted.ties, "group": list(zip(quantile.by, group, strict=True))}
