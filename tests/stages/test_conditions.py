"""Conditions are checked before anything runs; each opening gets one, and is cut between words."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixtures import tiny  # noqa: F401

from annotate import CausalModel, ConfigError, Corpus, Distill, Sampling, ServerGenerator, TransformersGenerator
from annotate.stages.shared.conditions import conditions_of, drawn, named, tags_of
from annotate.stages.shared.openings import cut

PROMPTS = {"kind": "Be kind.", "rude": "Be rude."}


@pytest.mark.parametrize(
    ("prompts", "conditions", "error"),
    [
        ({}, None, "prompts must be texts by the names"),
        ("Be kind.", None, "prompts must be texts by the names"),
        ({"kind": "  "}, None, "must be a text that is not empty"),
        ({"so kind": "Be kind."}, None, "must be free of blanks"),
        ({"a+b": "Be kind."}, None, r"may have no \+"),
        ({"no-prompt": "Be kind."}, None, "not be 'no-prompt'"),
        (PROMPTS, ["kind"], "each condition must be a list"),
        (PROMPTS, [["nice"]], "names 'nice', which is none of the prompts: kind, rude"),
        (PROMPTS, [["kind", "kind"]], "has a prompt twice"),
        (PROMPTS, [["kind", "rude"], ["rude", "kind"]], "conditions must be different"),
        (PROMPTS, [], "and at least one"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(prompts, conditions, error):
    with pytest.raises(ConfigError, match=error):
        conditions_of(prompts, conditions)


def test_a_condition_has_its_prompts_in_order_and_a_hash_of_them():
    pairs, (both, plain) = conditions_of(PROMPTS, [["rude", "kind"], []])
    assert (both.name, both.text, plain.name, plain.text) == ("rude+kind", "Be rude.\n\nBe kind.", "no-prompt", "")
    assert plain.hash is None and len(both.hash) == 64
    assert conditions_of(pairs, (both, plain)) == (pairs, (both, plain))  # as a stage keeps them
    tags = tags_of(pairs, (both, plain))
    assert [(tag.name, tag.rule) for tag in tags] == [
        ("kind", 'metatoken == "rude+kind"'),
        ("rude", 'metatoken == "rude+kind"'),
    ]


def test_conditions_are_drawn_with_equal_odds_by_a_hash():
    _, conditions = conditions_of(PROMPTS, [["kind"], ["rude"], []])
    rows = np.arange(3000)
    found = drawn(conditions, 0, "s0", rows)
    assert np.all(np.abs(np.bincount(found) - 1000) < 4 * np.sqrt(3000 * 2 / 9))  # four standard deviations
    assert np.array_equal(found[1000:1100], drawn(conditions, 0, "s0", rows[1000:1100]))
    assert not np.array_equal(found, drawn(conditions, 1, "s0", rows))
    other = conditions[::-1]  # in another order each opening gets the same
    assert [conditions[at] for at in found.tolist()] == [other[at] for at in drawn(other, 0, "s0", rows).tolist()]
    assert named(conditions, ["rude", None, "kind", "no-prompt", "x"]).tolist() == [1, 2, 0, 2, -1]


@given(st.text(alphabet="ab é\n𝄞", max_size=40), st.integers(1, 20))
def test_an_opening_is_the_beginning_of_its_text_cut_between_words(text, most):
    found = cut(pa.chunked_array([pa.array([text, None], pa.large_string())]), most).to_pylist()
    opening = found[0]
    assert text.startswith(opening) and len(opening) <= most and found[1] is None
    rest = text[len(opening) :]
    if len(text) <= most:
        assert opening == text
    elif any(letter.isspace() for letter in text[: most + 1].lstrip()):
        assert rest[0].isspace()  # no word is cut


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"generator": "gpt2"}, "str is no generator: it has no"),
        ({"take": ["metatoken"]}, "take names 'metatoken'"),
        ({"take": "source"}, "take must be a list"),
        ({"opening_characters": 0}, "opening_characters must be at least 1"),
        ({"cut_off": "drop"}, "cut_off must be"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"gpus": 1.5}, "gpus must be a number from 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error):
    generator = ServerGenerator("http://here/v1", "a-model")
    with pytest.raises(ConfigError, match=error):
        Distill(Corpus("data"), **{"prompts": PROMPTS, "generator": generator} | settings)


def test_what_is_asked_of_a_server_is_not_asked_twice(tiny):  # noqa: F811
    assert not Distill(Corpus("data"), prompts=PROMPTS, generator=ServerGenerator("http://here/v1", "m")).repeatable
    here = TransformersGenerator(CausalModel(tiny("gpt2")), sampling=Sampling(max_tokens=5))
    assert Distill(Corpus("data"), prompts=PROMPTS, generator=here).repeatable


def test_all_that_changes_documents_is_in_the_recipe_and_no_prompt_is():
    def recipe(**settings):
        generator = ServerGenerator("http://here/v1", "a-model", requests=settings.pop("requests", 3))
        made = Distill(Corpus("data"), **{"prompts": PROMPTS, "generator": generator} | settings)
        assert "Be kind" not in str(made.settings())
        return made.recipe

    changes = [
        {"prompts": {**PROMPTS, "kind": "Be very kind."}},
        {"conditions": [["kind"]]},
        {"condition_column": "under"},
        {"opening_characters": 9},
        {"cut_off": "quarantine"},
        {"take": ["source"]},
        {"seed": 1},
    ]
    assert len({recipe(), *(recipe(**change) for change in changes)}) == 1 + len(changes)
    assert recipe() == recipe(requests=9) == recipe(gpus=0.5)
