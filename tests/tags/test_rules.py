import math

import numpy as np
import polars as pl
import pytest

from annotate.errors import ConfigError
from annotate.tags.conditions import Quantile
from annotate.tags.rule_grammar import MAX_DEPTH
from annotate.tags.rules import parse_rule

NAN = math.nan


def holds(rule, thresholds=None, **columns):
    frame = pl.DataFrame(
        {
            name.replace("p_", "p:"): pl.Series(values, dtype=pl.Float64 if name.startswith("p_") else pl.Float32)
            for name, values in columns.items()
        }
    )
    fitted = {Quantile(*key): value for key, value in (thresholds or {}).items()}
    return frame.select(held=parse_rule(rule).expression(fitted))["held"].to_list()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("x >= 2", [False, True, True]),
        ("x > 2", [False, False, True]),
        ("x <= 2", [True, True, False]),
        ("x < 2", [True, False, False]),
        ("2 <= x", [False, True, True]),
        ("1 < x < 3", [False, True, False]),
        ("3 > x >= 1", [True, True, False]),
        ("not x >= 2", [True, False, False]),
        ("not not x >= 2", [False, True, True]),
        ("x < 2 or x > 2", [True, False, True]),
        ("x > 1 and x < 3", [False, True, False]),
        ("x > 2 or x > 1 and x < 3", [False, True, True]),  # `and` binds closer than `or`
        ("(x > 2 or x > 1) and x < 3", [False, True, False]),
        ("not (x < 2 or x > 2)", [False, True, False]),
        ("x >= -1.5e0", [True, True, True]),
        ("x >= q(0.7)", [False, True, True]),
        ("q(0.7) <= x", [False, True, True]),
        ("q(x, 0.7) < x", [False, False, True]),
        ("q(0.1) <= x < q(0.7)", [True, False, False]),
        ("y <= x", [False, True, True]),
        ("p(x) >= 0.5", [False, True, True]),
        ("p(x) > p(y)", [False, False, True]),
    ],
)
def test_rule_holds(rule, expected):
    held = holds(
        rule, {("x", 0.7): 2, ("x", 0.1): 1}, x=[1, 2, 3], y=[2, 2, 2], p_x=[0.25, 0.5, 0.75], p_y=[0.5, 0.5, 0.5]
    )
    assert held == expected


def test_numbers_and_thresholds_compare_on_float32():
    at = np.float32(0.7)  # 0.699999988..., below the float64 0.7
    around = [np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))]
    for rule in ("x >= 0.7", "x >= q(0.5)"):
        assert holds(rule, {("x", 0.5): at}, x=around) == [False, True, True]
        assert holds(rule.replace(">=", ">"), {("x", 0.5): at}, x=around) == [False, False, True]


def test_zero_signs_are_equal_and_infinities_compare():
    assert holds("x >= 0", x=[-0.0, 0.0, -math.inf, math.inf]) == [True, True, False, True]


@pytest.mark.parametrize(
    "rule",
    [
        "x >= 0",
        "x <= 0",
        "not (x >= 0)",
        "not x < 0 or y >= 0",
        "y >= 0 or x >= 0",
        "not (x >= 0 and y < 0)",
        "p(x) <= 1",
        "x >= q(y, 0.5) or y >= 0",
    ],
)
@pytest.mark.parametrize("missing", [None, NAN])
def test_no_rule_that_reads_a_missing_score_holds(rule, missing):
    assert holds(rule, {("y", 0.5): 0.0}, x=[missing], y=[1.0], p_x=[missing]) == [False]


def test_quantile_of_no_scores_never_holds():
    assert parse_rule("not x >= q(0.5)").expression({Quantile("x", 0.5): NAN}).meta.eq(pl.lit(False))


def test_a_quantile_by_group_is_a_column():
    rule, quantile = "not x < q(0.7, by=b, by=a)", Quantile("x", 0.7, by=("a", "b"))
    assert parse_rule(rule).quantiles == (quantile,) and str(quantile) == "q(x, 0.7, by=a, by=b)"
    columns = {"x": [1, 2, 3, 4, NAN], str(quantile): [1, 3, 3, NAN, 0]}
    assert holds(rule, {("x", 0.7, ("a", "b")): np.zeros(5)}, **columns) == [True, False, True, False, False]
    with pytest.raises(
        ConfigError, match=r"needs the threshold q\(x, 0.7, by=a, by=b\); thresholds given: q\(x, 0.7\)"
    ):
        holds(rule, {("x", 0.7): 1.0}, **columns)


def test_what_a_rule_reads():
    rule = parse_rule("b >= q(0.7) and (a < q(c, 0.20) or not p(d) > 0.5) and b < q(0.9)")
    assert rule.axes == ("a", "b", "d")
    assert rule.quantiles == (Quantile("b", 0.7), Quantile("b", 0.9), Quantile("c", 0.2))
    assert rule.curves == ("d",)


def test_missing_threshold_is_named():
    with pytest.raises(ConfigError, match=r"needs the threshold q\(x, 0.7\); thresholds given: q\(x, 0.5\)"):
        parse_rule("x >= q(0.7)").expression({Quantile("x", 0.5): 1.0})


@pytest.mark.parametrize(
    ("rule", "message", "caret"),
    [
        ("", "expected the name of an axis or a value, found the end", 0),
        ("x", "expected a comparison", 1),
        ("x and y", "expected a comparison", 2),
        ("x >= 1 y", "found `y`", 7),
        ("x >= 1 and", "found the end", 10),
        ("(x >= 1", "expected `)`", 7),
        ("x >= 1)", "found `)`", 6),
        ("x >= (1)", "found `(`", 5),
        ("x = 1", "expected a comparison (>= > <= <) after `x`, found `=`", 2),
        ("x == 1", "expected a text in double quotes", 5),
        ("source == 'wiki'", "`'` is not part of the language", 10),
        ('"wiki" == source', "compares a column of the corpus with a text", 0),
        ('source >= "wiki"', "expected the name of an axis or a value, found `wiki`", 10),
        ('source == "wiki', '`"` is not part of the language', 10),
        ("else and x > 1", "found `and`", 5),
        ("x > 1 or else", "found `else`", 9),
        ("x >= 1 & y >= 2", "`&` is not part of the language", 7),
        ("x + 1 >= 2", "`+` is not part of the language", 2),
        ("x.real >= 2", "`.` is not part of the language", 1),
        ("__import__('os').x >= 1", "`'` is not part of the language", 11),
        ("f(x) >= 1", "expected a comparison", 1),
        ("[x] >= 1", "`[` is not part of the language", 0),
        ("x >= --1", "expected a number", 6),
        ("x >= q", "expected `(`", 6),
        ("x >= q()", "expected a number", 7),
        ("x >= q(0.7, x)", "expected `by=` and a column of the corpus, found `x`", 12),
        ("x >= q(0.7, by source)", "expected `=`, found `source`", 15),
        ("x >= q(0.7, by=)", "expected the name of another column of the corpus, found `)`", 15),
        ("x >= q(0.7, by=a, b)", "expected `by=` and a column of the corpus, found `b`", 18),
        ("x >= q(0.7, by=a, by=a)", "expected the name of another column of the corpus, found `a`", 21),
        ("q(0.5, by=a) >= 1", "write q(axis, 0.5, by=a)", 0),
        ("by=a >= 1", "expected a comparison", 2),
        ("x >= q(1.5)", "a quantile must lie in [0, 1], got 1.5", 7),
        ("x >= q(-0.5)", "a quantile must lie in [0, 1], got -0.5", 7),
        ("q(0.5) >= 1", "write q(axis, 0.5)", 0),
        ("x >= q(0.5) >= y", "write q(axis, 0.5)", 5),
        ("q(x, 0.5) >= 1", "compares two constants", 10),
        ("1 <= 2", "compares two constants", 2),
        ("p(x) >= x", "compares a probability with a raw score", 5),
        ("p(x) >= q(x, 0.5)", "compares a probability with a raw score", 5),
        ("p(x) >= 70", "outside [0, 1]", 5),
        ("p(0.5) >= 0.5", "expected the name of an axis", 2),
        ("x >= 1e39", "too large for a float32", 2),
        ("not >= 1", "found `>=`", 4),
        ("x >= or", "found `or`", 5),
        ("x >=\n\ty 3", "found `3`", 8),
    ],
)
def test_what_is_not_in_the_grammar_is_pointed_at(rule, message, caret):
    with pytest.raises(ConfigError) as caught:
        parse_rule(rule)
    assert message in caught.value.message
    shown, pointer = caught.value.message.splitlines()[-2:]
    assert shown == "    " + rule.replace("\n", " ").replace("\t", " ")
    assert pointer == " " * (4 + caret) + "^"
    assert "q(axis, 0.7)" in str(caught.value.hint)


def test_nesting_is_bounded_and_length_is_not():
    assert parse_rule("(" * (MAX_DEPTH - 1) + "x > 1" + ")" * (MAX_DEPTH - 1))
    for deep in ("(" * 100_000, "not " * 100_000):
        with pytest.raises(ConfigError, match="nested more than 50 deep"):
            parse_rule(deep + "x > 1")
    assert holds(" or ".join(f"x > {i}" for i in range(2000)), x=[0, 1]) == [False, True]
