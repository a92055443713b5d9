"""The control "shuffled" without Ray: a permutation over the corpus that knows nothing of how it is sorted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from exchanges import Given
from exchanges import shuffled as shuffled_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from length_scorer import length_scorer
from scipy.stats import hypergeom

from annotate import Calibrate, Corpus, NearDuplicates, Place, RepeatedSpans, Split, Tag, TagScheme, Thresholds, score
from annotate.graph import RANGE_UNITS, Partitions, Shuffle
from annotate.randomness import keyed_hash
from annotate.stages.shuffled_states import states_of_unit
from annotate.storage.contracts import contract
from annotate.tags.states import NONE, Measured, by_rules, shuffled

SCHEME = TagScheme(
    tags=(
        Tag(name="long", rule="length > 50"),
        Tag(name="wide", rule="width > 10"),
        Tag(name="thin", rule="width < 5"),
    ),
    control="shuffled",
)


SCORERS = [length_scorer("length"), length_scorer("width")]


def placed(scheme: TagScheme = SCHEME, *, filtered: bool = False) -> Place:
    """A scheme on a corpus; with filtered, under verdicts, and repeated spans are left out."""
    documents = Corpus("corpus")
    verdicts = NearDuplicates(documents) if filtered else None
    spans = Split(documents)
    scores = score(spans, skip=verdicts, scorers=SCORERS)
    drop = RepeatedSpans(drop=True) if filtered else None
    return Place(Thresholds(Calibrate(scores, repeated=drop), scheme))


def exchanged(stage: Shuffle, tables: list[pa.Table], units: int) -> list[pa.Table]:
    """What the partitions of a shuffle make of the tables of its source."""
    outputs = shuffled_rows(stage, tables, Partitions((-(-units // RANGE_UNITS),), 1 << 30))
    return [contract(stage.schema).check(output.table, stage.name).combine_chunks() for output in outputs]


def given_to(place: Place, states: list[pa.Table]) -> list[pa.Table]:
    """The range of each unit, given the states of all units."""
    back = place.inputs["shuffled"]
    ranges = exchanged(back, exchanged(back.shuffled, states, len(states)), len(states))
    return [ranges[number // RANGE_UNITS] for number in range(len(states))]


def unit_of(n: int, first: int, *, ranked: bool = False) -> pa.Table:
    """States of a unit of n spans, of which each has a number of its own in all its columns."""
    numbers = np.arange(first, first + n, dtype=np.int16)
    keys = keyed_hash(1, numbers) if n else np.empty(0, np.uint64)
    columns = {"state of a": numbers, "state of b": -numbers, **({"order 0": numbers + 1} if ranked else {})}
    return contract("span-states").check(pa.table({"key": keys, **columns}), "span-states")


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4 * RANGE_UNITS), st.booleans())
def test_each_row_of_states_goes_to_one_span(sizes: list[int], ranked: Any) -> None:
    edges = np.cumsum([0, *sizes])
    units = [unit_of(n, first, ranked=ranked) for n, first in zip(sizes, edges[:-1].tolist(), strict=True)]
    found = [states_of_unit(table, number) for number, table in enumerate(given_to(placed(), units))]
    assert [len(each.states) for each in found] == sizes
    states = np.concatenate([each.states for each in found])
    assert sorted(states[:, 0].tolist()) == list(range(edges[-1]))
    assert np.array_equal(states[:, 1], -states[:, 0])
    if ranked:
        assert np.array_equal(np.concatenate([each.order for each in found])[:, 0], states[:, 0] + 1)
    else:
        assert all(each.order is None for each in found)


def test_states_are_independent_of_where_the_corpus_has_them() -> None:
    """A corpus of two sources, one after the other, in units of one source each: half of all spans has tag 1."""
    n, own = 60, 50
    states = (np.full(own, i >= n // 2, np.int16) for i in range(n))
    keys = (keyed_hash(2, np.full(own, i), np.arange(own)) for i in range(n))
    units = [pa.table({"key": key, "state of a": state}) for key, state in zip(keys, states, strict=True)]
    found = [states_of_unit(table, number).states[:, 0] for number, table in enumerate(given_to(placed(), units))]
    total, half = n * own, n * own // 2
    assert sum(int(each.sum()) for each in found) == half
    low, high = hypergeom.interval(1 - 1e-6, total, half, half)
    assert low <= sum(int(each.sum()) for each in found[n // 2 :]) <= high  # of `half`, if they stayed in their unit
    low, high = hypergeom.interval(1 - 1e-6 / n, total, half, own)
    assert all(low <= each.sum() <= high for each in found)


def corpus(units: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Inputs of units of three documents, of spans of one character; some are not kept, some spans are left out."""
    made = []
    for number in range(units):
        rows = np.repeat(np.arange(3 * number, 3 * number + 3), rng.integers(1, 5, 3))
        n = len(rows)
        span = np.arange(n) - np.searchsorted(rows, rows)
        kept = rng.random(3) < (0.0 if number == 4 else 0.7)
        scored = kept[rows - 3 * number]
        scores = pa.table({"row": rows[scored], "span": pa.array(span[scored], pa.int32())})
        values = {axis: rng.integers(0, 100, n).astype(np.float32)[scored] for axis in ("length", "width")}
        out = scored & (rng.random(n) < 0.2)
        offsets = {name: span + name.endswith("end") for name in ("start", "end", "byte_start", "byte_end")}
        made.append(
            {
                "spans": pa.table({"row": rows, **offsets}),
                "verdicts": pa.table({"row": np.arange(3 * number, 3 * number + 3), "kept": kept}),
                "scores-0": scores.append_column("length", pa.array(values["length"])),
                "scores-1": scores.append_column("width", pa.array(values["width"])),
                "repeated": pa.table(
                    {
                        "row": rows[out],
                        "span": pa.array(span[out], pa.int32()),
                        "count": np.full(out.sum(), 200, np.int64),
                        "dropped": np.ones(out.sum(), bool),
                    }
                ),
                "thresholds": contract("thresholds").schema.empty_table(),
            }
        )
    return made


def tags_of_spans(place: Place, units: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Row, offset and tags of every span that has some."""
    shared: list[dict[str, pa.Table]] = [{} for _ in units]
    if "shuffled" in place.inputs:
        states = place.inputs["shuffled"].shuffled.states
        tables = [states.unit(Given("s", 3 * i, 3 * i + 3, i, **unit)).table for i, unit in enumerate(units)]
        tables = [contract("span-states").check(table, "span-states") for table in tables]
        shared = [{"shuffled": table} for table in given_to(place, tables)]
    found: dict[tuple[int, int], str] = {}
    for i, (unit, more) in enumerate(zip(units, shared, strict=True)):
        for row in place.unit(Given("s", 3 * i, 3 * i + 3, i, **unit, **more)).table.to_pylist():
            at = row["row"], row["offset"]
            found[at] = found.get(at, "") + row["tag"]
    return [(*at, tags) for at, tags in found.items()]


def test_only_spans_that_are_trained_on_give_and_get_tags() -> None:
    units = corpus(40, np.random.default_rng(0))
    place = placed(filtered=True)
    true = placed(replace(SCHEME, control="none"), filtered=True)
    before, after = tags_of_spans(true, units), tags_of_spans(place, units)
    assert Counter(tags for *_, tags in before) == Counter(tags for *_, tags in after)  # no tags is one of the states
    assert {"long", "wide", "thin", "longwide", "longthin"} == {tags for *_, tags in after}
    assert {(row, offset) for row, offset, _ in before} != {(row, offset) for row, offset, _ in after}
    kept = np.concatenate([unit["verdicts"]["kept"].to_numpy() for unit in units])
    assert all(kept[row] for row, *_ in after)
    repeated = pa.concat_tables([unit["repeated"] for unit in units])
    left_out = set(zip(repeated["row"].to_pylist(), repeated["span"].to_pylist(), strict=True))
    assert left_out and not left_out & {(row, offset) for row, offset, _ in after}


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_in_one_partition_it_is_what_the_function_does_with_the_whole(cut: int) -> None:
    """So up to 16 units, it does not matter how these are cut."""
    rng = np.random.default_rng(1)
    row = np.repeat(np.arange(40), 3)
    length, width = (rng.integers(0, 100, 120).astype(np.float32) for _ in range(2))
    spans = pa.table({"row": row, "span": np.arange(120) % 3})
    whole = Measured(
        spans=spans, scores={"length": length, "width": width}, thresholds={}, curves={}, columns={}, shard="s"
    )
    expected = shuffled(by_rules(whole, SCHEME), whole, SCHEME)
    units, place = [], placed()
    for own in np.array_split(np.arange(120), [3 * i * 40 // cut for i in range(1, cut)]):
        own_spans = spans.take(pa.array(own))
        scores = own_spans.set_column(1, "span", own_spans["span"].cast(pa.int32()))
        tables = {
            "spans": spans.select(["row"]).take(pa.array(own)),
            "scores-0": scores.append_column("length", pa.array(length[own])),
            "scores-1": scores.append_column("width", pa.array(width[own])),
            "thresholds": contract("thresholds").schema.empty_table(),
        }
        rows = own_spans["row"].to_pylist()
        units.append(place.inputs["shuffled"].shuffled.states.unit(Given("s", rows[0], rows[-1] + 1, **tables)).table)
    found = [states_of_unit(table, number).states for number, table in enumerate(given_to(place, units))]
    assert np.array_equal(np.concatenate(found), expected.states)
    assert set(expected.states[:, 1].tolist()) == {NONE, 1} and set(expected.states[:, 2].tolist()) == {NONE, 2}


def test_only_this_control_shuffles_over_the_corpus() -> None:
    for control in ("none", "shuffled-in-document", "constant"):
        assert "shuffled" not in placed(replace(SCHEME, control=control)).inputs
    assert placed().inputs["shuffled"] == placed().inputs["shuffled"]
    assert placed().inputs["shuffled"] != placed(replace(SCHEME, seed=1)).inputs["shuffled"]
