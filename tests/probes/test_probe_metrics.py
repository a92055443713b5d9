import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.errors import ConfigError
from annotate.probes.metrics import (
    auroc,
    bootstrap_interval,
    brier,
    calibration_error,
    spearman,
)

PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def columns(pairs):
    return np.array([score for score, _ in pairs], np.float64), np.array([label for _, label in pairs])


@given(PAIRS)
def test_auroc_counts_pairs(pairs):
    scores, labels = columns(pairs)
    wins = [1.0 if high > low else 0.5 if high == low else 0.0 for high in scores[labels] for low in scores[~labels]]
    assert auroc(scores, labels) == pytest.approx(np.mean(wins))


@given(PAIRS)
def test_auroc_turns_round_with_the_scores(pairs):
    scores, labels = columns(pairs)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))


def test_auroc_needs_both_labels():
    with pytest.raises(ConfigError, match="0 of 3 true"):
        auroc(np.arange(3.0), np.zeros(3, np.bool_))


def test_spearman_is_of_ranks_alone():
    scores = np.array([1.0, 2.0, 2.0, 5.0, 3.0])
    ratings = np.array([0.1, 0.3, 0.2, 0.4, 0.9])
    # Ranks 1, 2.5, 2.5, 5, 4 against 1, 3, 2, 4, 5, by hand: 8.5 / sqrt(9.5 * 10).
    assert spearman(scores, ratings) == pytest.approx(8.5 / np.sqrt(95))
    assert spearman(np.exp(scores), ratings**3) == pytest.approx(spearman(scores, ratings))
    assert spearman(np.zeros(5), ratings) == 0.0


def test_the_bootstrap_covers_the_value_and_repeats_itself():
    values = np.random.default_rng(1).normal(5, 1, 400)
    low, high = bootstrap_interval(lambda rows: float(values[rows].mean()), 400, seed=3)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert (low, high) == bootstrap_interval(lambda rows: float(values[rows].mean()), 400, seed=3)


def test_brier_and_calibration_error_by_hand():
    probabilities, labels = np.array([0.9, 0.9, 0.2, 1.0]), np.array([True, False, False, True])
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    assert brier(probabilities, labels, weights) == pytest.approx((0.01 + 0.81 + 2 * 0.04) / 8)
    # 0.9 and 1.0 share the last bin: |-0.1 + 0.9 + 0| there, 0.4 in the other.
    assert calibration_error(probabilities, labels, weights) == pytest.approx((0.8 + 0.4) / 8)
