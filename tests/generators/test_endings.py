"""Completions that are empty, loop or are cut off are known by their text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.generators.endings import CUT_OFF, EMPTY, LOOPS, NO_TEXT, loops, wrong_with


@pytest.mark.parametrize(
    "text",
    [
        "It was a dog. " * 3,
        "Once. " + "and so it went on, " * 4,
        "x" * 24,
        "ha " * 9,
        "he said that she said that " * 3 + "he sa",
        ("Chapter one\n" + "-" * 30) * 3,
    ],
)
def test_a_text_that_ends_in_a_phrase_three_times_loops(text):
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It was a dog. " * 2,
        "It was a dog. " * 3 + "Then it slept.",
        "ha ha ha",
        "The end.\n" + "-" * 200,
        "| 1 | 2 |\n" * 2,
    ],
)
def test_others_do_not(text):
    assert not loops(text)


@given(st.text(min_size=8, max_size=300), st.text(max_size=200), st.integers(3, 5))
def test_any_repeated_phrase_with_a_letter_is_found(phrase, before, times):
    assert loops(before + phrase * times) == any(map(str.isalnum, phrase))


def test_what_is_wrong_is_said():
    assert wrong_with(" \n", cut_off=False, keep_cut_off=True) == EMPTY
    assert wrong_with("It was a dog. " * 3, cut_off=True, keep_cut_off=True) == LOOPS
    assert wrong_with("It was a dog and", cut_off=True, keep_cut_off=False) == CUT_OFF
    assert wrong_with("It was a dog and", cut_off=True, keep_cut_off=True) is None
    assert wrong_with(None, cut_off=False, keep_cut_off=False) == NO_TEXT
