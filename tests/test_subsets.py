"""Subsets: every group in exactly one, at its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from annotate.errors import ConfigError
from annotate.subsets import Subsets

NAMES = ("train", "calibration", "evaluation")


@given(st.lists(st.integers(0, (1 << 64) - 1)), st.integers(0, 9))
def test_each_group_is_in_exactly_one_subset(groups: list[int], seed: int) -> None:
    subsets = Subsets(train=0.5, calibration=0.2, evaluation=0.3, seed=seed)
    found = [subsets.inside(np.array(groups, np.uint64), name) for name in NAMES]
    assert (np.sum(found, axis=0) == 1).all()


def test_shares_are_those_asked_for() -> None:
    groups = np.arange(100_000, dtype=np.uint64)
    subsets = Subsets(train=0.9, calibration=0.04, evaluation=0.06)
    for name, share in zip(NAMES, (0.9, 0.04, 0.06), strict=True):
        low, high = binom.ppf([1e-6, 1 - 1e-6], len(groups), share)
        assert low <= subsets.inside(groups, name).sum() <= high
    other = Subsets(train=0.9, calibration=0.04, evaluation=0.06, seed=1).inside(groups, "evaluation")
    assert (other & subsets.inside(groups, "evaluation")).sum() < 600
    assert Subsets(train=1, calibration=0, evaluation=0).inside(groups, "train").all()


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (float("nan"), 0.5, 0.5), (1.2, -0.1, -0.1), (0, 0, 0)])
def test_shares_that_do_not_sum_to_one(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="must not be negative and sum to 1, got train="):
        Subsets(train=shares[0], calibration=shares[1], evaluation=shares[2])
