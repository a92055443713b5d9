"""Joins the scores of several stages: calibration, thresholds and rules read them for the spans of a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.stages.repeated_spans import REPEATS, FindRepeatedSpans, dropped_spans, repeats
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.tables import numbered_spans
from annotate.subsets import SubsetName


def check_scores(scores: Sequence[Annotations]) -> None:
    """Check that scores can be read together.

    Raises:
        ConfigError: there are none, they are of different spans or under different verdicts, or two are of one axis.
    """
    if not scores or not all(isinstance(stage, Annotations) for stage in scores):
        raise ConfigError(
            f"scores are needed, got {scores!r}" if scores else "there are no scores",
            hint="Give what score(spans, scorers=[...]) returns, perhaps with AttributeScores beside.",
        )
    first = scores[0]
    for stage in scores[1:]:
        what = "spans" if stage.spans != first.spans else "verdicts" if stage.skip != first.skip else None
        if what is not None:
            raise ConfigError(
                f"the scores of {', '.join(first.axes)} and of {', '.join(stage.axes)} are of different {what}",
                hint="Score all axes on one Split(...), and give each the same skip=.",
            )
    axes = [axis for stage in scores for axis in stage.axes]
    if twice := sorted({axis for axis in axes if axes.count(axis) > 1}):
        raise ConfigError(f"two scores are of the axis {twice[0]!r}", hint="Give one of them another axis name.")


def score_inputs(scores: Sequence[Annotations], repeated: FindRepeatedSpans | None) -> dict[str, Stage]:
    """The inputs of a stage that reads scores: spans, annotations by number, verdicts and repeated spans if any."""
    optional = {"verdicts": scores[0].skip, "repeated": repeated}
    return {
        "spans": scores[0].spans,
        **named_scores(scores),
        **{name: stage for name, stage in optional.items() if stage is not None},
    }


def read_scores(
    tables: Tables,
    scores: Sequence[Annotations],
    repeated: FindRepeatedSpans | None,
    subset: SubsetName | None = None,
) -> tuple[pa.Table, dict[str, npt.NDArray[np.float32]]]:
    """Spans and scores of the kept documents of a unit, from inputs named by `score_inputs`.

    Spans that are left out are not among them. If repeated spans are looked for, there is the score `repeats`, how
    often each span occurs. With `subset`, only documents of this subset are read, if there are subsets.
    """
    verdicts = scores[0].skip
    spans, values = kept_scores(tables, named_scores(scores), verdicts=verdicts is not None)
    stay = np.ones(spans.num_rows, bool)
    if repeated is not None:
        values = {**values, REPEATS: repeats(tables["repeated"], spans)}
        stay &= ~dropped_spans(tables["repeated"], spans)
    if subset is not None and verdicts is not None and verdicts.subsets is not None:
        found = verdicts.subsets.inside(tables["verdicts"]["split_group"].to_numpy(), subset)
        stay &= found[spans["row"].to_numpy() - tables.rows.start]
    if stay.all():
        return spans, values
    return spans.filter(pa.array(stay)), {axis: each[stay] for axis, each in values.items()}


def kept_spans(tables: Tables, *, verdicts: bool) -> pa.Table:
    """Spans of a unit's kept documents, with a column `span`, the number of each in its document."""
    spans = tables["spans"]
    spans = numbered_spans(spans, tables.rows)
    if verdicts:
        table = tables["verdicts"]
        kept = table["row"].to_numpy()[table["kept"].to_numpy()]
        spans = spans.filter(pa.array(np.isin(spans["row"].to_numpy(), kept)))
    return spans


def kept_scores(
    tables: Tables, stages: Mapping[str, Annotations], *, verdicts: bool
) -> tuple[pa.Table, dict[str, npt.NDArray[np.float32]]]:
    """Spans of a unit's kept documents, and their scores on all axes (NaN where there is none).

    Returns:
        The span table, with a column `span`, and float32 `[n_spans]` by axis.

    Raises:
        ConfigError: an annotation dataset does not cover the kept documents.
    """
    spans = kept_spans(tables, verdicts=verdicts)
    row, span = spans["row"].to_numpy(), spans["span"].to_numpy()
    scores: dict[str, npt.NDArray[np.float32]] = {}
    for name, stage in stages.items():
        table = tables[name]
        table = table.take(np.lexsort((table["span"].to_numpy(), table["row"].to_numpy())))
        # Entries of a unit can overlap, if one that lost its part was made again after a later one. The first counts.
        places = np.stack([table["row"].to_numpy(), table["span"].to_numpy()])
        fresh = np.append(True, (np.diff(places, axis=1) != 0).any(axis=0)) if table.num_rows else np.empty(0, bool)
        table = table.filter(pa.array(np.isin(table["row"].to_numpy(), row) & fresh))
        if not np.array_equal(table["row"].to_numpy(), row) or not np.array_equal(table["span"].to_numpy(), span):
            raise ConfigError(
                f"{tables.shard}, rows {tables.rows.start} to {tables.rows.stop}: the scores of "
                f"{', '.join(stage.axes)} do not cover the kept documents",
                hint="Something other than a run changed the work directory. Run with --rescore to score again.",
            )
        for axis in stage.axes:
            scores[axis] = table[axis].to_numpy(zero_copy_only=False).astype(np.float32)
    return spans, scores


def named_scores(scores: Sequence[Annotations]) -> dict[str, Annotations]:
    """Scores by the names that they have as inputs of a stage."""
    return {f"scores-{i}": stage for i, stage in enumerate(scores)}
