from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.curves import Platt
from annotate.errors import ConfigError
from annotate.tags import DEFAULT_SCHEME, Tag, TagScheme, placing
from annotate.tags.conditions import Quantile
from annotate.tags.placements import PLACEMENTS, merge, placements_of
from annotate.tags.states import Measured

SCHEME = replace(DEFAULT_SCHEME, document_dropout=0.0)
THRESHOLDS = {key: np.float32(0.5) for key in DEFAULT_SCHEME.quantiles}


def spans_of(rows):
    """Spans of one byte from (row, start, byte_start)."""
    row, start, byte_start = np.array(rows, np.int64).reshape(-1, 3).T
    columns = {"row": row, "span": start, "start": start, "byte_start": byte_start}
    return pa.table({**columns, "end": start + 1, "byte_end": byte_start + 1})


def place(spans, scores, scheme, thresholds, curves=None):
    known = {"spans": spans, "scores": scores, "thresholds": thresholds, "curves": curves or {}}
    return placing.place(Measured(**known, columns={}, shard="s"), scheme)


def floats(*values):
    return np.array(values, np.float32)


def test_tags_stand_at_the_start_of_their_span_in_the_order_of_the_scheme():
    placements = place(
        spans_of([(0, 0, 0), (0, 5, 7), (2, 0, 0)]),
        {"niceness": floats(0.5, 0, 1), "tone": floats(1, 0.4, np.nan), "correctness": floats(0, 0, 1)},
        SCHEME,
        THRESHOLDS,
    )
    assert placements.schema.equals(PLACEMENTS)
    assert [tuple(row.values()) for row in placements.to_pylist()] == [
        (0, 0, 0, 0, "nice", "open"),
        (0, 0, 0, 1, "authoritative_tone", "open"),
        (2, 0, 0, 0, "nice", "open"),
        (2, 0, 0, 1, "correct", "open"),
    ]


def test_offsets_are_those_of_the_span():
    scores = {axis: floats(1) for axis in DEFAULT_SCHEME.axes}
    placements = place(spans_of([(3, 5, 7)]), scores, SCHEME, THRESHOLDS)
    assert (
        placements.select(["row", "offset", "byte_offset"]).to_pylist()
        == [{"row": 3, "offset": 5, "byte_offset": 7}] * 3
    )


def test_spans_at_one_offset_share_the_order():
    scores = {axis: floats(1, 1) for axis in DEFAULT_SCHEME.axes}
    placements = place(spans_of([(0, 0, 0), (0, 0, 0)]), scores, SCHEME, THRESHOLDS)
    assert placements["order"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_probabilities_come_from_the_curve():
    scheme = TagScheme(tags=(Tag(name="nice", rule="p(niceness) >= 0.5"),))
    curves = {"niceness": Platt(a=-2.0, b=2.0)}  # 0.5 at a score of 1
    placements = place(
        spans_of([(0, i, i) for i in range(4)]), {"niceness": floats(0, 1, 2, np.nan)}, scheme, {}, curves
    )
    assert placements["offset"].to_pylist() == [0, 1]
    with pytest.raises(ConfigError, match=r"reads p\(niceness\), but no probability curve(.|\n)*niceness >= q\(0.7\)"):
        place(spans_of([(0, 0, 0)]), {"niceness": floats(0)}, scheme, {})


def test_a_threshold_of_no_scores_and_no_spans():
    scheme = TagScheme(tags=(Tag(name="nice", rule="x >= q(0.7)"), Tag(name="any", rule="x < 9")))
    placements = place(
        spans_of([(0, 0, 0), (1, 0, 0)]), {"x": floats(1, 2)}, scheme, {Quantile("x", 0.7): np.float32(np.nan)}
    )
    assert placements["tag"].to_pylist() == ["any", "any"]
    assert place(spans_of([]), {"x": floats()}, scheme, {Quantile("x", 0.7): 1.0}).num_rows == 0


def test_bad_scores_are_named():
    scheme = TagScheme(tags=(Tag(name="nice", rule="x > 1"),))
    spans = spans_of([(0, 0, 0)])
    with pytest.raises(ConfigError, match="reads the axis 'x'; axes scored: tone, y"):
        place(spans, {"y": floats(1), "tone": floats(1)}, scheme, {})
    with pytest.raises(ConfigError, match=r"axis 'x' needs float32 \[1\], got float32 \(2,\)"):
        place(spans, {"x": floats(1, 2)}, scheme, {})
    with pytest.raises(ConfigError, match=r"axis 'x' needs float32 \[1\], got float64 \(1,\)"):
        place(spans, {"x": np.array([1.0])}, scheme, {})


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=30))
def test_place_agrees_with_a_loop(data):
    scheme = TagScheme(tags=(Tag(name="a", rule="x > 0"), Tag(name="b", rule="not y > 0")))
    data = sorted(data, key=lambda d: d[0])
    spans = spans_of([(row, i, 2 * i) for i, (row, _, _) in enumerate(data)])
    scores = {"x": floats(*(x for _, x, _ in data)), "y": floats(*(y for _, _, y in data))}
    expected = []
    for i, (row, x, y) in enumerate(data):
        names = ["a"] * x + ["b"] * (not y)
        expected += [(row, i, 2 * i, order, name, "open") for order, name in enumerate(names)]
    assert [tuple(row.values()) for row in place(spans, scores, scheme, {}).to_pylist()] == expected


def one(row, offset, tag, kind):
    at = np.array([offset], np.int64)
    return placements_of(np.array([row], np.int64), at, at, pa.array([tag]), kind)


def test_merge_sorts_by_place_and_numbers_anew():
    merged = merge([one(1, 4, "a", "open"), one(0, 4, "b", "escape"), one(1, 4, "c", "open"), one(1, 2, "a", "open")])
    assert merged.schema.equals(PLACEMENTS)
    assert [tuple(row.values()) for row in merged.to_pylist()] == [
        (0, 4, 4, 0, "b", "escape"),
        (1, 2, 2, 0, "a", "open"),
        (1, 4, 4, 0, "a", "open"),
        (1, 4, 4, 1, "c", "open"),
    ]
    assert merge([merged.slice(0, 0), merged.slice(0, 0)]).num_rows == 0
