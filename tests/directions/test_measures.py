"""Measures of directions on numbers with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.directions.measures import additivity, cosine, cosine_to_texts, equivalence, of_equal_norm


def test_a_cosine_is_large_only_if_labels_say_something() -> None:
    generator = np.random.default_rng(0)
    direction = generator.standard_normal(32).astype(np.float32)
    having = generator.random(400) < 0.3
    noise = generator.standard_normal((400, 32)).astype(np.float32)
    found = cosine_to_texts(direction, noise + np.outer(having, direction), having, ~having)
    assert found.value > 0.9 > found.chance and found.p < 0.01
    nothing = cosine_to_texts(direction, noise, having, ~having)
    assert nothing.p > 0.01 and nothing.value < nothing.chance
    assert nothing.chance == pytest.approx(2.33 / np.sqrt(32), rel=0.35)  # a normal null with sd 1 / sqrt(width)


def test_documents_that_are_alike_within_do_not_pass_for_an_effect() -> None:
    """Labels are of whole documents, and so are the states: few are taken for an effect at 1 %."""
    generator, taken = np.random.default_rng(4), 0
    for _ in range(200):
        having = np.repeat(generator.random(60) < 0.4, 6)
        direction = generator.standard_normal(16).astype(np.float32)
        states = np.repeat(generator.standard_normal((60, 16)), 6, axis=0) + 0.1 * generator.standard_normal((360, 16))
        taken += cosine_to_texts(direction, states.astype(np.float32), having, ~having).p < 0.01
    assert taken <= 8  # of spans by themselves, 13 % were


def test_spans_without_a_token_or_a_side_do_not_count() -> None:
    generator = np.random.default_rng(1)
    states = generator.standard_normal((50, 8)).astype(np.float32)
    having, lacking = np.arange(50) < 20, np.arange(50) >= 30
    direction = states[having].mean(0) - states[lacking].mean(0)
    more = np.concatenate([states, np.full((5, 8), np.nan, np.float32)])
    found = cosine_to_texts(direction, more, np.append(having, [True] * 5), np.append(lacking, [False] * 5))
    assert found.value == pytest.approx(1, abs=1e-6)
    assert cosine(direction, -direction) == pytest.approx(-1)
    assert np.isnan(cosine(direction, np.zeros(8, np.float32)))


def test_equivalence_is_the_share_that_is_taken_away() -> None:
    plain = np.array([1.0, 2.0, 3.0, 2.0])
    assert equivalence(np.zeros(4), plain).value == 1
    assert equivalence(plain, plain).value == 0
    half = equivalence(plain / 2, plain)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert equivalence(2 * plain, plain).value == -1
    mixed = equivalence(np.array([0.0, 2.0, 0.0, 2.0]), plain)
    assert mixed.low < mixed.value == 0.5 < mixed.high
    assert np.isnan(equivalence(plain, np.zeros(4)).value)


def test_additivity_gives_back_what_was_put_in() -> None:
    tags, weights = (each.ravel().astype(float) for each in np.meshgrid(np.arange(4), [0.0, 0.5, 1.0, 2.0]))
    found = additivity(tags, weights, 0.3 * tags - 0.7 * weights + 2)
    assert (found.a, found.b, found.c, found.r2) == pytest.approx((0.3, -0.7, 2, 1))
    assert found.interaction == pytest.approx(0, abs=1e-9)
    product = additivity(tags, weights, tags * weights)
    assert product.r2 < 0.9 and product.r2 + product.interaction == pytest.approx(1)
    assert np.isnan(additivity(tags, weights, np.ones(16)).r2)
    assert np.isnan(additivity(tags, weights, np.where(tags > 2, np.nan, tags)).a)


def test_random_directions_have_the_norm_of_the_given_one() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    drawn = of_equal_norm(vectors, 4, seed=1)
    assert drawn.shape == (4, 3, 16)
    assert np.allclose(np.linalg.norm(drawn, axis=-1), np.linalg.norm(vectors, axis=-1), rtol=1e-5)
    assert abs(cosine(drawn[0, 0], drawn[1, 0])) < 0.9
