"""Placing: from what rules give each span to placements, in the order in which these stand in the text.

What stands at a span is, in this order: the tags before it, those inside it, the closing tags after it, in the reversed
order of the families, and the tags after it. The next span begins where it ends, so everything is in order by
construction, and the tags of the layout "begin-end" nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.randomness import keyed_hash, uniform
from annotate.tags.layouts import CLOSES, LAYOUTS, NONE, Float64, Int64, Layout, Mask, States
from annotate.tags.placements import CLOSE, MARK, OPEN, PLACEMENTS, merge, placements_at
from annotate.tags.scheme import TagScheme
from annotate.tags.span_words import later_words
from annotate.tags.states import Measured, Ranks, Ruled, by_rules, shuffled, states


def place(
    measured: Measured,
    scheme: TagScheme,
    *,
    ranks: Ranks | None = None,
    texts: pa.Array | None = None,
    ruled: Ruled | None = None,
) -> pa.Table:
    """Place the tags of a unit.

    Args:
        measured: the spans, and all that rules read of them.
        scheme: the tags.
        ranks: float64 `[n_spans]` by axis, the rank of each score in [0, 1]. The order "rank" needs them.
        texts: large_string `[n_spans]`, the text of each span. Layouts with tags inside spans need it.
        ruled: what rules and controls give each span, where that is known already, as after a shuffle of the whole
            corpus. None: the rules and controls of the scheme are applied, to these spans.

    Returns:
        Placements of the kinds `open`, `close` and `mark`, of the schema `PLACEMENTS`.

    Raises:
        ConfigError: an axis, a column, a threshold or a curve is missing, or an axis has not one score a span.
    """
    if ruled is None:
        ruled = shuffled(by_rules(measured, scheme, ranks), measured, scheme)
    found = states(ruled, measured, scheme)
    layouts = [LAYOUTS[family.layout] for family, _ in scheme.tags_by_family]
    slots = _slots(found, layouts, measured.row)
    if (order := _order(measured, scheme, ruled)) is not None:
        reverse = order[:, ::-1]
        slots = [np.take_along_axis(each, by, axis=1) for each, by in zip(slots, (order, reverse, order), strict=False)]
    elif len(slots) > 1:
        slots[1] = slots[1][:, ::-1]
    together = np.concatenate(slots, axis=1) if len(slots) > 1 else slots[0]
    placed = _placed(together, len(layouts), measured.spans, scheme)
    if inside := [(k, layout.inside) for k, layout in enumerate(layouts) if layout.inside is not None]:
        assert texts is not None, "tags inside spans take the texts"
        placed = merge([placed, *(_inside(found[:, k], k, choose, measured, scheme, texts) for k, choose in inside)])
    return placed


def _order(measured: Measured, scheme: TagScheme, ruled: Ruled) -> npt.NDArray[np.int64] | None:
    """The order of the families at each span, int64 `[n_spans, n_families]`; None: that of the scheme."""
    families = scheme.tags_by_family
    if ruled.order is not None:
        return ruled.order.astype(np.int64)
    if scheme.order != "shuffled" or len(families) < 2 or not measured.spans.num_rows:
        return None
    keys = np.stack([measured.drawn(scheme.seed, f"order of {family.name}") for family, _ in families], axis=1)
    return np.argsort(keys, axis=1, kind="stable")


def _slots(found: States, layouts: Sequence[Layout], row: Int64) -> list[States]:
    """What stands before each span, what closes it, and what stands after it: int16 `[n_spans, n_families]` each.

    The last two are left out where no layout has them.
    """
    functions = [[layout.before for layout in layouts]]
    if any(layout.closing or layout.after for layout in layouts):
        functions += [[layout.closing for layout in layouts], [layout.after for layout in layouts]]
    slots = []
    for of_families in functions:
        slots.append(np.full_like(found, NONE))
        for k, function in enumerate(of_families):
            if function is not None:
                slots[-1][:, k] = function(found[:, k], row)
    return slots


def _placed(slots: States, families: int, spans: pa.Table, scheme: TagScheme) -> pa.Table:
    """Make placements of what stands at each span. The first slots are before the span, the others after it."""
    width = slots.shape[1]
    at = np.flatnonzero(slots >= 0)  # in order: span by span, slot by slot
    span, slot = np.divmod(at, width)
    state = slots.ravel()[at]
    offset, byte_offset = (spans[name].to_numpy()[span] for name in ("start", "byte_start"))
    if width > families:
        behind = slot >= families
        for places, name in ((offset, "end"), (byte_offset, "byte_end")):
            places[behind] = spans[name].to_numpy()[span[behind]]
    names = list(scheme.shown)
    kinds = np.where(state >= CLOSES, CLOSE, OPEN)
    kinds[slot >= 2 * families] = MARK
    return placements_at(
        spans["row"].to_numpy()[span],
        offset,
        byte_offset,
        state.astype(np.int32) % CLOSES,
        names,
        kinds.astype(np.int32),
    )


def _inside(
    state: States,
    k: int,
    choose: Callable[[Float64, float], Mask],
    measured: Measured,
    scheme: TagScheme,
    texts: pa.Array,
) -> pa.Table:
    """The tags of a family that stand before words inside the spans that have them."""
    family = scheme.tags_by_family[k][0]
    spans = np.flatnonzero(state >= 0)
    if not len(spans):
        return PLACEMENTS.empty_table()
    words = later_words(texts.take(pa.array(spans)))
    span = spans[words.span]
    keys = measured.drawn(scheme.seed, f"words of {family.name}")[span]
    chosen = choose(uniform(keyed_hash(scheme.seed, keys, words.number)), family.rate)
    span, offset, byte_offset = span[chosen], words.offset[chosen], words.byte_offset[chosen]
    columns = measured.spans
    return placements_at(
        measured.row[span],
        columns["start"].to_numpy()[span] + offset,
        columns["byte_start"].to_numpy()[span] + byte_offset,
        state[span].astype(np.int32),
        list(scheme.shown),
        np.full(len(span), MARK, np.int32),
    )
