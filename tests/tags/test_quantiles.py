import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from annotate.errors import ConfigError
from annotate.tags.group_quantiles import Tally, tally_values
from annotate.tags.quantiles import (
    BINS,
    exact_quantile,
    histogram,
    image,
    quantile_bin,
    quantile_rank,
    score_of,
)

floats = st.floats(width=32, allow_nan=False)
score_arrays = hnp.arrays(
    np.float32, st.integers(1, 200), elements=st.one_of(floats, st.sampled_from([0.0, -0.0, 1.0]))
)
quantiles = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))


def values_in_bins(scores, bins):
    return tally_values(scores, np.zeros(len(scores), np.int64), [np.array([b]) for b in bins], 1).group(0)


def merge_values(pieces):
    values, counts = (np.concatenate([[], *some]) for some in zip(*pieces, strict=True)) if pieces else ([], [])
    values, counts = np.array(values, np.uint32), np.array(counts, np.int64)
    return Tally.of(np.zeros(len(values), np.int64), values, 1, counts).group(0)


def fit(pieces, q):
    counts = sum(histogram(piece) for piece in pieces)
    where, _ = quantile_bin(counts, q)
    return exact_quantile(counts, q, *merge_values([values_in_bins(piece, [where]) for piece in pieces]))


@given(hnp.arrays(np.float32, 50, elements=floats))
def test_image_keeps_order_and_equality(scores):
    images = image(scores)
    assert images.dtype == np.uint32
    assert np.array_equal(images[:, None] < images[None, :], scores[:, None] < scores[None, :])
    assert np.array_equal(images[:, None] == images[None, :], scores[:, None] == scores[None, :])
    assert np.array_equal(score_of(images), scores)


def test_image_of_special_values():
    rising = np.array([-math.inf, -3.4e38, -1.0, -1e-45, 0.0, 1e-45, 1.0, 3.4e38, math.inf], np.float32)
    assert (np.diff(image(rising).astype(np.int64)) > 0).all()
    assert image(np.array([-0.0], np.float32)) == image(np.array([0.0], np.float32)) == 0x80000000
    assert not np.signbit(score_of(image(np.array([-0.0], np.float32)))[0])


def test_nan_is_no_score():
    nan = np.float32(np.nan)
    scores = np.array([1, nan, 2, -nan, 3], np.float32)
    assert histogram(scores).sum() == 3
    assert histogram(scores).shape == (BINS,)
    assert values_in_bins(scores, np.flatnonzero(histogram(scores)))[1].sum() == 3


def test_rank_is_exact_in_decimal():
    assert math.ceil(0.07 * 100) == 8  # what floating point would give
    assert [quantile_rank(n, q) for n, q in [(100, 0.07), (10, 0.7), (11, 0.7), (3, 0.0), (3, 1.0), (0, 0.5)]] == [
        7, 7, 8, 1, 3, 0,
    ]  # fmt: skip
    assert quantile_rank(10**17, 0.7) == 7 * 10**16
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match=r"a quantile must lie in \[0, 1\]"):
            quantile_rank(3, q)


@given(score_arrays, quantiles)
def test_quantile_is_the_smallest_score_with_enough_at_or_below(scores, q):
    fitted = fit([scores], q)
    rising = np.sort(scores)
    n = len(scores)
    enough = [x for x in rising if (scores <= x).sum() >= Fraction(repr(q)) * n]
    assert fitted.value == enough[0]
    assert fitted.value == rising[fitted.rank - 1]
    assert (fitted.n, fitted.below, fitted.ties) == (n, (scores < fitted.value).sum(), (scores == fitted.value).sum())


@given(score_arrays, quantiles, st.data())
def test_pieces_merge_in_any_order_and_grouping(scores, q, data):
    order = data.draw(st.permutations(range(len(scores))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5)))
    assert fit(np.split(scores[order], cuts), q) == fit([scores], q)


def test_scores_of_other_bins_do_not_disturb():
    scores = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    counts = histogram(scores)
    bins = [quantile_bin(counts, q)[0] for q in (0.1, 0.5, 0.9)]
    values = values_in_bins(scores, bins)
    for q in (0.1, 0.5, 0.9):
        assert exact_quantile(counts, q, *values) == fit([scores], q)
        assert exact_quantile(counts, q, *values).value == np.quantile(scores, q, method="inverted_cdf")


def test_all_equal_scores_are_ties():
    fitted = fit([np.full(7, 2.5, np.float32)], 0.7)
    assert (fitted.value, fitted.n, fitted.rank, fitted.below, fitted.ties) == (2.5, 7, 5, 0, 7)


def test_no_scores():
    counts = histogram(np.array([np.nan], np.float32))
    fitted = exact_quantile(counts, 0.5, *merge_values([]))
    assert math.isnan(fitted.value)
    assert (fitted.n, fitted.rank, fitted.ties) == (0, 0, 0)
    with pytest.raises(ConfigError, match=r"q\(0.5\) of no scores"):
        quantile_bin(counts, 0.5)


def test_passes_over_different_scores_are_noticed():
    scores = np.array([1, 1, 2], np.float32)
    where, _ = quantile_bin(histogram(scores), 0.5)
    with pytest.raises(ConfigError, match="holds 2 scores by the first pass and 1 by the second"):
        exact_quantile(histogram(scores), 0.5, *values_in_bins(scores[1:], [where]))


@pytest.mark.slow
def test_ten_million_scores_in_shuffled_chunk_orders():
    rng = np.random.default_rng(7)
    scores = np.round(rng.normal(size=10_000_000), 4).astype(np.float32)  # rounded, so that there are ties
    chunks = np.split(scores, np.sort(rng.integers(0, len(scores), 40)))
    counts = [histogram(chunk) for chunk in chunks]
    total = sum(counts)
    bins = [quantile_bin(total, q)[0] for q in (0.1, 0.7, 0.99)]
    inside = [values_in_bins(chunk, bins) for chunk in chunks]
    results = []
    for _ in range(5):
        order = rng.permutation(len(chunks))
        merged = (np.zeros(0, np.uint32), np.zeros(0, np.int64))
        for i in order:  # one by one, as receipts come in
            merged = merge_values([merged, inside[i]])
        summed = np.sum([counts[i] for i in order], axis=0)
        results.append([exact_quantile(summed, q, *merged) for q in (0.1, 0.7, 0.99)])
    assert all(result == results[0] for result in results)
    for fitted, at in zip(results[0], (1_000_000, 7_000_000, 9_900_000), strict=True):
        assert fitted.rank == at
        assert fitted.value == np.partition(scores, at - 1)[at - 1]
        assert fitted.ties == (scores == fitted.value).sum() > 1
