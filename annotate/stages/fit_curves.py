"""Fit curves from a raw score to a probability, on texts that people have labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.curves import Curve, curve_from_json, fit_curve, fit_isotonic, fit_platt
from annotate.errors import ConfigError
from annotate.graph import Reduce, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.score import Score
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.joined_scores import kept_scores
from annotate.stages.split import Split
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.text.splitting import Splitter

CurveKind = Literal["auto", "platt", "isotonic"]

BOTH_LABELS = "texts_with_both_labels of "


@dataclass(frozen=True)
class Labels(Corpus):
    """Labelled texts: a column of labels, 0 or 1 or null, for each axis."""

    name: ClassVar[str] = "labels"


@dataclass(frozen=True)
class FitCurves(Reduce):
    """A curve for each axis that a file of labelled texts has a column for.

    The labelled texts are scored whole by the same scorers, as any corpus is.

    Attributes:
        labels: the labelled texts.
        scores: their scores.
        kind: "platt", "isotonic", or "auto" for isotonic where there are 1,000 labels or more.
    """

    labels: Labels
    scores: tuple[Score, ...]
    kind: CurveKind = "auto"

    name: ClassVar[str] = "curves"
    schema: ClassVar[str] = "curves"
    piece_schema: ClassVar[str] = "labelled-scores"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "platt", "isotonic"):
            raise ConfigError(f'kind must be "auto", "platt" or "isotonic", got {self.kind!r}')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The labelled texts, their spans and scores."""
        named = {f"scores-{i}": stage for i, stage in enumerate(self.scores)}
        return {"corpus": self.labels, "spans": self.scores[0].spans, **named}

    def settings(self) -> Mapping[str, Any]:
        """The kind of curve."""
        return {"kind": self.kind}

    @property
    def types_read(self) -> tuple[str, ...]:
        """The columns of labels."""
        return tuple(axis for score in self.scores for axis in score.axes)

    def piece(self, tables: Tables) -> pa.Table:
        """Scores with labels of a unit.

        Raises:
            ConfigError: no axis has a column of labels, or a label is neither 0, 1 nor null (or NaN); names the row.
        """
        spans, scores = kept_scores(tables, {f"scores-{i}": s for i, s in enumerate(self.scores)}, verdicts=False)
        there = self.labels.reader.travelling(tables.directory("corpus"), tables.unit("corpus"))
        labelled = [axis for axis in scores if axis in there]
        documents = self.labels.reader.others(tables.directory("corpus"), tables.unit("corpus"), labelled)
        position = pa.array(spans["row"].to_numpy() - tables.rows.start)
        pieces = [contract("labelled-scores").schema.empty_table()]
        for axis in labelled:
            labels = _checked(documents[axis], f"{self.labels.path}, labels of {axis}", tables.rows.start)
            values = labels[position.to_numpy()]
            usable = ~np.isnan(values) & ~np.isnan(scores[axis])
            axes = pa.array([axis] * int(usable.sum()), pa.string())
            columns = [axes, scores[axis][usable], values[usable], spans["text_hash"].filter(pa.array(usable))]
            pieces.append(pa.table(columns, schema=contract("labelled-scores").schema))
        if len(pieces) == 1:
            raise ConfigError(
                f"{self.labels.path} has labels of no axis; it has columns {', '.join(there)}",
                hint=f"Name a column of labels after its axis: {', '.join(scores)}.",
            )
        return pa.concat_tables(pieces)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Fit the curves, and count the texts that have both labels."""
        del shared
        fit = {"auto": fit_curve, "platt": fit_platt, "isotonic": fit_isotonic}[self.kind]
        rows, counts = [], {}
        for axis in sorted(set(merged["axis"].to_pylist())):
            here = merged.filter(pc.equal(merged["axis"], axis))
            try:
                curve = fit(here["score"].to_numpy(), here["label"].to_numpy())
            except ConfigError as error:
                raise ConfigError(
                    f"{self.labels.path}, labels of {axis}: {error.message}",
                    hint="Give texts with a score labels of both kinds, 0 and 1, or leave out the column.",
                ) from error
            rows.append({"axis": axis, "labels": here.num_rows, "curve": json.dumps(curve.to_json())})
            counts[f"{BOTH_LABELS}{axis}"] = _count_both_labels(here)
        return UnitOutput(pa.Table.from_pylist(rows, schema=contract("curves").schema), counts=counts)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of texts that have both labels."""
        found = {name.removeprefix(BOTH_LABELS): n for name, n in manifest.counts.items() if n}
        return [
            f"{self.labels.path}: {n:,} {'text has' if n == 1 else 'texts have'} both labels of {axis}, 0 and 1, in "
            "different rows: each row counts, so the curve takes the text for undecided"
            for axis, n in sorted(found.items())
        ]


def _count_both_labels(labelled: pa.Table) -> int:
    """How many texts have a 0 in one row and a 1 in another."""
    by_text = labelled.group_by("text_hash").aggregate([("label", "min"), ("label", "max")])
    return int(pc.sum(pc.not_equal(by_text["label_min"], by_text["label_max"])).as_py() or 0)


def _checked(column: pa.ChunkedArray, what: str, first: int) -> npt.NDArray[np.float64]:
    """Labels as float64 `[n]`, NaN where there is none; `first` is the row of the first."""
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        if pa.types.is_null(kind):
            return np.full(len(column), np.nan)
        raise ConfigError(
            f"{what}: must be 0, 1 or null, got a column of type {str(kind).removeprefix('large_')}",
            hint="Cast it to numbers: what a text such as '1' or 'yes' stands for is not guessed.",
        )
    values = np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    wrong = np.flatnonzero(~(np.isnan(values) | np.isin(values, (0.0, 1.0))))
    if len(wrong):
        raise ConfigError(
            f"{what}: must be 0, 1 or null, got {values[wrong[0]]:g} in row {first + wrong[0]}",
            hint="Write null where there is no label; of ratings, say from which on they are a yes.",
        )
    return values


def fit_curves(
    labels: str, scores: Sequence[Annotations], *, text: str = "text", kind: CurveKind = "auto"
) -> FitCurves:
    """Fit curves for the axes of `scores` on a file of labelled texts.

    Args:
        labels: path of a Parquet or JSON lines file, with a column of texts, and one of labels (0, 1 or null) named
            after each axis that is labelled.
        scores: of the corpus; the scorers among them score the labelled texts too.
        text: name of the column of texts.
        kind: of the curves.

    Raises:
        ConfigError: there is no scorer among them.
    """
    labelled = Labels(labels, text=text, id=None)
    whole = Split(labelled, Splitter(by="document"))
    again = tuple(Score(whole, stage.scorer, None, stage.threads) for stage in scores if isinstance(stage, Score))
    if not again:
        raise ConfigError(
            f"no scorer can score the labelled texts of {labels}: all scores come from files",
            hint="Leave out labels=, or give Calibrate the scores of a scorer too, as score(...) returns them.",
        )
    return FitCurves(labelled, again, kind)


def read_curves(table: pa.Table) -> dict[str, Curve]:
    """Curves by axis, from the dataset that `FitCurves` makes."""
    rows = zip(table["axis"].to_pylist(), table["curve"].to_pylist(), strict=True)
    return {axis: curve_from_json(json.loads(text)) for axis, text in rows}
