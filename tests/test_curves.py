import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annotate.curves import Isotonic, Platt, curve_from_json, fit_curve, fit_isotonic, fit_platt
from annotate.errors import ConfigError


def labelled(n=20_000, a=1.5, b=-0.5, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2, size=n).astype(np.float32)
    return scores, rng.random(n) < 1 / (1 + np.exp(-(a * scores + b)))


def test_platt_finds_the_curve_that_made_the_labels():
    fitted = fit_platt(*labelled())
    assert fitted.a == pytest.approx(1.5, abs=0.1)
    assert fitted.b == pytest.approx(-0.5, abs=0.1)


def test_platt_does_not_care_for_the_scale():
    scores, labels = labelled(2000)
    small, large = fit_platt(scores, labels), fit_platt(scores * np.float32(1024) + np.float32(4096), labels)
    assert large.a == pytest.approx(small.a / 1024, rel=1e-4)
    assert large.b == pytest.approx(small.b - 4 * small.a, rel=1e-3)


def test_platt_stays_finite_on_separable_and_on_constant_scores():
    separable = fit_platt(np.array([-2, -1, 1, 2], np.float32), [0, 0, 1, 1])
    assert 0.5 < separable.probability(np.float32([1]))[0] < 1
    assert fit_platt(np.ones(4, np.float32), [0, 1, 1, 1]).probability(np.float32([1]))[0] == pytest.approx(
        0.6667, abs=0.1
    )


def test_isotonic_goes_through_the_mean_of_pooled_scores():
    fitted = fit_isotonic(np.array([3, 1, 2, 4, 2], np.float32), [0, 0, 1, 1, 0])
    assert fitted.scores == pytest.approx((1, 7 / 3, 4))
    assert fitted.probabilities == pytest.approx((0, 1 / 3, 1))


@example(  # sums of weights that round by their order: two levels are equal, or nearly
    [
        *zip(
            [0.0, -1.5, 0.0, 0.0, 0.25, 0.25, 0.0, 0.0, -1.5, 0.0],
            map(bool, [1, 0, 1, 1, 0, 1, 0, 1, 1, 1]),
            strict=True,
        )
    ],
    1,
)
@given(
    st.lists(st.tuples(st.sampled_from([-1.5, 0.0, 0.25, 3.0]), st.booleans()), min_size=2, max_size=40),
    st.sampled_from([1, 5]),
)
def test_isotonic_never_falls_and_has_no_order(data, group):
    scores, labels = np.float32([x for x, _ in data]), np.array([y for _, y in data])
    if labels.all() or not labels.any():
        return
    weights = np.linspace(0.5, 2.0, len(scores))
    fitted = fit_isotonic(scores, labels, weights, group=group)
    assert (np.diff(fitted.probability(np.linspace(-4, 4, 50))) >= 0).all()
    again = fit_isotonic(scores[::-1], labels[::-1], weights[::-1], group=group)
    assert again.scores == pytest.approx(fitted.scores)
    assert again.probabilities == pytest.approx(fitted.probabilities)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_fitted_curves_go_to_json_and_back(fit):
    fitted = fit(*labelled(500))
    back = curve_from_json(json.loads(json.dumps(fitted.to_json())))
    assert back == fitted
    scores = np.float32([-1e30, -1, 0, 1, 1e30, np.nan])
    probabilities = back.probability(scores)
    assert probabilities.dtype == np.float64
    assert np.array_equal(probabilities, fitted.probability(scores), equal_nan=True)
    assert np.isnan(probabilities[-1])
    assert ((probabilities[:-1] >= 0) & (probabilities[:-1] <= 1)).all()


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [0], r"shapes \(2,\) and \(1,\)"),
        ([1, math.nan], [0, 1], "finite scores, got 1 that are not"),
        ([1, 2], [0, 2], "labels must be 0 or 1, got 2.0"),
        ([1, 2], [1, 1], "labels of both kinds, got 2 ones of 2"),
        ([], [], "labels of both kinds, got 0 ones of 0"),
    ],
)
def test_bad_labels(fit, scores, labels, message):
    with pytest.raises(ConfigError, match=message):
        fit(np.float32(scores), labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Platt(a=math.nan, b=0), "finite parameters, got a=nan"),
        (lambda: Isotonic(scores=(), probabilities=()), "needs knots"),
        (lambda: Isotonic(scores=(1, 2), probabilities=(0,)), "got 2 scores and 1 prob"),
        (lambda: Isotonic(scores=(1, 1), probabilities=(0, 1)), "must be finite and rise"),
        (lambda: Isotonic(scores=(1, 2), probabilities=(1, 0)), "must not fall"),
        (lambda: Isotonic(scores=(1, 2), probabilities=(0, 2)), r"lie in \[0, 1\]"),
        (lambda: curve_from_json({"kind": "beta", "a": 1}), "'platt' or 'isotonic', got 'beta'"),
        (lambda: curve_from_json({"kind": "platt", "a": 1}), "not a probability curve"),
        (lambda: curve_from_json({}), "got None"),
    ],
)
def test_bad_curves(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_curves_find_the_true_probability(fit):
    random = np.random.default_rng(0)
    scores = random.normal(0, 2, 20_000)
    true = 1 / (1 + np.exp(-(0.7 * scores - 0.4)))
    labels = random.random(20_000) < true
    curve = fit(scores, labels, np.ones(20_000))
    inside = np.abs(scores) < 3
    assert np.abs(curve.probability(scores) - true)[inside].mean() < 0.02
    if isinstance(curve, Platt):
        assert (curve.a, curve.b) == pytest.approx((0.7, -0.4), abs=0.05)


def test_a_curve_does_not_depend_on_the_order_of_rows():
    random = np.random.default_rng(2)
    scores, labels, order = random.integers(0, 9, 500) * 1.0, random.random(500) < 0.5, random.permutation(500)
    one = fit_isotonic(scores, labels, np.ones(500))
    other = fit_isotonic(scores[order], labels[order], np.ones(500))
    assert one.scores == pytest.approx(other.scores)
    assert one.probabilities == pytest.approx(other.probabilities)


def test_the_number_of_labels_picks_the_curve():
    random = np.random.default_rng(0)
    for n, kind in ((999, Platt), (1000, Isotonic)):
        scores = random.normal(size=n)
        assert isinstance(fit_curve(scores, scores + random.normal(size=n) > 0, np.ones(n)), kind)
