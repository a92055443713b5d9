"""Tag schemes as TOML: what is read, and errors that point at the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotate.errors import ConfigError
from annotate.tags import DEFAULT_SCHEME, load_scheme, preset
from annotate.tags.in_words import explain
from annotate.tags.scheme_file import parse_scheme, presets
from annotate.tags.vocabulary import Alias, Family

WHOLE = """
order = "shuffled"          # order = "not this"
document_dropout = 0.2
seed = 7

[[family]]
name = "niceness"
layout = "begin-end"
dropout = 0.01
null = "neutral"
tags = { nice = "niceness >= q(0.7)", naughty = "else" }

[[family]]
name = "quality"
axis = "quality"
bins = 3
by = ["source"]

[[family]]
name = "source"
column = "source"
values = { "wikipedia.org" = "wiki", "github.com" = "code" }
other = "web"

[[alias]]
name = "ideal"
tags = ["nice", "quality_2"]
expand = false

[means]
nice = "kind and helpful"
"""


def test_all_of_a_scheme_is_read() -> None:
    scheme = parse_scheme(WHOLE, "x.toml")
    rules = {tag.name: (tag.rule, tag.family, tag.means) for tag in scheme.tags}
    assert rules == {
        "nice": ("niceness >= q(0.7)", "niceness", "kind and helpful"),
        "naughty": ("else", "niceness", ""),
        "quality_0": ("quality <= q(quality, 0.333333333333, by=source)", "quality", ""),
        "quality_1": (
            "q(quality, 0.333333333333, by=source) < quality <= q(quality, 0.666666666666, by=source)",
            "quality",
            "",
        ),
        "quality_2": ("quality > q(quality, 0.666666666666, by=source)", "quality", ""),
        "wiki": ('source == "wikipedia.org"', "source", ""),
        "code": ('source == "github.com"', "source", ""),
        "web": ("else", "source", ""),
    }
    assert scheme.tags_by_family[0][0] == Family(name="niceness", layout="begin-end", dropout=0.01, null="neutral")
    assert scheme.aliases == (Alias(name="ideal", tags=("nice", "quality_2"), expand=False),)
    assert (scheme.order, scheme.document_dropout, scheme.seed) == ("shuffled", 0.2, 7)
    assert scheme.closed == ("nice", "naughty", "neutral", "ideal")
    assert scheme.columns == ("source",) and scheme.groupings == (("source",),)
    assert "Quantiles are fitted on the documents of each source by themselves: q(quality, 0.333333)" in "\n".join(
        explain(scheme)
    )


@pytest.mark.parametrize("number", range(2, 31))
def test_every_wrong_line_is_named(number: int) -> None:
    """Each line of the file, spoiled: the error names it, or the table that it is in."""
    lines = WHOLE.splitlines()
    line = lines[number - 1]
    if not line or line.startswith("[["):
        return
    lines[number - 1] = "[mean]" if line == "[means]" else line.replace("=", "x=", 1).replace(" x=", "x =")
    with pytest.raises(ConfigError) as caught:
        parse_scheme("\n".join(lines), "x.toml")
    header = max(i for i in range(1, number + 1) if i == 1 or lines[i - 1].startswith("["))
    named = int(str(caught.value.message).split("line ")[1].split(":")[0])
    assert named in (number, header), caught.value.message
    assert caught.value.message.startswith("x.toml, line ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tags = [}", "x.toml is not TOML: .*line 1"),
        ("", "x.toml: a tag scheme must have at least one tag"),
        ('ordre = "fixed"', r"line 1: a tag scheme has no 'ordre'; did you mean 'order'\? It may have: order, doc"),
        ("seed = true", "line 1: seed must be a whole number, got True"),
        ("\nseed = 1.5", "line 2: seed must be a whole number, got 1.5"),
        ('[[family]]\ntags = {a = "x > 1"}', "line 1: a family needs a name"),
        ('[[family]]\nname = "f"', "line 1: a family needs one of tags, axis and column, got none"),
        (
            '[[family]]\nname = "f"\naxis = "x"\ntags = {a = "x > 1"}',
            "line 1: a family needs one of .*got tags and axis",
        ),
        ('[[family]]\nname = "f"\ntags = {a = "x > 1"}\nbins = 3', "line 4: 'bins' does not go with 'tags'"),
        ('[[family]]\nname = "f"\ntags = {a = "x > 1", b = "y >"}', r"(?s)line 3: tag 'b': the rule can't be read.*\^"),
        (
            '[[family]]\nname = "f"\n[family.tags]\na = "x > 1"\nb = "open(y)"',
            r"(?s)line 5: tag 'b': the rule can't be",
        ),
        ('[[family]]\nname = "f"\ntags = {a = 3}', "line 3: the rule of tag 'a' must be a string, got 3"),
        ('[[family]]\nname = "f"\naxis = "x"\nbins = 1', "line 4: grades of 'f' overlap"),
        ('[[family]]\nname = "f"\naxis = "x"\ncuts = [2, 1]', "line 4: grades of 'f' overlap"),
        ('[[family]]\nname = "f"\ndropout = 2\ntags = {a = "x > 1"}', "line 3: dropout of family 'f' must lie in"),
        ('[[family]]\nname = "f"\nlayout = "round"\ntags = {a = "x > 1"}', "line 3: the layout of family 'f' must be"),
        ('[[family]]\nname = "f"\ntags = {a = "x > q(1.5)"}', r"(?s)line 3: .*a quantile must lie in \[0, 1\]"),
        (
            '[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[[alias]]\nname = "b"\ntags = ["b"]',
            "line 4: aliases stand for each other: b -> b",
        ),
        ('[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[[alias]]\nname = "b"', "line 4: an alias needs tags"),
        ('[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[means]\nb = "c"', "line 5: 'b' is no tag of the scheme"),
        (
            '[[family]]\nname = "f"\naxis = "x"\ncuts = ["a"]',
            "line 4: grades of 'f' need bins, or cuts that are numbers",
        ),
        (
            '[[family]]\nname = "f"\ncolumn = "x"\nvalues = [["a"]]',
            r"line 4: values must hold texts alone, got \['a'\]",
        ),
        (
            '[[family]]\nname = "f"\ntags = {a = "x > 1"}\n'
            '[[family]]\nname = "g"\naxis = "x"\nbins = 2\nnames = ["a", "b"]',
            "line 7: the tags of a scheme must have different names, got a twice, first in x.toml, line 3",
        ),
        (
            '[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[[family]]\nname = "f"\ntags = {b = "x > 1"}',
            "line 4: family 'f' is given twice",
        ),
        (
            '[[family]]\nname = "f"\ntags.a = "else"\ntags.b = "x > 1"\ntags.c = "else"',
            "line 5: only one tag of family",
        ),
        ('[[family]]\nname = "f"\ntags = {a = "else"}', "line 3: tag 'a' is `else`, but its family 'f' has no other"),
        (
            '[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[[alias]]\nname = "b"\ntags = ["c"]',
            "line 4: alias 'b' stands for 'c', which is no tag and no alias; tags: a",
        ),
        ('[[family]]\nname = "f"\ncolumn = "x"\nvalues = ["a", "a"]', "line 3: values of family 'f' has 'a' twice"),
        (
            'seed = 3\ndocument_dropout = 2\n[[family]]\nname = "f"\ntags = {a = "x > 1"}',
            "line 2: document_dropout must",
        ),
        ('seed = 3\norder = "any"\n[[family]]\nname = "f"\ntags = {a = "x > 1"}', "line 2: order must be"),
        (
            '[[family]]\nname = "f"\ntags = {a = "x > q(0.7, by=s, b=1)", b = "x > y > 1", c = "x >"}',
            "(?s)line 3: tag 'a': .*expected `by=` and a column",
        ),
        ('[[family]]\nname = "f"\naxis = "x"\nbins = 3\nby = "s"', "line 5: by must be a list, got 's'"),
        ("x = " + "[" * 3000, "nested too deeply"),
        ("family = [3]", "line 1: a family must be a table, got 3"),
        ('[family]\nname = "f"', r"(?s)line 1: family must be a list, got .*Write its header as \[\[family\]\]"),
        ('[[family]]\nname = "f"\ntags = {a = "x > 1"}\n[means]\na = 3', "line 5: the meaning of 'a' must be a text"),
        ('means = "a"', "line 1: means must be a table, got 'a'"),
        (
            '[[family]]\nname = "f"\ncolumn = "x"\nvalues = 3',
            "line 4: values must be a list or a table, got 3",
        ),
        ('[[family]]\nname = "f"\ncolumn = "x"\nvalues = {a = 3}', "line 4: values must hold texts alone, got 3"),
        ('[[alias]]\nname = "b"\ntags = ["a", 3]', "line 3: tags must hold texts alone, got 3"),
        ('[[alias]]\ntags = ["a"]', "line 1: an alias needs a name"),
        ('[[phase]]\nname = "a"\ntag_rate = "1"', "line 3: tag_rate must be a number or a list, got '1'"),
        (
            '[[phase]]\nname = "a"\nshare = 0.5\ntag_rates = 1',
            r"line 4: a phase has no 'tag_rates'; did you mean 'tag_rate'",
        ),
        ('[[phase]]\nname = "a"\ntag_rate = [0, 1, 2]', "line 1: tag_rate of phase 'a' must lie in"),
        # Of several wrong keys, the first in the file is named.
        ('[[phase]]\nname = "a"\nshares = 1\n[[family]]\nname = 3\nseed = 1', "line 3: a phase has no 'shares'"),
        ('[[family]]\nname = 3\n[[phase]]\nname = "a"\nshares = 1\nseed = 1', "line 2: name must be a text, got 3"),
    ],
)
def test_bad_schemes_name_the_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_scheme(text, "x.toml")


def test_what_looks_like_a_key_inside_a_rule_is_none() -> None:
    """`by=` and a text with ` #` in it: the lines of the tags after them are still known."""
    hard = 'x > q(0.5, by=b) and not s == \\"x #, c = \\"'
    text = f'[[family]]\nname = "f"\n[family.tags]\na = "{hard}"\nb = "x > 0"\nc = "y >"'
    with pytest.raises(ConfigError, match=r"x\.toml, line 6: tag 'c'"):
        parse_scheme(text, "x.toml")
    scheme = parse_scheme(text.replace("y >", "y > 1"), "x.toml")
    assert [tag.where for tag in scheme.tags] == [f"x.toml, line {n}" for n in (4, 5, 6)]
    assert scheme == parse_scheme(text.replace("y >", "y > 1"), "elsewhere")
    assert "where" not in json.dumps(scheme.identity())


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such tag scheme") as caught:
        load_scheme(tmp_path / "none.toml")
    assert "korbak" in str(caught.value.hint)
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="can't be read"):
        load_scheme(tmp_path / "bytes.toml")
    (tmp_path / "s.toml").write_text(WHOLE)
    assert load_scheme(tmp_path / "s.toml") == parse_scheme(WHOLE, "elsewhere")


def test_the_default_preset_is_the_default_scheme() -> None:
    assert next(iter(presets())) == "default"
    default = preset("default")
    assert [(tag.name, tag.rule) for tag in default.tags] == [(tag.name, tag.rule) for tag in DEFAULT_SCHEME.tags]
    assert default.document_dropout == DEFAULT_SCHEME.document_dropout == 0.1
    with pytest.raises(ConfigError, match="no preset 'x'; there are: default, "):
        preset("x")


def test_published_numbers_of_the_presets() -> None:
    korbak = preset("korbak")
    assert [tag.rule for tag in korbak.tags] == ["toxicity <= 0.00056", "else"]  # at most: inclusive
    assert [tag.spelling for tag in korbak.tags] == ["<|aligned|>", "<|misaligned|>"]
    assert korbak.tags_by_family[0][0].dropout == 0.01 and korbak.document_dropout == 0
    safety = preset("safety-pretraining")
    assert (safety.tags_by_family[0][0].layout, safety.tags_by_family[0][0].rate, len(safety.tags)) == (
        "repeat",
        0.05,
        1,
    )
    assert preset("urls-help").document_dropout == 0.1
    quark = preset("quark")
    assert [tag.name[-1] for tag in quark.tags] == list("43210") and quark.tags[-1].rule == "reward > q(reward, 0.8)"
    steerlm = preset("steerlm")
    assert {len(tags) for _, tags in steerlm.tags_by_family} == {5} and steerlm.order == "fixed"
    assert all(family.null and family.dropout == 0.5 for family, _ in preset("metadata-with-null").tags_by_family)


@pytest.mark.parametrize("name", presets())
def test_presets_are_explained(name: str) -> None:
    scheme = preset(name)
    told = " ".join(explain(scheme))
    assert all(f"<{shown}>" in told for shown in scheme.shown)
    assert json.dumps(scheme.identity())
