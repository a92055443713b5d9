"""Scores of ranges as scores of spans, against a reference that looks at each code point."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from annotate.text.overlaps import Ranges, overlap_means

Range = tuple[int, int, float]

scores = st.one_of(st.sampled_from([0.0, 1.0, 0.25, np.nan, np.inf, -1e300]), st.floats(-1e6, 1e6))
ranges = st.tuples(st.integers(0, 30), st.integers(0, 30), scores).map(lambda r: (min(r[:2]), max(r[:2]), r[2]))
documents = st.lists(st.tuples(st.lists(st.integers(1, 9), max_size=4), st.lists(ranges, max_size=5)), max_size=4)


def spans_of(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(itertools.accumulate(lengths, initial=0)))


def reference(span: tuple[int, int], found: Sequence[Range], unmarked: float | None) -> float:
    """Each code point of the span has the scores of the ranges that it is in."""
    seen = []
    for at in range(*span):
        here = [score for start, end, score in found if start <= at < end and abs(score) < 1e38]
        seen += here or ([] if unmarked is None else [unmarked])
    return sum(seen) / len(seen) if seen else np.nan


def means(made: Sequence[tuple[Sequence[int], Sequence[Range]]], unmarked: float | None = None) -> list[float]:
    spans = [(i, *span) for i, (lengths, _) in enumerate(made) for span in spans_of(lengths)]
    found = [(i, *one) for i, (_, own) in enumerate(made) for one in own]
    document, start, end = np.array(spans, np.int64).reshape(-1, 3).T
    whole = np.array([each[:3] for each in found], np.int64).reshape(-1, 3).T
    scored = Ranges(document=whole[0], start=whole[1], end=whole[2], score=np.array([each[3] for each in found], float))
    values = overlap_means(document, start, end, scored, unmarked=unmarked)
    assert values.dtype == np.float32 and len(values) == len(spans)
    return values.tolist()


@given(made=documents, unmarked=st.one_of(st.none(), st.floats(-10, 10)))
def test_as_the_reference_has_it(made: list[tuple[list[int], list[Range]]], unmarked: float | None) -> None:
    expected = [reference(span, found, unmarked) for lengths, found in made for span in spans_of(lengths)]
    np.testing.assert_allclose(means(made, unmarked), np.array(expected, np.float32), rtol=1e-5, atol=1e-4)


@given(made=documents, unmarked=st.one_of(st.none(), st.just(0.5)))
def test_a_document_has_the_same_scores_whatever_it_comes_with(
    made: list[tuple[list[int], list[Range]]], unmarked: float | None
) -> None:
    alone = [value for document in made for value in means([document], unmarked)]
    np.testing.assert_array_equal(means(made, unmarked), alone)


def test_what_it_means() -> None:
    half = [([4, 6], [(0, 6, 1.0), (6, 10, 0.0)])]
    assert means(half) == [1.0, np.float32(2 / 6)]
    whole = [([4, 6], [(0, 10, 0.5)])]
    assert means(whole) == [0.5, 0.5]
    marked = [([4, 6], [(4, 7, 1.0)])]
    np.testing.assert_equal(means(marked), [np.nan, 1.0])
    assert means(marked, 0.0) == [0.0, 0.5]
    np.testing.assert_equal(means([([4], [(2, 2, 1.0), (9, 12, 1.0), (0, 4, np.nan)])]), [np.nan])
