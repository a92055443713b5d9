"""States: which tag of each family a span has, after controls, dropout and aliases.

A state is the number of a name in `TagScheme.names`, or `NONE`, or `SILENT` where not even a null tag may stand.
All that is drawn is a hash of the seed, the document, the span and what it is drawn for.
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
from annotate.tags.rules import Thresholds
from annotate.tags.scheme import TagScheme

Scores = npt.NDArray[np.float32]
Ranks = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of the spans of a unit.

    Attributes:
        spans: columns `row`, `span` (its number in the document), `start`, `end`, `byte_start`, `byte_end`, one row a
            span, sorted by row, then start.
        scores: float32 `[n_spans]` by axis, NaN where there is none.
        columns: of the corpus, string `[n_spans]` by name.
        thresholds: raw score by quantile, for all of the scheme's; of one by group float32 `[n_spans]`, NaN for spans
            of a group that has no scores.
        curves: probability curve by axis, for all that the scheme reads as a probability.
        shard: of the documents.
        untagged: bool `[n_spans]`, which are of documents that get no tag, as they are in a phase without; None for no
            such phase.
    """

    spans: pa.Table
    scores: Mapping[str, Scores]
    thresholds: Thresholds
    curves: Mapping[str, Curve]
    columns: Mapping[str, pa.Array | pl.Series]
    shard: str
    untagged: npt.NDArray[np.bool_] | None = None

    @property
    def row(self) -> Int64:
        """The document of each span."""
        return self.spans["row"].to_numpy()

    def drawn(self, seed: int, purpose: str, *, per_document: bool = False) -> npt.NDArray[np.uint64]:
        """A hash for each span, the same for all of a document if asked: uint64 `[n_spans]`."""
        span = 0 if per_document else self.spans["span"].to_numpy()
        if not self.spans.num_rows:
            return np.empty(0, np.uint64)
        return keyed_hash(seed, name_key(self.shard), self.row, span, name_key(purpose))


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """What rules give spans: all that a control moves to other spans, together.

    Attributes:
        states: int16 `[n_spans, n_families]`, without null tags, aliases and the dropout of documents.
        order: of the families at each span by the ranks of its scores, int16 `[n_spans, n_families]`; None where the
            scheme has another order, which tells nothing of the scores.
    """

    states: States
    order: States | None = None

    def taken(self, spans: Int64) -> Ruled:
        """Those of these spans, in their order."""
        return Ruled(states=self.states[spans], order=None if self.order is None else self.order[spans])


def by_rules(measured: Measured, scheme: TagScheme, ranks: Ranks | None = None) -> Ruled:
    """What rules give each span after the dropout of families, and what a control makes of each span by itself.

    Args:
        measured: the spans, and all that rules read of them.
        scheme: the tags.
        ranks: float64 `[n_spans]` by axis, the rank of each score in [0, 1]; for the order "rank".

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
    """What a control makes of them that moves them to other spans; "shuffled" to any of those given."""
    match scheme.control:
        case "shuffled":
            return ruled.taken(np.argsort(shuffle_keys(measured, scheme), kind="stable"))
        case "shuffled-in-document":
            return ruled.taken(np.lexsort((shuffle_keys(measured, scheme), measured.row)))
    return ruled


def shuffle_keys(measured: Measured, scheme: TagScheme) -> npt.NDArray[np.uint64]:
    """In their order the states of spans are given to the spans in the order of the text: uint64 `[n_spans]`."""
    return measured.drawn(scheme.seed, "shuffled")


def states(ruled: Ruled, measured: Measured, scheme: TagScheme) -> States:
    """The state of each span in each family, given what rules and controls give it: int16 `[n_spans, n_families]`."""
    found = ruled.states.copy()
    _join(found, scheme)
    for k, (family, _) in enumerate(scheme.tags_by_family):
        if family.null is not None:
            found[found[:, k] == NONE, k] = scheme.names.index(family.null)
    if scheme.document_dropout or scheme.control == "untagged":
        found[_untagged(measured, scheme)] = SILENT
    if measured.untagged is not None:
        found[measured.untagged] = SILENT
    return found


def _untagged(measured: Measured, scheme: TagScheme) -> npt.NDArray[np.bool_]:
    """The spans of documents that get no tag: bool `[n_spans]`."""
    if scheme.control == "untagged":
        return np.ones(measured.spans.num_rows, bool)
    drawn = uniform(measured.drawn(scheme.seed, "dropout of documents", per_document=True))
    return drawn < scheme.document_dropout


def _first_that_holds(measured: Measured, scheme: TagScheme) -> tuple[States, npt.NDArray[np.bool_]]:
    """The first tag of each family whose rule holds, and whether all that the family's rules read is there."""
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
    """What rules read, as they name it."""
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
    """The families at each span, the one of the highest score first: int16 `[n_spans, n_families]`."""
    assert ranks is not None, "the order by rank takes ranks"
    none = np.full(measured.spans.num_rows, -1.0)
    first_axes = [next((axis for tag in tags for axis in tag.parsed.axes), "") for _, tags in scheme.tags_by_family]
    values = np.stack([np.nan_to_num(ranks.get(axis, none), nan=-1.0) for axis in first_axes], axis=1)
    return np.argsort(-values, axis=1, kind="stable").astype(np.int16)


def _other(state: States, readable: npt.NDArray[np.bool_], numbers: States, control: str) -> States:
    """The tags of one family, all its first one, or in reversed order; a lone one changes places with none."""
    if control == "reversed" and len(numbers) == 1:
        return np.where((state == NONE) & readable, numbers[0], np.int16(NONE))
    to = np.full(numbers.max() + 2, NONE, np.int16)  # the last is for NONE
    to[numbers] = numbers[0] if control == "constant" else numbers[::-1]
    return to[state]


def _join(found: States, scheme: TagScheme) -> None:
    """Put aliases that are not expanded in place of the tags that they stand for, where all of these hold."""
    family_of = {tag.name: k for k, (_, tags) in enumerate(scheme.tags_by_family) for tag in tags}
    for alias in sorted(scheme.aliases, key=lambda alias: -len(scheme.meant(alias.name))):  # the widest first
        if alias.expand:
            continue
        members = [(family_of[name], scheme.names.index(name)) for name in scheme.meant(alias.name)]
        holds = np.all([found[:, k] == number for k, number in members], axis=0)
        for k, _ in members:
            found[holds, k] = SILENT
        found[holds, members[0][0]] = scheme.names.index(alias.name)
