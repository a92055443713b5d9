"""Estimators on a model that is a table of probabilities: what they should give is known."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from annotate.errors import ConfigError
from annotate.probes.metrics import auroc
from annotate.proof.axes import composition, specificity
from annotate.proof.discrimination import auroc_interval, margin_interval, matched_auroc, pairs_in_strata
from annotate.proof.gaps import (
    above_chance,
    entropy,
    firsts,
    gains,
    likelihood_ratios,
    losses_added,
    swap_accuracy,
    swap_gaps,
)
from annotate.proof.generation import corpus_difference, dose_response, expected_maximum, judged_difference
from annotate.proof.intervals import Interval, mean_interval
from annotate.proof.joint_effects import effects
from annotate.proof.measures import measure_cost
from annotate.proof.sharpening import sharpening
from annotate.proof.unigram import Unigram

# A model of one-word spans: the probability of each of four words under no tag, tag 1 and tag 2.
# Without a tag it is the mixture, as an ideal predictor has it.
UNDER = np.array([[0.6, 0.3, 0.1, 0.0], [0.0, 0.1, 0.3, 0.6]])
TABLE = np.vstack([UNDER.mean(axis=0), UNDER])


def drawn(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spans as an ideal corpus has them: their words and states, and their log-likelihoods by the table."""
    generator = np.random.default_rng(seed)
    states = generator.integers(1, 3, n)
    words = np.array([generator.choice(4, p=TABLE[state]) for state in states])
    with np.errstate(divide="ignore"):
        logs = np.log(TABLE)
    return np.maximum(logs, -20)[:, words].T, states


def test_the_gain_of_an_ideal_model_is_the_mutual_information() -> None:
    likelihoods, states = drawn(20_000)
    information = sum(0.5 * p * math.log(p / TABLE[0, word]) for row in UNDER for word, p in enumerate(row) if p)
    gain = mean_interval(gains(likelihoods, states), np.arange(20_000))
    assert gain.low < information < gain.high
    assert entropy(states) == pytest.approx(math.log(2), abs=1e-3)
    assert gain.high < entropy(states)  # the bound


def test_a_tag_that_is_all_there_is_to_know_reaches_the_bound() -> None:
    """Two words, one under each tag: the tag tells the word."""
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])), -50)
    states = np.array([1, 2] * 50)
    assert gains(logs[:, states - 1].T, states).mean() / entropy(states) == pytest.approx(1.0)


def test_the_swap_gap_of_the_table() -> None:
    likelihoods = np.log(np.array([[0.35, 0.6, 0.1], [0.35, 0.1, 0.6], [0.35, 0.3, 0.3], [0.35, 0.6, 0.1]]))
    gaps = swap_gaps(likelihoods, np.array([1, 1, 2, 0]))
    assert gaps[:3] == pytest.approx([math.log(6), -math.log(6), 0.0])
    assert np.isnan(gaps[3])  # it has no tag, in a family of several
    assert swap_accuracy(gaps, np.array([1, 1, 2, 0])) == 0.5
    assert np.isnan(gains(likelihoods, np.array([1, 1, 2, 0]))[3])


def test_a_tag_without_others_is_compared_with_its_absence() -> None:
    likelihoods = np.array([[-1.0, -2.0], [-3.0, -1.0]])
    assert swap_gaps(likelihoods, np.array([0, 1])).tolist() == [1.0, 2.0]
    assert likelihood_ratios(likelihoods, 1).tolist() == [-1.0, 2.0]
    with pytest.raises(ConfigError, match="one tag at least"):
        swap_gaps(likelihoods[:, :1], np.array([0, 0]))


def test_of_several_tags_the_mean_of_the_others_is_compared() -> None:
    likelihoods = np.array([[-9.0, -1.0, -2.0, -4.0]])
    assert swap_gaps(likelihoods, np.array([1])).tolist() == [2.0]
    assert likelihood_ratios(likelihoods, 2).tolist() == [0.5]


def test_tags_of_other_spans_say_nothing_however_often_each_occurs() -> None:
    """An ideal model of words, 95 % of which have tag 1."""
    generator = np.random.default_rng(0)
    states = np.where(generator.random(4000) < 0.95, 1, 2)
    words = np.array([generator.choice(4, p=TABLE[state]) for state in states])
    with np.errstate(divide="ignore"):
        likelihoods = np.maximum(np.log(TABLE), -20)[:, words].T
    others = generator.permutation(states)
    assert swap_gaps(likelihoods, others).mean() > 4  # that the frequent tag fits most spans is no finding
    found = mean_interval(above_chance(likelihoods, others), np.arange(4000))
    assert found.low < 0 < found.high and abs(found.value) < 0.5
    assert mean_interval(above_chance(likelihoods, states), np.arange(4000)).low > 1  # true tags say something


def test_accuracy_counts_each_tag_alike_however_often_it_occurs() -> None:
    gaps, states = np.array([1.0] * 95 + [-1.0] * 5), np.array([1] * 95 + [2] * 5)
    assert swap_accuracy(gaps, states) == 0.5  # a model that always prefers the frequent tag
    assert np.isnan(swap_accuracy(np.array([np.nan]), np.array([0])))


def test_a_model_that_ignores_tags_has_nothing() -> None:
    likelihoods = np.repeat(np.random.default_rng(0).normal(-40, 9, (500, 1)), 3, axis=1)
    states = np.random.default_rng(1).integers(1, 3, 500)
    assert swap_gaps(likelihoods, states).tolist() == [0.0] * 500
    assert swap_accuracy(np.zeros(500), states) == 0.5
    assert matched_auroc(likelihood_ratios(likelihoods, 1), states == 1) == 0.5


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_that_of_ranks(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([row[0] for row in rows], np.float64), np.array([row[1] for row in rows])
    if labels.all() or not labels.any():
        assert np.isnan(matched_auroc(scores, labels))
    else:
        assert matched_auroc(scores, labels) == pytest.approx(auroc(scores, labels))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 2)), min_size=2, max_size=25))
def test_a_matched_auroc_counts_pairs_within_strata(rows: list[tuple[int, bool, int]]) -> None:
    scores, labels, strata = (np.array(column) for column in zip(*rows, strict=True))
    won = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, own, s in rows
        for b, other, t in rows
        if own and not other and s == t
    ]
    assert pairs_in_strata(labels, strata) == len(won)
    found = matched_auroc(scores.astype(np.float64), labels, strata)
    assert found == pytest.approx(np.mean(won)) if won else np.isnan(found)


def test_length_alone_tells_nothing_once_it_is_matched() -> None:
    """Longer spans have the tag more often, and the ratio is nothing but the length."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 15, 4000)
    labels = generator.random(4000) < tokens / 20
    scores = tokens.astype(np.float64)
    assert matched_auroc(scores, labels) > 0.6
    assert matched_auroc(scores, labels, tokens) == 0.5
    noisy = tokens + generator.normal(0, 1, 4000)
    found = auroc_interval(noisy, labels, np.arange(4000), strata=tokens)
    assert found.low < 0.5 < found.high


def test_the_margin_over_the_control_is_paired() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(600) < 0.5
    noise = generator.normal(0, 1, (3, 600))
    own, control = noise + labels, noise
    documents = np.arange(600) // 2
    margin = margin_interval(own, control, labels, documents)
    expected = np.mean([auroc(own[i], labels) - auroc(control[i], labels) for i in range(3)])
    assert margin.value == pytest.approx(expected) and margin.above_zero
    broken = np.where(np.arange(600) == 7, np.nan, own)
    with pytest.raises(ConfigError, match="1 of 600 scores are no numbers"):
        margin_interval(broken, control, labels, documents)
    same = margin_interval(own, own, labels, documents)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_sharpening_finds_the_slope_per_doubling() -> None:
    steps = np.array([10, 20, 40, 80])
    generator = np.random.default_rng(0)
    spans = generator.normal(0, 0.1, (1, 2, 300))
    values = np.array([0.0, 0.1, 0.2, 0.3])[:, None, None] + spans
    found = sharpening(steps, values, np.arange(300))
    assert found.spearman == 1.0
    assert found.per_doubling.value == pytest.approx(0.1)
    assert found.last_less_first.value == pytest.approx(0.3) and found.last_less_first.above_zero
    flat = sharpening(steps, generator.normal(0, 1, (4, 2, 300)), np.arange(300))
    assert flat.per_doubling.low < 0 < flat.per_doubling.high
    with pytest.raises(ConfigError, match="rising order"):
        sharpening(np.array([10, 10]), values[:2], np.arange(300))


def test_the_cost_is_what_untagged_text_lost() -> None:
    plain, tagged = np.array([[-1.0, -2.0], [-3.0, -2.0]]), np.array([[-2.5, -2.0], [-2.0, -4.0]])
    assert losses_added(tagged, plain).tolist() == [[1.5, 0.0], [-1.0, 2.0]]  # in pairs of equal seed
    assert losses_added(tagged, plain[:1]).tolist() == [[1.5, 0.0]]  # the second has no partner
    many = [np.tile(each, 5) for each in (tagged, plain[:1])]
    cost = measure_cost(*many, np.arange(10), np.tile([1, 2], 5))
    assert cost.seeds == 1 and cost.all_spans.value == pytest.approx(0.5)
    assert firsts(np.array([3, 3, 5, 6, 6])).tolist() == [True, False, True, True, False]


def test_generation_under_a_tag_is_judged_against_another() -> None:
    generator = np.random.default_rng(0)
    found = judged_difference(generator.normal(0.5, 1, (1, 2000)), generator.normal(0, 1, (1, 2000)))
    assert found.low < 0.5 < found.high and found.above_zero
    one = judged_difference(np.tile([0.5, 0.1], (1, 50)), np.zeros((1, 100)))
    apart = judged_difference(np.tile([0.5, 0.1], (2, 50)) + np.array([[0.2], [-0.2]]), np.zeros((2, 100)))
    assert apart.value == pytest.approx(one.value) and apart.high - apart.low > 5 * (one.high - one.low)  # two seeds


def test_the_difference_in_a_corpus_weighs_each_other_tag_alike() -> None:
    states = np.repeat([0, 1, 2, 3], [15, 10, 10, 80])
    scores = np.array([9.0, 1.0, 2.0, 4.0])[states]
    found = corpus_difference(scores, states, 1, 4, np.arange(115))
    assert found.value == found.low == found.high == pytest.approx(1 - (2 + 4) / 2)
    alone = corpus_difference(scores, np.minimum(states, 1), 1, 2, np.arange(115))  # a tag without others: less none
    assert alone.value == pytest.approx((10 * 1 + 10 * 2 + 80 * 4) / 100 - 9)
    assert np.isnan(corpus_difference(scores[:25], states[:25], 1, 4, np.arange(25)).value)
    one = np.where(states == 1, 0, np.arange(115))  # all spans with the tag are in one document
    assert np.isnan(corpus_difference(scores, states, 1, 4, one).low)


def test_the_best_of_some_texts() -> None:
    assert expected_maximum(np.array([3.0, 1.0, 2.0]), 3) == 3.0
    assert expected_maximum(np.array([3.0, 1.0, 2.0]), 1) == pytest.approx(2.0)
    assert expected_maximum(np.array([3.0, 1.0, 2.0]), 2) == pytest.approx((3 + 3 + 2) / 3)
    for scores, k in ((np.array([3.0, 1.0, 2.0]), 25), (np.zeros(0), 1)):
        with pytest.raises(ConfigError, match=f"the highest of {k} texts is asked for, and there are {len(scores)}"):
            expected_maximum(scores, k)
    uniform = np.linspace(0, 1, 5001)
    assert expected_maximum(uniform, 25) == pytest.approx(25 / 26, abs=1e-3)


def test_dose_response_follows_the_grades() -> None:
    grades = np.repeat([1, 2, 3], 4)
    found = dose_response(grades, grades * 0.1, np.array([1, 2, 3]), np.array([0.0, 0.5, 1.0]))
    assert found.spearman == 1.0
    assert found.generated == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3}) and found.corpus == {1: 0.0, 2: 0.5, 3: 1.0}
    assert dose_response(grades, -grades * 1.0, grades, grades * 1.0).spearman == -1.0
    assert found.chance == pytest.approx(1 / 3)  # two of the six orders of three grades
    flat = dose_response(grades, np.ones(12), grades, grades * 1.0)
    assert (flat.spearman, flat.chance) == (0.0, 1.0)
    five, nine = (dose_response(g, g * 1.0, g, g * 1.0) for g in (np.arange(5), np.arange(9)))
    assert five.chance == pytest.approx(2 / 120) and nine.chance < 0.001
    assert np.isnan(dose_response(np.zeros(2, int), np.ones(2), grades, grades * 1.0).chance)


def test_each_tag_tells_of_its_own_label() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random((2000, 2)) < 0.5
    own = specificity(labels + generator.normal(0, 0.5, (2000, 2)), labels)
    assert own.diagonal and (np.diag(own.matrix) > 0.35).all()
    assert abs(own.matrix[0, 1]) < 0.05 and abs(own.corpus[0, 1]) < 0.06
    assert np.diag(own.corpus) == pytest.approx([1, 1])
    crossed = specificity(labels[:, ::-1] + generator.normal(0, 0.5, (2000, 2)), labels)
    assert crossed.diagonal is False
    unknown = specificity(np.column_stack([labels[:, 0] * 1.0, labels[:, 1]]), labels & [False, True])
    assert np.isnan(unknown.matrix[0, 0]) and unknown.diagonal is None


def test_effects_that_add_up_compose() -> None:
    generator = torch.Generator().manual_seed(0)
    none, a, b, other = (torch.randn(50, 20, generator=generator, dtype=torch.float64) for _ in range(4))
    constant = torch.randn(50, 1, generator=generator)  # a softmax does not see it
    documents = np.arange(50) // 2

    def found(first: torch.Tensor, second: torch.Tensor, both: torch.Tensor) -> tuple[Interval, Interval]:
        sums = effects(none, none + first, none + second, none + both)
        made = composition(sums[None], documents)
        return made.r2, made.cosine

    r2, cosine = found(a, b, a + b + constant)
    assert (r2.value, r2.low, cosine.value) == pytest.approx((1, 1, 1))
    r2, cosine = found(a, b, other)
    assert r2.value < 0 and abs(cosine.value) < 0.1 and cosine.low < 0 < cosine.high
    r2, cosine = found(a, a, a)  # both tell the same, once
    assert (r2.value, cosine.value) == pytest.approx((0, 1))
    r2, cosine = found(a, b, 0 * a)
    assert math.isnan(r2.value) and math.isnan(cosine.value)


def test_the_unigram_model_finds_lexical_cues_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    states = generator.integers(1, 3, 3000)
    words = np.stack([generator.choice(4, p=TABLE[state], size=6) for state in states])
    model = Unigram.of(words.ravel(), np.repeat(states, 6), vocabulary=4, n_states=3)
    assert np.exp(model.logs).sum(axis=1) == pytest.approx([1, 1, 1])
    assert np.exp(model.logs[1:]) == pytest.approx(UNDER, abs=0.06)
    found = model.likelihoods(words.ravel(), np.repeat(np.arange(3000), 6), 3000)
    assert found[7] == pytest.approx(model.logs[:, words[7]].sum(axis=1))
    assert matched_auroc(likelihood_ratios(found, 1), states == 1) > 0.99
    # The same words in another order: a tag that says which, and which no count of words can see.
    order = np.where((states == 1)[:, None], [0, 1], [1, 0])
    blind = Unigram.of(order.ravel(), np.repeat(states, 2), vocabulary=2, n_states=3)
    ratios = likelihood_ratios(blind.likelihoods(order.ravel(), np.repeat(np.arange(3000), 2), 3000), 1)
    assert np.ptp(ratios) == pytest.approx(0, abs=1e-9)


def test_without_others_state_0_of_the_unigram_model_is_the_text_without_the_tag() -> None:
    model = Unigram.of(np.array([0] * 9000 + [1] * 9000), np.repeat([0, 1], 9000), vocabulary=2, n_states=2)
    assert np.exp(model.logs[0, 0]) > 0.9 and np.exp(model.logs[1, 1]) > 0.9
