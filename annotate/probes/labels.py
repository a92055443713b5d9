"""Labelled spans for training a probe: read, checked, and cut into parts by a hash of their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from annotate.errors import ConfigError, InputError
from annotate.randomness import keyed_hash, uniform
from annotate.storage.local_copies import local_copy

TEST_SHARE = 0.2
"""Share of the spans that is kept for the report, where no column says which."""

VALIDATION_SHARE = 0.2
"""Share of the training spans that chooses the regularisation and fits the probability curve."""

MIN_ROWS = 50
"""Spans that a training needs at least."""

IGNORED = -100
"""What many training programs take for "no label"."""

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LabelledSpans:
    """Labelled spans of one axis.

    Attributes:
        texts: `n` of them.
        labels: float64 `[n]`, as given: 0 and 1, or ratings.
        targets: float64 `[n]` in [0, 1]: 0 and 1 as they are; a rating as its mid-rank among the training ratings of
            its source, or among all of a source that is only measured, so that sources on different scales can be
            learned together. Above one half is "yes".
        sources: int64 `[n]`, positions in `names`.
        names: names of the sources.
        rated: bool `[n_sources]`, whether the labels of a source are ratings.
        weights: float64 `[n]`, how many spans each counts as in training.
        test: bool `[n]`, kept for the report.
        validation: bool `[n]`, chooses the regularisation and fits the curve; the rest is for fitting.
        repeats: number of spans left out because their text was among the test spans too.
        understood: by source, a sentence: what its labels were taken for.
        contradictions: texts that a source has with different labels.
    """

    texts: list[str]
    labels: FloatVector
    targets: FloatVector
    sources: npt.NDArray[np.int64]
    names: tuple[str, ...]
    rated: BoolVector
    weights: FloatVector
    test: BoolVector
    validation: BoolVector
    repeats: int
    understood: tuple[str, ...]
    contradictions: int

    @property
    def train(self) -> BoolVector:
        """All that is neither for the report nor of a source that is only measured."""
        return ~self.test & (self.weights > 0)

    @property
    def fitting(self) -> BoolVector:
        """Training spans that are not for validation."""
        return self.train & ~self.validation

    @property
    def unused(self) -> BoolVector:
        """Spans in no part: of a source that is only measured, where a column says that they are no test spans."""
        return ~self.test & (self.weights == 0)


def read_labels(
    data: str | Path | pa.Table,
    *,
    text: str,
    label: str,
    source: str | None,
    split: str | None,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> LabelledSpans:
    """Read labelled spans from a Parquet file or an Arrow table.

    Args:
        data: the file or table.
        text: name of the column of texts.
        label: name of the column of labels: 0 and 1, bool, or ratings; higher is more of the axis.
        source: name of the column that says where a span is from; None: all from one.
        split: name of the column that says "train" or "test"; None: by a hash of the text in lower case with blanks
            collapsed, so that repeats fall on one side; and all spans of a source that is only measured are for the
            test.
        seed: key of the hash.
        weights: by source, how many spans one of its spans counts as; 1 where it is not named, 0: only measured.

    Raises:
        InputError: the file can't be read.
        ConfigError: a column is missing or of the wrong type, a value is null or not finite, or stands for "no label"
            by the look of it (-1, -100), there are too few spans, a source or part has only one kind of label, or a
            weight is negative or of no source that is there.
    """
    table = data if isinstance(data, pa.Table) else _read_table(local_copy(str(data)))
    columns = {"text": text, "label": label, "source": source, "split": split}
    wanted = {role: name for role, name in columns.items() if name is not None}
    for role, name in wanted.items():
        if name not in table.column_names:
            raise ConfigError(
                f"the labelled spans have no column {name!r}; they have {table.column_names}",
                hint=f"say which column is the {role}",
            )
    frame = pl.DataFrame({role: pl.from_arrow(table.column(name)) for role, name in wanted.items()})
    for role, name in wanted.items():
        if nulls := frame[role].null_count():
            row = int(frame[role].is_null().arg_true()[0])
            raise ConfigError(f"column {name!r} of the labelled spans has {nulls} nulls, the first in row {row}")
    if frame["text"].dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise ConfigError(f"column {text!r} must hold text, got {frame['text'].dtype}")
    labels = _check_labels(frame["label"], label)
    key = frame["text"].cast(pl.String).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    hashes = np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in key], np.uint64)
    drawn_test, drawn_validation = (uniform(keyed_hash(seed, hashes, part)) for part in range(2))
    sources = frame["source"].cast(pl.String) if source else pl.repeat("all", len(frame), eager=True)
    names = tuple(sorted(set(sources.to_list())))
    codes = np.searchsorted(np.array(names), sources.to_numpy()).astype(np.int64)
    _refuse_marks(labels, codes, names, label)
    counts = _weights_of(names, weights or {})
    measured = counts[codes] == 0
    test = (drawn_test < TEST_SHARE) | measured if split is None else _read_split(frame["split"], split)
    keep = test | ~np.isin(hashes, hashes[test])
    frame = frame.with_columns(key=key, source=pl.Series(codes))
    different = frame.group_by("key", "source").agg(pl.col("label").n_unique() > 1)["label"]
    codes, test, measured = codes[keep], test[keep], measured[keep]
    targets, rated = _make_targets(labels[keep], codes, names, ~test | measured)
    spans = LabelledSpans(
        texts=frame["text"].cast(pl.String).filter(pl.Series(keep)).to_list(),
        labels=labels[keep],
        targets=targets,
        sources=codes,
        names=names,
        rated=rated,
        weights=counts[codes],
        test=test,
        validation=~test & ~measured & (drawn_validation[keep] < VALIDATION_SHARE),
        repeats=int((~keep).sum()),
        understood=tuple(
            f"labels of {name}: {_understood(labels[keep][codes == i], rated=bool(rated[i]))}"
            for i, name in enumerate(names)
        ),
        contradictions=int(different.sum()),
    )
    _check_parts(spans)
    return spans


def _weights_of(names: tuple[str, ...], weights: Mapping[str, float]) -> FloatVector:
    """The weight of each source."""
    for name, weight in weights.items():
        if name not in names:
            raise ConfigError(f"a weight was given for the source {name!r}, but the sources are {list(names)}")
        if not (np.isfinite(weight) and weight >= 0):
            raise ConfigError(f"the weight of the source {name!r} must be a number from 0 on, got {weight}")
    return np.array([weights.get(name, 1.0) for name in names], np.float64)


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"the labelled spans {path} are not there", hint="Check the path.") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"the labelled spans {path} can't be read as Parquet: {error}",
            hint="It must be a Parquet file with a labelled span in each row.",
        ) from error


def _check_labels(column: pl.Series, name: str) -> FloatVector:
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise ConfigError(
            f"column {name!r} must hold 0 and 1, or ratings, got {column.dtype}",
            hint="cast it to numbers: what a text such as '1' or 'yes' stands for is not guessed",
        )
    labels = column.cast(pl.Float64).to_numpy().astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(labels))
    if len(bad):
        raise ConfigError(f"column {name!r} must hold finite numbers, got {labels[bad[0]]} in row {bad[0]}")
    if len(labels) < MIN_ROWS:
        raise ConfigError(f"training needs {MIN_ROWS} labelled spans or more, got {len(labels)}")
    return labels


def _refuse_marks(labels: FloatVector, sources: npt.NDArray[np.int64], names: tuple[str, ...], column: str) -> None:
    """Refuse labels that by the look of them stand for "no label": a lone negative number, or -100 far below others."""
    for i, name in enumerate(names):
        found = np.unique(labels[sources == i])
        negative, others = found[found < 0], found[found >= 0]
        lone = len(negative) == 1 and len(others) > 0 and negative[0] == np.round(negative[0])
        far = len(found) > 1 and found[0] == IGNORED and found[1] > IGNORED / 10
        if lone or far:
            rows = np.flatnonzero((sources == i) & (labels == found[0]))
            of = f" of source {name!r}" if len(names) > 1 else ""
            raise ConfigError(
                f"{len(rows):,} labels of column {column!r} are {found[0]:g}, the first in row {rows[0]}; "
                f"the others{of} are {_shown(found[1:])}: {found[0]:g} often stands for a span without a label",
                hint=f"leave these rows out. If {found[0]:g} is meant as a label, write 0 and 1, or ratings from 0 on",
            )


def _understood(labels: FloatVector, *, rated: bool) -> str:
    if not rated:
        return f"0 and 1 ({int((labels == 0).sum()):,} and {int((labels == 1).sum()):,} spans)"
    found = np.unique(labels)
    return f"ratings, learned and measured by rank ({len(found):,} different ones: {_shown(found)})"


def _shown(values: FloatVector) -> str:
    """A few values, or the ends of many."""
    if len(values) > 5:
        return f"{values[0]:g} to {values[-1]:g}"
    return ", ".join(f"{value:g}" for value in values)


def _read_split(column: pl.Series, name: str) -> BoolVector:
    values = column.cast(pl.String)
    other = sorted(set(values.to_list()) - {"train", "test"})
    if other:
        raise ConfigError(f"column {name!r} must say 'train' or 'test', got {other[0]!r}")
    return np.asarray((values == "test").to_numpy(), np.bool_)


def _make_targets(
    labels: FloatVector, sources: npt.NDArray[np.int64], names: tuple[str, ...], ranked: BoolVector
) -> tuple[FloatVector, BoolVector]:
    """Targets, and which sources have ratings; a rating gets its mid-rank among those of its source in `ranked`."""
    targets = labels.copy()
    rated = np.zeros(len(names), np.bool_)
    for i, name in enumerate(names):
        own = sources == i
        found = np.unique(labels[own])
        if len(found) < 2:
            raise ConfigError(
                f"all labels of source {name!r} are {found.tolist()}; a probe needs both kinds",
                hint="add spans of the other kind, or leave the source out",
            )
        rated[i] = not np.isin(found, (0.0, 1.0)).all()
        if rated[i]:
            known = np.sort(labels[own & ranked])
            if not len(known):
                raise ConfigError(f"source {name!r} has no training spans to rank its ratings by")
            below, upto = (np.searchsorted(known, labels[own], side=side) for side in ("left", "right"))
            targets[own] = (below + upto) / (2 * len(known))
    return targets, rated


def _check_parts(spans: LabelledSpans) -> None:
    """Each part needs labels of both kinds, or nothing can be fitted or measured."""
    for part, rows in {"fitting": spans.fitting, "validation": spans.validation, "test": spans.test}.items():
        yes = int((spans.targets[rows] > 0.5).sum())
        if not 0 < yes < rows.sum():
            raise ConfigError(
                f"the {part} part has {int(rows.sum())} spans, {yes} of them with a high label; it needs both kinds",
                hint="add labelled spans of the rarer kind",
            )
