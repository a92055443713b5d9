"""Layouts, dropout and controls: where tags stand; that they nest, are drawn at their rates and keep their number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from annotate.errors import ConfigError
from annotate.tags import TagScheme
from annotate.tags.conditions import Quantile
from annotate.tags.families import by_column, graded
from annotate.tags.group_quantiles import fit_quantiles
from annotate.tags.placing import place
from annotate.tags.rendering import render, strip
from annotate.tags.rules import ThresholdValues
from annotate.tags.states import Measured
from annotate.tags.vocabulary import Alias, Family, Tag

Documents = Sequence[Sequence[str]]


def measure(
    documents: Documents,
    scores: Mapping[str, Sequence[float]],
    thresholds: ThresholdValues | None = None,
    columns: Mapping[str, Sequence[str | None]] | None = None,
) -> Measured:
    rows = []
    for row, spans in enumerate(documents):
        start = byte_start = 0
        for number, text in enumerate(spans):
            end, byte_end = start + len(text), byte_start + len(text.encode())
            rows.append((row, number, start, end, byte_start, byte_end))
            start, byte_start = end, byte_end
    names = ("row", "span", "start", "end", "byte_start", "byte_end")
    table = pa.table([pa.array(c) for c in np.array(rows, np.int64).reshape(-1, 6).T], names=names)
    return Measured(
        spans=table,
        scores={axis: np.array(values, np.float32) for axis, values in scores.items()},
        thresholds=thresholds or {},
        curves={},
        columns={name: pa.array(values, pa.string()) for name, values in (columns or {}).items()},
        shard="s",
    )


def tagged(documents: Documents, scheme: TagScheme, scores: Mapping[str, Sequence[float]], **known: Any) -> list[str]:
    """The tagged texts; that taking the tags out gives the texts back is checked."""
    ranks = known.pop("ranks", None)
    measured = measure(documents, scores, **known)
    spans = pa.array([span for document in documents for span in document], pa.large_string())
    placed = place(measured, scheme, ranks=ranks, texts=spans)
    texts = pa.array(["".join(document) for document in documents], pa.large_string())
    found = render(texts, placed)
    assert strip(found, placed).equals(texts)
    return found.to_pylist()


def one(layout: Any, rule: str = "x > 0", **options: Any) -> TagScheme:
    families = (Family(name="a", layout=layout, **{k: options.pop(k) for k in ("null", "dropout") if k in options}),)
    return TagScheme(tags=(Tag(name="a", rule=rule),), families=families, **options)


DOCUMENT = [["One. ", "Two. ", "Three. ", "Four."]]
X = {"x": [1, 1, 0, 1]}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("prefix", "<a>One. <a>Two. Three. <a>Four."),
        ("begin-end", "<a>One. </a><a>Two. </a>Three. <a>Four.</a>"),
        ("change", "<a>One. Two. </a>Three. <a>Four."),
        ("suffix", "One. <a>Two. <a>Three. Four.<a>"),
    ],
)
def test_layouts(layout: str, expected: str) -> None:
    assert tagged(DOCUMENT, one(layout), X) == [expected]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("prefix", "<a>One. <a>Two. <no>Three. <a>Four."),
        ("begin-end", "<a>One. </a><a>Two. </a><no>Three. </no><a>Four.</a>"),
        ("change", "<a>One. Two. <no>Three. <a>Four."),
        ("suffix", "One. <a>Two. <a>Three. <no>Four.<a>"),
    ],
)
def test_a_null_tag_stands_where_none_does(layout: str, expected: str) -> None:
    assert tagged(DOCUMENT, one(layout, null="no"), X) == [expected]


def test_a_state_begins_anew_in_each_document() -> None:
    assert tagged([["a", "b"], ["c"], ["d", "e"]], one("change"), {"x": [0, 1, 1, 1, 0]}) == [
        "a<a>b",
        "<a>c",
        "<a>d</a>e",
    ]


def test_both_polarities_graded_and_dead_zone() -> None:
    spans = [["u", "v", "w", "x"]]
    both = TagScheme(tags=(Tag(name="nice", rule="x > 0", family="n"), Tag(name="naughty", rule="else", family="n")))
    assert tagged(spans, both, {"x": [1, 0, np.nan, 2]}) == ["<nice>u<naughty>vw<nice>x"]
    zone = TagScheme(tags=(Tag(name="hi", rule="x >= 2", family="n"), Tag(name="lo", rule="x <= 0", family="n")))
    assert tagged(spans, zone, {"x": [2, 1, 0, np.nan]}) == ["<hi>uv<lo>wx"]
    grades = TagScheme(tags=graded("g", "x", cuts=(0, 1)))
    assert tagged(spans, grades, {"x": [-1, 0, 0.5, 7]}) == ["<g_0>u<g_0>v<g_1>w<g_2>x"]
    assert tagged([["t", "u", "v", "w", "x"]], grades, {"x": [np.nan] * 5}) == ["tuvwx"]


def test_columns_of_the_corpus() -> None:
    scheme = TagScheme(tags=by_column("source", "source", {"wikipedia.org": "wiki", "github.com": "code"}, other="web"))
    columns = {"source": ["github.com", "github.com", "wikipedia.org", "x.y", None]}
    documents = [["a", "b"], ["c"], ["d"], ["e"]]
    assert tagged(documents, scheme, {}, columns=columns) == ["<code>a<code>b", "<wiki>c", "<web>d", "e"]
    composed = TagScheme(tags=(Tag(name="good_code", rule='source == "github.com" and x > 0'),))
    assert tagged(documents, composed, {"x": [1, 0, 1, 1, 1]}, columns=columns) == ["<good_code>ab", "c", "d", "e"]
    other = TagScheme(tags=(Tag(name="t", rule='source != "github.com"'),))
    assert tagged(documents, other, {}, columns=columns) == ["ab", "<t>c", "<t>d", "e"]
    with pytest.raises(ConfigError, match="the column 'source' of the corpus; columns given: none"):
        tagged(documents, other, {})


def test_aliases_stand_for_tags_together() -> None:
    tags = (Tag(name="nice", rule="x > 0"), Tag(name="true", rule="y > 0"), Tag(name="firm", rule="z > 0"))
    scores = {"x": [1, 1, 0], "y": [1, 0, 1], "z": [1, 1, 1]}
    ideal = Alias(name="ideal", tags=("nice", "true"), expand=False)
    scheme = TagScheme(tags=tags, aliases=(ideal,), families=(Family(name="true", null="unsure"),))
    assert tagged([["a", "b", "c"]], scheme, scores) == ["<ideal><firm>a<nice><unsure><firm>b<true><firm>c"]
    named = replace(scheme, aliases=(replace(ideal, expand=True), Alias(name="all", tags=("ideal", "firm"))))
    assert tagged([["a", "b", "c"]], named, scores)[0].startswith("<nice><true><firm>a")
    assert named.meant("all") == ("nice", "true", "firm")


def test_the_widest_alias_stands() -> None:
    tags = (Tag(name="nice", rule="x > 0"), Tag(name="true", rule="y > 0"), Tag(name="firm", rule="z > 0"))
    ideal = Alias(name="ideal", tags=("nice", "true"), expand=False)
    best = Alias(name="best", tags=("ideal", "firm"), expand=False)
    scheme = TagScheme(tags=tags, aliases=(ideal, best))
    assert tagged([["a", "b"]], scheme, {"x": [1, 1], "y": [1, 1], "z": [1, 0]}) == ["<best>a<ideal>b"]


def test_a_null_tag_whose_state_ends_for_an_alias_is_closed() -> None:
    tags = (Tag(name="nice", rule="x > 0"), Tag(name="firm", rule="y > 0"))
    families = (Family(name="firm", layout="change", null="unknown"),)
    scheme = TagScheme(
        tags=tags, families=families, aliases=(Alias(name="ideal", tags=("nice", "firm"), expand=False),)
    )
    [text] = tagged([["a", "b"]], scheme, {"x": [0, 1], "y": [0, 1]})
    assert set(re.findall("<([^<>]*)>", text)) <= set(scheme.spelled)


def test_else_never_holds_where_a_threshold_is_of_no_scores() -> None:
    scheme = TagScheme(
        tags=(Tag(name="good", rule="x >= q(0.5)", family="f"), Tag(name="bad", rule="else", family="f"))
    )
    assert tagged([["a", "b"]], scheme, {"x": [0, 1]}, thresholds={Quantile("x", 0.5): float("nan")}) == ["ab"]


def test_orders() -> None:
    scheme = TagScheme(tags=tuple(Tag(name=name, rule=f"{name} > 0") for name in "xyz"))
    scores: dict[str, list[float]] = {name: [1.0] * 300 for name in "xyz"}
    documents = [["s"] * 300]
    shuffled = re.findall("<(.)><(.)><(.)>s", tagged(documents, replace(scheme, order="shuffled"), scores)[0])
    assert len(shuffled) == 300
    counts = Counter(shuffled)
    assert len(counts) == 6 and min(counts.values()) > 25
    ranks = {"x": np.tile([0.1, 0.9, 0.5], 100), "y": np.tile([0.5, 0.5, 0.5], 100), "z": np.tile([0.9, 0.1, 0.5], 100)}
    ranked = re.findall("<(.)><(.)><(.)>s", tagged(documents, replace(scheme, order="rank"), scores, ranks=ranks)[0])
    assert ranked[:3] == [("z", "y", "x"), ("x", "y", "z"), ("x", "y", "z")]


NAMES = ("a", "b", "c")
schemes = st.builds(
    lambda layouts, nulls, order, seed, dropout: TagScheme(
        tags=tuple(Tag(name=name, rule=f"{name} > 0") for name in NAMES),
        families=tuple(
            Family(name=n, layout=layout, null=f"no_{n}" if null else None, dropout=dropout)
            for n, layout, null in zip(NAMES, layouts, nulls, strict=True)
        ),
        order=order,
        seed=seed,
        document_dropout=dropout,
    ),
    st.lists(st.sampled_from(["prefix", "begin-end", "suffix", "change", "repeat"]), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from(["fixed", "shuffled"]),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.3]),
)
texts = st.lists(st.lists(st.text("xy \u00e9\u4e2d\n", min_size=1, max_size=6), max_size=5), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(schemes, texts, st.randoms(use_true_random=False))
def test_what_is_opened_is_closed_in_the_right_order(
    scheme: TagScheme, documents: list[list[str]], random: Any
) -> None:
    n = sum(map(len, documents))
    scores = {name: [random.choice([0.0, 1.0, np.nan]) for _ in range(n)] for name in NAMES}
    found = tagged(documents, scheme, scores)  # checks that the text comes back
    closing = {name for name in scheme.closed if scheme.tags_by_family["abc".index(name[-1])][0].layout == "begin-end"}
    for text in found:
        stack = []
        for end, name in re.findall("<(/?)([a-z_]+)>", text):
            if name in closing and not end:
                stack.append(name)
            elif name in closing:
                assert stack.pop() == name
        assert not stack


def test_repeated_tags_stand_before_words_but_not_the_first() -> None:
    scheme = TagScheme(tags=(Tag(name="u", rule="x > 0"),), families=(Family(name="u", layout="repeat", rate=1.0),))
    found = tagged([[" caf\u00e9  \u4e2d\u6587 x\n", "y z", " . "], ["\u00e9 \u00e9"]], scheme, {"x": [1, 0, 1, 1]})
    assert found == [" caf\u00e9  <u>\u4e2d\u6587 <u>x\ny z . ", "\u00e9 <u>\u00e9"]


def test_rates_are_those_of_the_scheme() -> None:
    """Dropout of documents and spans, and repetition, within 1e-6 of the binomial on 100,000 spans."""

    def within(count: int, n: int, p: float) -> bool:
        low, high = binom.ppf([1e-6, 1 - 1e-6], n, p)
        return bool(low <= count <= high)

    documents, n = [["a b "] * 10] * 10_000, 100_000
    tags = (Tag(name="t", rule="x > 0"), Tag(name="u", rule="x > 0"))
    scheme = TagScheme(tags=tags, families=(Family(name="t", dropout=0.01),), document_dropout=0.1)
    found = tagged(documents, scheme, {"x": [1.0] * n})
    untagged = sum("<" not in text for text in found)
    assert within(untagged, 10_000, 0.1)
    spans = 10 * (10_000 - untagged)
    assert sum(text.count("<u>") for text in found) == spans
    kept = [text.count("<t>") for text in found if "<" in text]
    assert within(spans - sum(kept), spans, 0.01)
    assert len(set(kept)) > 1  # each span for itself
    both = TagScheme(tags=tags, families=(Family(name="t", dropout=0.5), Family(name="u", dropout=0.5)))
    pairs = Counter(re.findall("(<t>)?(<u>)?a b ", "".join(tagged(documents, both, {"x": [1.0] * n}))))
    assert all(within(count, n, 0.25) for count in pairs.values())  # each axis for itself
    inline = TagScheme(tags=tags[:1], families=(Family(name="t", layout="repeat"),))
    words = " ".join("w" * 11)
    count = sum(text.count("<t>") for text in tagged([[words]] * 10_000, inline, {"x": [1.0] * 10_000}))
    assert within(count, 100_000, 0.05)


@pytest.mark.parametrize(
    "control", ["shuffled", "shuffled-in-document", "hashed-names", "reversed", "constant", "untagged"]
)
def test_controls_keep_the_text_and_the_number_of_tags(control: Any) -> None:
    rng = np.random.default_rng(0)
    documents = [[f"s{i} " for i in range(n)] for n in rng.integers(1, 9, 200)]
    n = sum(map(len, documents))
    scores = {"x": rng.random(n), "y": rng.random(n)}
    tags = (
        *graded("g", "x", cuts=(0.2, 0.5)),
        Tag(name="t", rule="y > 0.3", family="t"),
        Tag(name="f", rule="else", family="t"),
    )
    scheme = TagScheme(tags=tags)
    true, other = (tagged(documents, s, scores) for s in (scheme, replace(scheme, control=control)))
    plain = re.compile("<[^>]*>")
    assert [plain.sub("", text) for text in other] == [plain.sub("", text) for text in true]
    counts, others = (Counter(plain.findall("".join(found))) for found in (true, other))
    if control == "untagged":
        assert not others
    elif control == "constant":
        assert others == {"<g_0>": n, "<t>": n}
    elif control == "hashed-names":
        assert sorted(others.values()) == sorted(counts.values())
        assert not set(others) & set(counts)
        assert all(re.fullmatch("<t[0-9a-f]{16}>", name) for name in others)
    elif control == "reversed":
        swap = {"<g_0>": "<g_2>", "<g_2>": "<g_0>", "<t>": "<f>", "<f>": "<t>"}
        assert others == {swap.get(name, name): count for name, count in counts.items()}
    else:
        assert others == counts and other != true
        within = [Counter(plain.findall(text)) for text in other] == [Counter(plain.findall(text)) for text in true]
        assert within == (control == "shuffled-in-document")


@pytest.mark.parametrize("control", ["shuffled", "shuffled-in-document"])
def test_orders_by_rank_are_shuffled_with_the_tags(control: Any) -> None:
    """They would tell which score of a span is the highest."""
    n = 400
    x = np.repeat([0.9, 0.1], n // 2)
    scheme = TagScheme(tags=(Tag(name="a", rule="x > 0"), Tag(name="b", rule="y > 0")), order="rank", control=control)
    ranks = {"x": x, "y": 1 - x}
    text = tagged([[f"s{i} " for i in range(n)]], scheme, {"x": x, "y": 1 - x}, ranks=ranks)[0]
    first = re.findall(r"<([ab])><[ab]>s", text)
    assert Counter(first) == {"a": n // 2, "b": n // 2}
    low, high = hypergeom.interval(1 - 1e-6, n, n // 2, n // 2)
    assert low <= first[: n // 2].count("a") <= high  # n // 2, if they stayed


def test_a_lone_tag_reversed_changes_places_with_none() -> None:
    assert tagged(DOCUMENT, one("prefix", control="reversed"), X) == ["One. Two. <a>Three. Four."]
    missing = {"x": [1, np.nan, 0, np.nan]}
    assert tagged(DOCUMENT, one("prefix", control="reversed"), missing) == ["One. Two. <a>Three. Four."]


def test_no_tag_where_the_group_has_no_threshold() -> None:
    scheme = TagScheme(
        tags=(Tag(name="a", rule="x >= q(0.5, by=s)", family="f"), Tag(name="b", rule="else", family="f")),
        families=(Family(name="f", null="n"),),
    )
    thresholds = {Quantile("x", 0.5, ("s",)): np.array([1, 2, np.nan, 0], np.float32)}
    found = tagged([["A", "B", "C"], ["D"]], scheme, {"x": [1, 1, 1, np.nan]}, thresholds=thresholds)
    assert found == ["<a>A<b>B<n>C", "<n>D"]


def test_grades_of_equal_mass() -> None:
    """Quark (Lu et al. 2022): equal counts by rank, here for any number of scores and of bins."""
    rng = np.random.default_rng(3)
    for n, bins in [(10, 5), (23, 5), (1001, 7), (6, 3), (64, 64), (100, 13)]:
        scheme = TagScheme(tags=graded("g", "x", bins=bins))
        values = rng.permutation(n).astype(np.float32)
        thresholds = fit_quantiles(scheme.quantiles, {"x": values}, {})
        found = tagged([["s"] * n], scheme, {"x": values.tolist()}, thresholds=thresholds)[0]
        sizes = Counter(re.findall("<(g_[0-9]+)>", found))
        assert sum(sizes.values()) == n and len(sizes) == bins
        assert max(sizes.values()) - min(sizes.values()) <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Family(name="a", layout="around"), 'layout of family \'a\' must be "prefix", "begin-end"'),
        (lambda: Family(name="a", layout=["prefix"]), 'layout of family \'a\' must be "prefix", "begin-end"'),
        (lambda: Family(name="a", dropout=1.5), r"dropout of family 'a' must lie in \[0, 1\], got 1.5"),
        (lambda: Family(name="a", null="no tag"), "null tag of family 'a' must be free of blanks"),
        (lambda: one("prefix", document_dropout=-1), "document_dropout must lie in"),
        (lambda: one("prefix", order="random"), 'order must be "fixed", "shuffled", "rank", got \'random\''),
        (lambda: one("prefix", control="x"), "control must be"),
        (lambda: one("prefix", null="a"), "different names, got a twice"),
        (lambda: one("prefix", rule="else"), "is `else`, but its family 'a' has no other"),
        (lambda: replace(one("prefix"), families=(Family(name="b"),)), "no tag is of family 'b'; families: a"),
        (lambda: replace(one("prefix"), families=(Family(name="a"), Family(name="a"))), "family 'a' is given twice"),
        (lambda: replace(one("begin-end"), tags=(*one("prefix").tags, Tag(name="/a", rule="x > 0"))), "got /a twice"),
        (lambda: replace(one("prefix"), aliases=(Alias(name="b", tags=("c",)),)), "stands for 'c', which is no tag"),
        (
            lambda: replace(one("prefix"), aliases=(Alias(name="b", tags=("c",)), Alias(name="c", tags=("b",)))),
            "aliases stand for each other: b -> c -> b",
        ),
        (
            lambda: TagScheme(
                tags=graded("g", "x", bins=2), aliases=(Alias(name="b", tags=("g_0", "g_1"), expand=False),)
            ),
            "two tags of one family, which never hold together: g_0, g_1",
        ),
        (lambda: Family(name="a\x1b[2J"), "a family's name must be free of"),
        (lambda: Tag(name="a\u202eb", rule="x > 0"), "a tag's name must be free of"),
        (lambda: graded("g", "x", cuts=(0.5, float("inf"))), "cuts that are numbers"),
        (lambda: graded("g", "x", bins=-2, cuts=(0.5,)), "need bins, or cuts that are numbers"),
        (lambda: graded("g", "x"), "need bins or cuts, and not both"),
        (lambda: graded("g", "x", bins=3, names="abc"), "names must be a list or a tuple, got 'abc'"),
        (lambda: graded("g", "x", bins=3, by="ab"), "by must be a list or a tuple, got 'ab'"),
        (lambda: graded("g", "x", bins=1), "overlap: bins must be at least 2"),
        (lambda: graded("g", "x", cuts=(1, 0)), "overlap: .*cuts must rise"),
        (lambda: graded("g", "x", cuts=(1, 2), by=("s",)), "grades of 'g' by s need bins"),
        (lambda: graded("g", "x", bins=3, names=("a",)), "3 grades of 'g' need as many names, got 1"),
    ],
)  # fmt: skip
def test_schemes_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
