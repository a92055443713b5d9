"""What a diff shows, and that it is bounded, whatever the texts."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.cli.text_diff import CHANGES, LONGEST, WORDS, difference
from annotate.minhash.reference import folded

WORDS_OF = [f"w{i}" for i in range(300)]


def plain(first, second):
    return difference(first, second).plain


def sides(shown):
    """The two texts that a diff without omissions stands for."""
    first = re.sub(r"\{\+.*?\+\} ?", "", shown)
    second = re.sub(r"\[-.*?-\] ?", "", shown)
    return (
        folded(re.sub(r"\[-(.*?)-\]", r"\1", first)),
        folded(re.sub(r"\{\+(.*?)\+\}", r"\1", second)),
    )


def test_a_changed_word_stands_between_its_neighbours():
    assert plain("one two three four", "one 2 three four") == "one [-two-] {+2+} three four"
    assert plain("one two", "one two three") == "one two {+three+}"
    assert plain("one two three", "two three") == "[-one-] two three"


def test_each_side_has_its_colour():
    shown = difference("a b c", "a x c")
    assert [(shown.plain[span.start : span.end], span.style) for span in shown.spans if span.style] == [
        ("[-b-]", "red"),
        ("{+x+}", "green"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a b", "a b", "The texts are equal."),
        ("a b", " a\n\tb", "only in blanks"),
        ("caf\u00e9", "cafe\u0301", "normal form"),
        ("", "", "equal"),
    ],
)
def test_texts_that_the_filter_takes_for_one_are_said_to_be(first, second, said):
    assert said in plain(first, second)


def test_blanks_are_not_compared():
    assert plain("one  two\nthree", "one two three 4") == "one two three {+4+}"


def test_long_runs_of_equal_words_are_counted():
    words = WORDS_OF[:]
    words[100] = words[200] = "other"
    assert plain(" ".join(WORDS_OF), " ".join(words)) == (
        "... 92 words ... w92 w93 w94 w95 w96 w97 w98 w99 [-w100-] {+other+} w101 w102 w103 w104 w105 w106 w107 w108 "
        "... 83 words ... w192 w193 w194 w195 w196 w197 w198 w199 [-w200-] {+other+} w201 w202 w203 w204 w205 w206 "
        "w207 w208 ... 91 words ..."
    )


def test_long_changes_and_many_changes_are_counted():
    assert plain("a z", f"a {' '.join(WORDS_OF)} z").endswith(f"w{LONGEST - 1} ... {300 - LONGEST} more words+}} z")
    other = [word if i % 3 else "x" for i, word in enumerate(WORDS_OF)]
    shown = plain(" ".join(WORDS_OF), " ".join(other))
    assert shown.count("[-") + shown.count("{+") == CHANGES and shown.endswith(f"... {200 - CHANGES} more changes")


def test_scripts_without_blanks_are_compared_by_characters():
    assert plain("我们今天去学校。", "我们明天去学校。") == "我们[-今-]{+明+}天去学校。"


def test_control_characters_are_visible():
    shown = plain("a \x1b[31mb\x07 c", "a \x1b[32mb c\x9b")
    assert "\x1b" not in shown and "\x07" not in shown and "\x9b" not in shown
    assert "␛[31mb␇" in shown and "␛[32mb" in shown


def test_markup_is_text():
    assert plain("[bold]x[/] :apple:", "[bold]y[/] :apple:") == "[-[bold]x[/]-] {+[bold]y[/]+} :apple:"


def test_a_change_deep_in_megabytes_is_found():
    draw = random.Random(1)
    words = draw.choices(WORDS_OF, k=250_000)
    other = [*words[:200_000], "inserted", *words[200_001:]]
    shown = plain(" ".join(words), " ".join(other))
    assert f"[-{words[200_000]}-] {{+inserted+}}" in shown and len(shown) < 500


@pytest.mark.parametrize("symbols", [2, 3, 1000])
def test_megabytes_that_differ_all_over_are_cut(symbols, monkeypatch):
    import annotate.cli.text_diff as module

    compared = []
    real = module.difflib.SequenceMatcher

    def spied(junk, a, b, **options):
        compared.append((len(a), len(b)))
        return real(junk, a, b, **options)

    monkeypatch.setattr(module.difflib, "SequenceMatcher", spied)
    draw = random.Random(2)
    texts = (" ".join(f"w{draw.randrange(symbols)}" for _ in range(250_000)) for _ in range(2))
    shown = plain(*texts)
    assert all(max(pair) <= WORDS for pair in compared) and len(shown) < 20_000


def test_a_megabyte_without_blanks_is_no_word():
    text = "x" * 1_000_000
    shown = plain(text, text[:500_000] + "y" + text[500_000:])
    assert "y" in shown and len(shown) < 5000


def test_what_is_not_compared_is_counted():
    first = " ".join(f"a{i}" for i in range(3000))
    assert plain(first, "b " * 10).endswith("... 2,000 more words not compared")


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_both_texts_can_be_read_off(first, second):
    one, other = " ".join(first), " ".join(second)
    shown = plain(one, other)
    if first == second:
        assert shown == "The texts are equal."
    elif "..." not in shown:
        assert sides(shown) == (one, other)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_unicode_is_shown_without_controls(first, second):
    shown = plain(first, second)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
