"""States: which tag of each family a span has.

A state is a number, as `annotate.tags.layouts` says. It is found in this order: the first rule of the family that
holds; dropout; a control, which may give a span the tags of another one; aliases and null tags; the dropout of
documents.
Every random choice is a hash of the seed, the document, the span and what the choice is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.randomness import keyed_hash, name_key, uniform
from annotate.tags.layouts import NONE, SILENT, Int64, States
from annotate.tags.rules import ThresholdValues
from annotate.tags.scheme import TagScheme

Scores = npt.NDArray[np.float32]
Ranks = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The spans of a unit, and all that rules read of them.

    Attributes:
        spans: one row a span, sorted by row, then start. Columns `row` (of the document), `span` (its number in the
            document), `start`, `end`, `byte_start`, `byte_end`.
        scores: float32 `[n_spans]` by axis; NaN is no score.
        thresholds: the raw score of each quantile of the scheme. Of a quantile by group: float32 `[n_spans]`, that of
            each span's group; NaN where the group has no scores.
        curves: the probability curve of each axis that a rule reads as a probability.
        columns: columns of the corpus by name, string `[n_spans]`.
        shard: the file of the corpus that the documents are from.
    """

    spans: pa.Table
    scores: Mapping[str, Scores]
    thresholds: ThresholdValues
    curves: Mapping[str, Curve]
    columns: Mapping[str, pa.Array | pl.Series]
    shard: str

    @property
    def row(self) -> Int64:
        """The row of each span's document: int64 `[n_spans]`."""
        return self.spans["row"].to_numpy()

    def drawn(self, seed: int, purpose: str, *, per_document: bool = False) -> npt.NDArray[np.uint64]:
        """A hash for each span, or one for all spans of a document: uint64 `[n_spans]`."""
        span = 0 if per_document else self.spans["span"].to_numpy()
        if not self.spans.num_rows:
            return np.empty(0, np.uint64)
        return keyed_hash(seed, name_key(self.shard), self.row, span, name_key(purpose))


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """What rules give each span. A control that shuffles moves all of it to another span, together.

    Attributes:
        states: int16 `[n_spans, n_families]`, before null tags, aliases and the dropout of documents.
        order: the families at each span, that of the highest score first: int16 `[n_spans, n_families]`. None where the
            scheme has another order.
    """

    states: States
    order: States | None = None

    def taken(self, spans: Int64) -> Ruled:
        """What these spans have, in this order."""
        return Ruled(states=self.states[spans], order=None if self.order is None else self.order[spans])


def by_rules(measured: Measured, scheme: TagScheme, ranks: Ranks | None = None) -> Ruled:
    """Apply the rules, the dropout of families, and the controls "constant" and "reversed".

    Args:
        measured: the spans, and all that rules read of them.
        scheme: the tags.
        ranks: float64 `[n_spans]` by axis, the rank of each score in [0, 1]. The order "rank" needs them.

    Raises:
        ConfigError: an axis, a column, a threshold or a curve is missing, or an axis has not one score a span.
    """
    found, readable = _first_that_holds(measured, scheme)
    for k, (family, tags) in enumerate(scheme.tags_by_family):
        if family.dropout:
            lost = uniform(measured.drawn(scheme.seed, f"dropout of {family.name}")) < family.dropout
            found[lost, k] = NONE
            readable[lost, k] = False
        if scheme.control in ("constant", "reversed"):
            numbers = np.array([scheme.tags.index(tag) for tag in tags], np.int16)
            found[:, k] = _other(found[:, k], readable[:, k], numbers, scheme.control)
    return Ruled(states=found, order=_by_rank(measured, scheme, ranks) if scheme.ranked else None)


def shuffled(ruled: Ruled, measured: Measured, scheme: TagScheme) -> Ruled:
    """Give the tags of spans to other spans, where the control is "shuffled" or "shuffled-in-document".

    "shuffled" moves them among all spans that are given here.
    """
    match scheme.control:
        case "shuffled":
            return ruled.taken(np.argsort(shuffle_keys(measured, scheme), kind="stable"))
        case "shuffled-in-document":
            return ruled.taken(np.lexsort((shuffle_keys(measured, scheme), measured.row)))
    return ruled


def shuffle_keys(measured: Measured, scheme: TagScheme) -> npt.NDArray[np.uint64]:
    """A hash of each span: uint64 `[n_spans]`.

    Spans are shuffled so: the first span of the text gets the tags of the span with the lowest hash, and so on.
    """
    return measured.drawn(scheme.seed, "shuffled")


def states(ruled: Ruled, measured: Measured, scheme: TagScheme) -> States:
    """Put in aliases and null tags, and take all tags from documents that lose them: int16 `[n_spans, n_families]`."""
    found = ruled.states.copy()
    _join(found, scheme)
    for k, (family, _) in enumerate(scheme.tags_by_family):
        if family.null is not None:
            found[found[:, k] == NONE, k] = scheme.names.index(family.null)
    if scheme.document_dropout or scheme.control == "untagged":
        found[_untagged(measured, scheme)] = SILENT
    return found


def _untagged(measured: Measured, scheme: TagScheme) -> npt.NDArray[np.bool_]:
    """The spans of documents that get no tag, by dropout or by the control: bool `[n_spans]`."""
    if scheme.control == "untagged":
        return np.ones(measured.spans.num_rows, bool)
    drawn = uniform(measured.drawn(scheme.seed, "dropout of documents", per_document=True))
    return drawn < scheme.document_dropout


def _first_that_holds(measured: Measured, scheme: TagScheme) -> tuple[States, npt.NDArray[np.bool_]]:
    """The first tag of each family whose rule holds: int16 `[n_spans, n_families]`.

    And whether a span has all scores and columns that the rules of a family read: bool `[n_spans, n_families]`.
    """
    n = measured.spans.num_rows
    frame = pl.DataFrame({"span": np.arange(n), **_columns(measured, scheme)})
    rules = [tag.parsed.expression(measured.thresholds).alias(str(i)) for i, tag in enumerate(scheme.tags)]
    for k, (_, tags) in enumerate(scheme.tags_by_family):
        rules.append(pl.all_horizontal(*(tag.parsed.readable() for tag in tags)).alias(f"family {k}"))
    # A rule that is always false is one value, not a column: with_columns gives it its n rows.
    held = frame.with_columns(rules)
    found = np.full((n, len(scheme.tags_by_family)), NONE, np.int16)
    readable = np.empty((n, len(scheme.tags_by_family)), bool)
    for k, (_, tags) in enumerate(scheme.tags_by_family):
        numbers = [scheme.tags.index(tag) for tag in tags]
        readable[:, k] = held[f"family {k}"].to_numpy()
        for quantile in {quantile for tag in tags for quantile in tag.parsed.quantiles}:
            readable[:, k] &= ~np.isnan(measured.thresholds[quantile])
        decided = [number for number, tag in zip(numbers, tags, strict=True) if not tag.parsed.is_else]
        for number in reversed(decided):
            found[held[str(number)].to_numpy(), k] = number
        for number in set(numbers) - set(decided):
            found[readable[:, k] & (found[:, k] == NONE), k] = number
    return found, readable


def _columns(measured: Measured, scheme: TagScheme) -> dict[str, pl.Series]:
    """The columns that rules read, by the names that `Rule.expression` gives them."""
    n = measured.spans.num_rows
    columns: dict[str, pl.Series] = {}
    for axis in {axis for tag in scheme.tags for axis in tag.parsed.axes}:
        if axis not in measured.scores:
            known = ", ".join(sorted(measured.scores)) or "none"
            raise ConfigError(f"a rule reads the axis {axis!r}; axes scored: {known}.")
        values = measured.scores[axis]
        if values.shape != (n,) or values.dtype != np.float32:
            raise ConfigError(f"axis {axis!r} needs float32 [{n}], got {values.dtype} {values.shape}.")
        columns[axis] = pl.Series(axis, values)
    for axis in scheme.curves:
        if axis not in measured.curves:
            raise ConfigError(
                f"a rule reads p({axis}), but no probability curve is fitted for {axis!r}.",
                hint=f"fit one on labels, or compare the raw score with a quantile: `{axis} >= q(0.7)`.",
            )
        columns[f"p:{axis}"] = pl.Series(f"p:{axis}", measured.curves[axis].probability(measured.scores[axis]))
    for name in scheme.columns:
        if name not in measured.columns:
            known = ", ".join(sorted(measured.columns)) or "none"
            raise ConfigError(f"a rule reads the column {name!r} of the corpus; columns given: {known}.")
        columns[f"c:{name}"] = pl.Series(f"c:{name}", measured.columns[name], pl.String)
    for quantile in scheme.quantiles:
        if quantile.by:  # the others are constants of the rules
            columns[str(quantile)] = pl.Series(str(quantile), measured.thresholds[quantile], pl.Float32)
    return columns


def _by_rank(measured: Measured, scheme: TagScheme, ranks: Ranks | None) -> States:
    """The families at each span, that of the highest score first: int16 `[n_spans, n_families]`."""
    assert ranks is not None, "the order by rank takes ranks"
    none = np.full(measured.spans.num_rows, -1.0)
    first_axes = [next((axis for tag in tags for axis in tag.parsed.axes), "") for _, tags in scheme.tags_by_family]
    values = np.stack([np.nan_to_num(ranks.get(axis, none), nan=-1.0) for axis in first_axes], axis=1)
    return np.argsort(-values, axis=1, kind="stable").astype(np.int16)


def _other(state: States, readable: npt.NDArray[np.bool_], numbers: States, control: str) -> States:
    """The tags of one family under a control.

    "constant": each tag becomes the first of the family. "reversed": the first becomes the last, and so on; a family of
    one tag has it on the other spans instead.
    """
    if control == "reversed" and len(numbers) == 1:
        return np.where((state == NONE) & readable, numbers[0], np.int16(NONE))
    to = np.full(numbers.max() + 2, NONE, np.int16)  # the last is for NONE
    to[numbers] = numbers[0] if control == "constant" else numbers[::-1]
    return to[state]


def _join(found: States, scheme: TagScheme) -> None:
    """Where all tags of an alias hold, put the alias in their place, unless it is a name for prompts alone."""
    family_of = {tag.name: k for k, (_, tags) in enumerate(scheme.tags_by_family) for tag in tags}
    for alias in sorted(scheme.aliases, key=lambda alias: -len(scheme.meant(alias.name))):  # the widest first
        if alias.expand:
            continue
        members = [(family_of[name], scheme.names.index(name)) for name in scheme.meant(alias.name)]
        holds = np.all([found[:, k] == number for k, number in members], axis=0)
        for k, _ in members:
            found[holds, k] = SILENT
        found[holds, members[0][0]] = scheme.names.index(alias.name)
