"""Verdicts, gates and remarks say what the intervals say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from annotate.proof.intervals import NOTHING, Interval
from annotate.proof.measures import AtStep, OfFamily, OfTag, Ratio
from annotate.proof.sharpening import Sharpening
from annotate.proof.verdicts import gates, remarks, verdict

ABOVE = Interval(value=0.2, low=0.1, high=0.3)
AROUND = Interval(value=0.01, low=-0.01, high=0.03)
WIDE = Interval(value=0.01, low=-0.3, high=0.3)


def of(gap: Interval, margin: Interval, words: Interval = AROUND) -> tuple[OfTag, OfFamily]:
    ratio = Ratio(true=0.7, shuffled=0.5, margin=margin)
    tag = OfTag(
        name="nice",
        spans=1000,
        gap=gap,
        shows=0.03,
        auroc=ratio,
        per_token=ratio,
        matched=ratio,
        pairs=500,
        bag_of_words=0.8,
        above_bag_of_words=words,
    )
    step = AtStep(
        step=8,
        true=gap,
        shuffled=AROUND,
        difference=gap,
        accuracy=0.6,
        accuracy_shuffled=0.5,
        auroc=0.7,
        auroc_shuffled=0.5,
        gain=None,
        gain_shuffled=None,
        gain_difference=None,
        share_of_bound=None,
    )
    flat = Sharpening(spearman=0.0, per_doubling=AROUND, last_less_first=AROUND)
    family = OfFamily(
        tags=("nice",),
        entropy=math.log(2),
        steps=(step,),
        sharpening=flat,
        control=flat,
        random_tags=AROUND,
        of_tags=(tag,),
    )
    return tag, family


@pytest.mark.parametrize(
    ("gap", "margin", "outcome", "words"),
    [
        (ABOVE, ABOVE, "learned", "can't be told apart from what a bag of words finds (AUROC 0.80, the models 0.70"),
        (AROUND, ABOVE, "not learned", "less than 0.035, 5 % of H(Y). 1,000 spans show a gap of 0.030 or more"),
        (WIDE, AROUND, "can't tell at this size", "1,000 spans show a gap of 0.030 or more"),
        (ABOVE, AROUND, "can't tell at this size", "but AUROC at equal length is +0.010 above it"),
        (NOTHING, NOTHING, "can't tell at this size", "1,000 spans with the tag, in fewer than 10 documents"),
        (ABOVE, NOTHING, "can't tell at this size", "but AUROC at equal length needs 10 documents with the tag"),
    ],
)
def test_verdicts(gap: Interval, margin: Interval, outcome: str, words: str) -> None:
    found = verdict(*of(gap, margin))
    assert (found.tag, found.outcome) == ("nice", outcome) and words in found.reason


def test_a_model_that_beats_the_bag_of_words_is_said_to() -> None:
    assert "more than a bag of words finds" in verdict(*of(ABOVE, ABOVE, words=ABOVE)).reason
    below = Interval(value=-0.1, low=-0.2, high=-0.05)
    assert "does better (AUROC 0.80, the models 0.70" in verdict(*of(ABOVE, ABOVE, words=below)).reason


def test_gates_and_remarks() -> None:
    tag, family = of(ABOVE, AROUND)
    assert [gate.passed for gate in gates(family)] == [True, False, False]
    assert all(gate.what.startswith("<nice>: ") for gate in gates(family))
    no_pairs = replace(tag, pairs=0, matched=replace(tag.matched, margin=NOTHING))
    nothing = replace(family, of_tags=(no_pairs,), sharpening=None)
    assert [gate.passed for gate in gates(nothing)] == [True, None]
    unmeasured = replace(family, steps=(replace(family.steps[0], difference=NOTHING),))
    assert gates(unmeasured)[0].passed is None
    assert remarks(family) == []
    rising = Sharpening(spearman=1.0, per_doubling=ABOVE, last_less_first=ABOVE)
    high = replace(family.steps[0], gain_difference=ABOVE, share_of_bound=1.3)
    said = remarks(replace(family, control=rising, steps=(high,)))
    assert [line.split(":")[0] for line in said] == [
        "the control rises",
        "the gain, true less shuffled, is above its bound H(Y)",
    ]
