"""The chance that a pair is found: against the closed form, against all signatures there can be, and rising."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.minhash.bands import band_chance, detection_chance

SIMILARITY = np.linspace(0, 1, 21)


@pytest.mark.parametrize(("bands", "rows", "permutations"), [(9, 13, 128), (32, 4, 128), (1, 1, 1), (3, 5, 20)])
def test_one_way_and_any_estimate_give_the_s_curve(bands, rows, permutations):
    chance = detection_chance(SIMILARITY, [(bands, rows)], permutations, 0.0)
    np.testing.assert_allclose(chance, band_chance(SIMILARITY, bands, rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ways", [[(2, 3)], [(3, 2), (1, 5)], [(2, 3), (4, 2), (1, 8)], [(8, 1)]])
@pytest.mark.parametrize("least", [0.0, 0.5, 0.6, 1.0])
def test_all_signatures_of_eight_values_are_counted(ways, least):
    def whole(agree):
        return any(all(agree[b * rows : (b + 1) * rows]) for bands, rows in ways for b in range(bands))

    expected = np.zeros(len(SIMILARITY))
    for agree in itertools.product([False, True], repeat=8):
        if whole(agree) and np.float32(sum(agree) / 8) >= np.float32(least):
            expected += SIMILARITY ** sum(agree) * (1 - SIMILARITY) ** (8 - sum(agree))
    np.testing.assert_allclose(detection_chance(SIMILARITY, ways, 8, least), expected, atol=1e-12)


def test_an_estimate_at_the_threshold_counts():
    """0.8 of 10 values is 8 of them, though 0.8 is no binary fraction."""
    chance = detection_chance(np.array([0.8]), [(10, 1)], 10, 0.8)
    assert chance[0] == pytest.approx(45 * 0.8**8 * 0.2**2 + 10 * 0.8**9 * 0.2 + 0.8**10)


@given(bands=st.integers(1, 8), rows=st.integers(1, 8), least=st.floats(0, 1))
def test_the_chance_rises_with_the_similarity_and_with_more_ways(bands, rows, least):
    one = detection_chance(SIMILARITY, [(bands, rows)], 64, least)
    two = detection_chance(SIMILARITY, [(bands, rows), (16, 4)], 64, least)
    assert (np.diff(one) >= -1e-9).all() and (two >= one - 1e-9).all()
    assert one[0] == 0 and one[-1] == pytest.approx(1)
