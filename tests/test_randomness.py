import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.randomness import bottom_k, keyed_hash, name_key, uniform


def by_the_book(seed, *columns):
    """The construction as the module states it, in Python integers."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    state = mix(seed + golden & mask)
    for i, column in enumerate(columns, start=1):
        state = mix(state ^ mix(column + (i + 1) * golden & mask))
    return state


def test_golden_values():
    # The first output of SplitMix64 seeded with 0, as published with its reference code.
    assert keyed_hash(0)[0] == 0xE220A8397B1DCDAF
    assert keyed_hash(1, np.array([0, 1, 2])).tolist() == [0x4728CDD5EE342CC5, 0xCD6F7DC0C7FBCD6D, 0x591FA65F4538F44C]
    assert name_key("niceness") == 0xC30659C3724679E


@given(st.integers(-(2**63), 2**64 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_construction(seed, row):
    expected = by_the_book(seed, *row)
    assert keyed_hash(seed, *row).tolist() == [expected]
    assert keyed_hash(seed, *(np.array([value, value]) for value in row))[0] == expected


def test_integers_stand_for_columns_and_order_matters():
    documents = np.arange(1000, dtype=np.int64)
    assert np.array_equal(keyed_hash(5, documents, 3), keyed_hash(5, documents, np.full(1000, 3, np.uint64)))
    assert not np.isin(keyed_hash(5, documents, 3), keyed_hash(5, 3, documents)).any(where=documents != 3)
    assert len(np.unique(keyed_hash(5, documents))) == 1000


def test_uniform_in_every_bit_and_independent_of_the_seed():
    n = 1 << 16
    documents, spans = np.divmod(np.arange(n), 64)
    keys = keyed_hash(9, documents, spans)
    bits = (keys[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    values = uniform(keys)
    assert 0 <= values.min() < values.max() < 1
    expected = n / 100
    chi_squared = ((np.histogram(values, 100, (0, 1))[0] - expected) ** 2 / expected).sum()
    assert 99 - 5 * np.sqrt(198) < chi_squared < 99 + 5 * np.sqrt(198)
    other = uniform(keyed_hash(10, documents, spans))
    assert abs(np.corrcoef(values, other)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 5 / np.sqrt(n)


rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([None, 0.5, 1.5])), max_size=40)


def table(data):
    schema = pa.schema([("row", pa.int64()), ("key", pa.uint64()), ("score", pa.float32())])
    return pa.Table.from_pylist([{"key": k, "row": r, "score": s} for k, r, s in data], schema=schema)


@given(rows, st.integers(0, 20), st.data())
def test_bottom_k_does_not_depend_on_order_or_grouping(data, k, draw):
    whole = bottom_k([table(data)], k)
    shuffled = draw.draw(st.permutations(data))
    cut = draw.draw(st.integers(0, len(data)))
    pieces = [bottom_k([table(part)], k) for part in (shuffled[:cut], shuffled[cut:])]
    assert bottom_k(pieces, k).equals(whole)
    assert bottom_k(pieces[::-1], k).equals(whole)
    expected = sorted(data, key=lambda r: (r[0], r[1], r[2] is None, r[2] or 0))[:k]
    assert whole.equals(table(expected))


def test_bottom_k_is_a_fair_sample():
    keys = keyed_hash(3, np.arange(100_000))
    sample = bottom_k([pa.table({"key": keys, "row": np.arange(100_000)})], 10_000)
    assert sample.num_rows == 10_000
    assert sample["row"].to_numpy().mean() == pytest.approx(50_000, abs=5 * 100_000 / np.sqrt(12 * 10_000))
