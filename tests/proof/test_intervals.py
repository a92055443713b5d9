"""Intervals cover what they should, know that spans of a document are alike, and are exact where that can be known."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.errors import ConfigError
from annotate.proof.intervals import detectable, mean_interval, over_seeds, percentiles, ratio_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 2000)
    found = mean_interval(values, np.arange(2000))
    error = values.std() / np.sqrt(2000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)
    assert found.above_zero


def test_spans_of_a_document_that_are_alike_count_once() -> None:
    values = np.random.default_rng(1).normal(0, 1, 200)
    alone = mean_interval(values, np.arange(200))
    copied = mean_interval(np.repeat(values, 10), np.repeat(np.arange(200), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    as_if_apart = mean_interval(np.repeat(values, 10), np.arange(2000))
    assert as_if_apart.high - as_if_apart.low < 0.5 * (alone.high - alone.low)


def test_seeds_that_differ_widen_the_interval() -> None:
    values = np.random.default_rng(2).normal(1.0, 0.1, 500)
    alike = np.stack([values, values, values])
    apart = alike + np.array([[-0.5], [0.0], [0.5]])
    narrow, wide = (mean_interval(each, np.arange(500)) for each in (alike, apart))
    assert narrow.value == pytest.approx(wide.value)
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_intervals_of_three_seeds_that_differ_more_than_documents_cover_the_truth() -> None:
    generator, held, above = np.random.default_rng(5), 0, 0
    documents = np.arange(20)
    for _ in range(200):
        values = generator.normal(0, 0.1, (1, 20)) + generator.normal(0, 1.0, (3, 1))
        found = mean_interval(values, documents)
        held, above = held + (found.low <= 0 <= found.high), above + found.above_zero
    assert held >= 180 and above <= 12  # 95 % and 2.5 % of 200 are 190 and 5


def test_seeds_that_do_not_differ_leave_the_interval_of_documents() -> None:
    values = np.random.default_rng(6).normal(0, 1, 300)
    one, three = mean_interval(values, np.arange(300)), mean_interval(np.stack([values] * 3), np.arange(300))
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=0.01)
    same = over_seeds(np.array([2.0, 2.0]), np.array([2.0, 2.0, np.nan]), np.arange(10))
    assert (same.low, same.high) == (2.0, 2.0)


def test_spans_that_do_not_count_are_left_out_in_all_seeds_or_refused() -> None:
    values = np.tile([[1.0, np.nan, 3.0], [3.0, np.nan, 5.0]], 10)
    assert mean_interval(values, np.arange(30)).value == 3.0
    assert np.isnan(mean_interval(np.full((1, 2), np.nan), np.array([0, 1])).value)
    with pytest.raises(ConfigError, match="in one seed and not in another"):
        mean_interval(np.array([[1.0, np.nan], [1.0, 2.0]]), np.array([0, 1]))
    with pytest.raises(ConfigError, match="3 values are of 2 spans"):
        mean_interval(np.zeros((1, 3)), np.array([0, 1]))


def test_a_ratio_is_of_sums() -> None:
    assert ratio_interval(np.tile([1.0, 5.0], 5), np.tile([1.0, 2.0], 5), np.arange(10)).value == 2.0
    same = ratio_interval(np.tile([2.0, 6.0, 4.0], 4), np.tile([1.0, 3.0, 2.0], 4), np.arange(12))
    assert (same.low, same.high) == pytest.approx((2.0, 2.0))


def test_what_can_be_detected_is_the_rule_of_practice_where_each_document_has_one_span() -> None:
    values = np.random.default_rng(3).normal(0, 1, 10_000)
    assert detectable(values, np.arange(10_000)) == pytest.approx(0.028, rel=0.03)  # 2.8 / sqrt(10,000)
    four = np.repeat(values[:2500], 4)
    assert detectable(four, np.repeat(np.arange(2500), 4)) == pytest.approx(0.056, rel=0.05)
    assert np.isnan(detectable(np.ones(3), np.zeros(3, np.int64)))


def test_such_an_effect_is_found_four_times_in_five() -> None:
    generator, found = np.random.default_rng(4), 0
    for _ in range(100):
        values = generator.normal(0.28, 1.0, 100)  # 2.8 / sqrt(100)
        found += mean_interval(values, np.arange(100)).above_zero
    assert 68 <= found <= 92


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_a_few_documents_nothing_is_measured(seeds: int) -> None:
    """The interval of one document would have no width: each draw is that document."""
    values = np.random.default_rng(7).normal(5.0, 0.1, (seeds, 90))
    for documents in (np.zeros(90, np.int64), np.arange(90) % 9):
        for found in (mean_interval(values, documents), ratio_interval(values, np.ones(90), documents)):
            assert np.isnan([found.value, found.low, found.high]).all() and not found.above_zero
    assert mean_interval(values, np.arange(90) % 10).above_zero


def test_draws_that_could_not_be_measured_are_left_out() -> None:
    found = percentiles(1.0, np.array([np.nan, 1.0, 1.0]))
    assert (found.low, found.high) == (1.0, 1.0)
    assert np.isnan(percentiles(np.nan, np.ones(3)).low)
