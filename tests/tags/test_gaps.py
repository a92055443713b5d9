"""Gaps: what is left out of a text, and where tags then are."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from annotate.storage.contracts import contract
from annotate.tags.gaps import gap_lists, gaps_of, leave_out, moved
from annotate.tags.placements import placements_of
from annotate.tags.rendering import render, strip

words = st.text(st.sampled_from("ab \u00e9\u4e2d\U0001f600"), min_size=1, max_size=4)
documents = st.lists(st.lists(st.tuples(words, st.booleans(), st.booleans()), max_size=6), min_size=1, max_size=5)
Document = list[tuple[str, bool, bool]]
"""Spans, each with whether it is left out and whether a tag is before it."""


def spans_of(documents: list[Document]) -> tuple[pa.Table, np.ndarray, list[str]]:
    rows = []
    for row, spans in enumerate(documents):
        start = byte_start = 0
        for text, _, _ in spans:
            end, byte_end = start + len(text), byte_start + len(text.encode())
            rows.append((row, start, end, byte_start, byte_end))
            start, byte_start = end, byte_end
    names = ["row", "start", "end", "byte_start", "byte_end"]
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    table = pa.table([pa.array(column) for column in columns], names=names)
    dropped = np.array([gone for spans in documents for _, gone, _ in spans], bool)
    return table, dropped, ["".join(text for text, _, _ in spans) for spans in documents]


@given(documents)
def test_what_is_kept_is_kept_byte_for_byte(documents: list[Document]) -> None:
    spans, dropped, texts = spans_of(documents)
    gaps = gaps_of(spans, dropped)
    kept = ["".join(text for text, gone, _ in each if not gone) for each in documents]
    assert leave_out(pa.array(texts, pa.large_string()), gaps).to_pylist() == kept
    lists = gap_lists(gaps, len(texts), contract("text-shards").type_of("gaps")).to_pylist()
    for text, cut, expected in zip(texts, lists, kept, strict=True):
        edges = [0, *itertools.chain.from_iterable((gap["start"], gap["end"]) for gap in cut), len(text)]
        assert "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)) == expected
        edges = [0, *itertools.chain.from_iterable((gap["byte_start"], gap["byte_end"]) for gap in cut), None]
        assert b"".join(text.encode()[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).decode() == expected
        # Gaps are as long as they can be.
        assert all(one["end"] < two["start"] for one, two in itertools.pairwise(cut))


@given(documents)
def test_tags_go_before_the_spans_they_were_before(documents: list[Document]) -> None:
    spans, dropped, texts = spans_of(documents)
    gaps = gaps_of(spans, dropped)
    tagged = np.array([tag and not gone for each in documents for _, gone, tag in each], bool)
    row, start, byte_start = (spans[name].to_numpy()[tagged] for name in ("row", "start", "byte_start"))
    placed = moved(placements_of(row, start, byte_start, pa.array(["t"] * len(row), pa.string()), "open"), gaps)
    kept = leave_out(pa.array(texts, pa.large_string()), gaps)
    found = render(kept, placed)
    assert found.to_pylist() == [
        "".join(("<t>" if tag else "") + text for text, gone, tag in each if not gone) for each in documents
    ]
    assert strip(found, placed).equals(kept)
    for at, offset, byte_offset in zip(*(placed[n].to_pylist() for n in ("row", "offset", "byte_offset")), strict=True):
        assert len(kept[at].as_py()[:offset].encode()) == byte_offset


def test_a_place_inside_a_gap_is_where_the_gap_was() -> None:
    """The border of a larger span may lie between two smaller ones that are both left out."""
    gaps = pa.table({"row": [1, 1], "start": [2, 9], "end": [6, 10], "byte_start": [4, 11], "byte_end": [8, 12]})
    row, offset, byte_offset = np.array([0, 1, 1, 1, 1]), np.array([3, 2, 4, 6, 10]), np.array([3, 4, 6, 8, 12])
    placed = moved(placements_of(row, offset, byte_offset, pa.array(["a", "b", "c", "d", "e"]), "open"), gaps)
    assert placed["offset"].to_pylist() == [3, 2, 2, 2, 5]
    assert placed["byte_offset"].to_pylist() == [3, 4, 4, 4, 7]
    assert placed["order"].to_pylist() == [0, 0, 1, 2, 0]


def test_null_documents_and_slices_stay_as_they_are() -> None:
    texts = pa.array(["x", "abc", None, "def"], pa.large_string())[1:]
    gaps = pa.table({"row": [0, 2], "start": [1, 0], "end": [2, 3], "byte_start": [1, 0], "byte_end": [2, 3]})
    assert leave_out(texts, gaps).to_pylist() == ["ac", None, ""]
