import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_tokenizer

from annotate.errors import ConfigError
from annotate.models.batches import Batches, cut_batches, sort_and_batch
from annotate.models.encode import encode
from annotate.models.repeats import drop_repeats

words = st.lists(st.sampled_from(["the", "cat", "sat", "mat", "unknown"]), max_size=9).map(" ".join)


@given(st.lists(st.tuples(words, st.one_of(st.none(), words))))
def test_repeats_are_dropped_in_order_of_first_appearance(rows):
    table = pa.table(
        {"text": pa.array([r[0] for r in rows], pa.string()), "prompt": pa.array([r[1] for r in rows], pa.string())}
    )
    distinct, inverse = drop_repeats(table, ("text", "prompt"))
    kept = list(zip(distinct["text"].to_pylist(), distinct["prompt"].to_pylist(), strict=True))
    assert kept == list(dict.fromkeys(rows))
    assert [kept[i] for i in inverse] == rows


# Polars keeps up to 12 bytes in a row's own 16, and four of a longer text: all of these are told apart.
bytes_alike = st.sampled_from(
    [b"", b"\0", b"\0\0", b"a", b"a" * 12, b"a" * 13, b"a" * 12 + b"b", b"\xff", b"\xed\xa0\x80"]
)


@given(st.lists(st.one_of(st.none(), bytes_alike, st.binary(max_size=14)), max_size=40), st.integers(0, 40), st.data())
def test_only_equal_bytes_are_repeats(values, cut, data):
    kind = data.draw(st.sampled_from([pa.string(), pa.large_string()]))
    binary = pa.large_binary() if kind == pa.large_string() else pa.binary()
    halves = [pa.array(part, binary).view(kind) for part in (values[:cut], values[cut:])]
    distinct, inverse = drop_repeats(pa.table({"text": pa.chunked_array(halves)}), ("text",))
    kept = distinct["text"].cast(binary).to_pylist()
    assert kept == list(dict.fromkeys(values))
    assert [kept[i] for i in inverse] == values


def test_a_missing_column_is_named():
    with pytest.raises(ConfigError, match="no column 'context'"):
        drop_repeats(pa.table({"text": ["a"]}), ("text", "context"))


def test_text_of_any_string_type_is_read():
    for column in (pa.array(["a", "b", "a"], pa.large_string()), pa.array(["a", "b", "a"]).dictionary_encode()):
        distinct, inverse = drop_repeats(pa.table({"text": column}), ("text",))
        assert distinct["text"].to_pylist() == ["a", "b"]
        assert inverse.tolist() == [0, 1, 0]


@given(st.lists(st.integers(0, 40), max_size=60).map(sorted), st.integers(1, 100))
def test_batches_keep_to_the_budget_and_cannot_be_longer(lengths, budget):
    rows = np.array(lengths, np.int32)
    bounds = cut_batches(rows, budget).tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(rows)
    for start, stop in itertools.pairwise(bounds):
        assert stop > start
        assert stop == start + 1 or (stop - start) * max(1, rows[stop - 1]) <= budget
        if stop < len(rows) and rows[stop] > 0:
            assert (stop + 1 - start) * rows[stop] > budget


@given(st.lists(words, max_size=30), st.integers(1, 60))
def test_batches_give_back_every_row_padded(texts, budget):
    tokenizer = make_tokenizer().backend_tokenizer
    encoded = encode(tokenizer, texts, 8)
    prepared = sort_and_batch(encoded, np.arange(len(texts)), budget)
    batches = Batches(prepared, pad_id=-7)
    seen = {}
    for start, stop in batches.ranges():
        batch = batches.read(start, stop)
        for row, ids in enumerate(batch.ids):
            seen[int(prepared.arrays["order"][start + row])] = [i for i in ids.tolist() if i != -7]
        assert (batch.mask is None) == (len(set(batch.lengths.tolist())) == 1)
        if batch.mask is not None:
            assert (batch.mask.sum(axis=1) == batch.lengths).all()
    tokenizer.no_truncation()
    whole = [tokenizer.encode(text).ids for text in texts]
    assert [len(seen[i]) for i in range(len(texts))] == [min(8, len(ids)) for ids in whole]
    assert [bool(t) for t in prepared.truncated] == [len(ids) > 8 for ids in whole]
    # Truncation keeps the special token at the end.
    assert all(seen[i][-1] == 2 for i in range(len(texts)))


def test_equal_lengths_keep_the_order_of_first_appearance():
    encoded = encode(make_tokenizer().backend_tokenizer, ["the cat", "a", "the dog", "a dog"], 8)
    assert sort_and_batch(encoded, np.arange(4), 100).arrays["order"].tolist() == [1, 0, 2, 3]


def test_a_huge_text_is_cut_before_it_is_tokenized_and_counts_as_truncated():
    class Spy:
        def __init__(self):
            self.real, self.longest = make_tokenizer().backend_tokenizer, 0

        def encode_batch_fast(self, inputs, **settings):
            self.longest = max(len(text) for text in inputs)
            return self.real.encode_batch_fast(inputs, **settings)

        def __getattr__(self, name):
            return getattr(self.real, name)

    spy = Spy()
    # One unknown word for the tokenizer, however long: the ids alone would not show that text was left out.
    encoded = encode(spy, ["x" * 1_000_000, "the cat"], 8)
    assert spy.longest == 800
    assert encoded.truncated.tolist() == [True, False]


def test_a_pair_is_truncated_where_its_span_does_not_fit():
    encoded = encode(
        make_tokenizer().backend_tokenizer, ["a"] * 3, 8, pairs=["the cat", "the " * 9, "x" * 9000], types=True
    )
    assert encoded.truncated.tolist() == [False, True, True]
    assert encoded.types is not None
    assert encoded.types[:6].tolist() == [0, 0, 0, 1, 1, 1]


def test_nothing_at_all_is_fine():
    encoded = encode(make_tokenizer().backend_tokenizer, [], 8)
    prepared = sort_and_batch(encoded, np.zeros(0, np.int64), 100)
    assert prepared.distinct == 0
    assert list(Batches(prepared, 0).ranges()) == []


def test_columns_that_cannot_be_compared_are_never_repeats():
    table = pa.table({"text": ["a", "a"], "tags": [["x"], ["x"]]})
    distinct, inverse = drop_repeats(table, ("text", "tags"))
    assert distinct.to_pylist() == table.to_pylist()
    assert inverse.tolist() == [0, 1]
