"""Split groups of documents that share a long exact span, however little else they share."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from exchanges import Texts, run_filter

from annotate.errors import ConfigError
from annotate.stages.corpus import Corpus
from annotate.stages.duplicates.shared_spans import COMMON, once_each
from annotate.stages.near_duplicates import NearDuplicates

CORPUS = Corpus("corpus")


def words(seed: int, n: int) -> str:
    return " ".join(f"w{i}" for i in np.random.default_rng(seed).integers(0, 1 << 40, n).tolist())


def groups(shards: dict[str, Texts], unit_rows: int = 1000, **settings: Any) -> list[int]:
    table, _ = run_filter(NearDuplicates(CORPUS, **settings), shards, unit_rows=unit_rows)
    assert all(table["kept"].to_pylist())
    return table["split_group"].to_pylist()


@pytest.mark.parametrize("unit_rows", [1, 3, 1000])
def test_quotes_join_and_short_ones_do_not(unit_rows: int) -> None:
    long, short = words(1, 100), words(2, 49)
    texts = [
        f"{words(3, 700)} {long}",
        words(4, 300),
        f"{words(5, 50)}\n{short} {words(6, 500)}",
        f"{words(7, 150)} {short} {words(8, 300)}",
        f"{long}   {words(9, 800)}",
    ]
    found = groups({"a": texts[:2], "b": texts[2:]}, unit_rows)
    assert found[0] == found[4]
    assert len(set(found)) == 4
    assert len(set(groups({"a": texts}, unit_rows, group_span=None))) == 5
    assert len(set(groups({"a": texts}, unit_rows, group_span=30))) == 3


@pytest.mark.parametrize("unit_rows", [9, 1000])
def test_what_many_documents_share_joins_none(unit_rows: int) -> None:
    licence, quote = words(1, 170), words(2, 120)
    texts = [f"{words(100 + i, 1000)} {licence}" for i in range(COMMON + 1)]
    texts[3] += f" {quote}"
    texts[40] += f" {words(5, 20)} {quote}"
    found = groups({"a": texts}, unit_rows)
    assert len(set(found)) == COMMON
    assert found[3] == found[40]
    assert len(set(groups({"a": texts[:-1]}, unit_rows))) == 1


@pytest.mark.parametrize("unit_rows", [7, 1000])
def test_copies_of_a_text_count_once(unit_rows: int) -> None:
    quote = words(1, 300)
    page = f"{words(2, 400)} {quote}"
    copies = [page, *(page.replace(" ", "  ", i) for i in range(1, COMMON + 10))]
    near = [" ".join([*page.split()[:-1], f"end{i}"]) for i in range(20)]
    other = f"{quote} {words(3, 900)}"
    table, _ = run_filter(NearDuplicates(CORPUS), {"a": [*copies, *near, other]}, unit_rows=unit_rows)
    assert table["kept"].to_pylist().count(True) == 2
    assert len(set(table["split_group"].to_pylist())) == 1


def test_a_text_that_repeats_itself_has_few_fingerprints() -> None:
    found, ends = once_each(np.array([5, 3, 5, 5, 7, 3], np.uint64), np.array([0, 4, 4, 6]))
    assert [sorted(found[a:b].tolist()) for a, b in itertools.pairwise(ends.tolist())] == [[3, 5], [], [3, 7]]


def test_also_where_clusters_and_groups_have_one_threshold() -> None:
    quote = words(1, 100)
    texts = [f"{words(2, 900)} {quote}", f"{quote} {words(3, 900)}", words(4, 900)]
    found = groups({"a": texts}, threshold=0.5, group_threshold=0.5)
    assert found[0] == found[1] != found[2]
    assert len(set(groups({"a": texts}, threshold=0.5, group_threshold=0.5, group_span=None))) == 3


def test_a_corpus_that_is_compared_against_joins_too() -> None:
    quote = words(1, 100)
    stage = NearDuplicates(CORPUS, against=Corpus("old"))
    texts = [f"{words(2, 900)} {quote}", words(4, 900), f"{words(5, 900)} {quote}"]
    table, _ = run_filter(stage, {"a": texts}, against={"o": [words(6, 9), f"{quote} {words(3, 900)}"]})
    first, second, third = table["split_group"].to_pylist()
    assert first == third != second


def test_scripts_without_blanks() -> None:
    rng = np.random.default_rng(1)
    page, other, quote = ("".join(map(chr, rng.integers(0x4E00, 0x9FA5, n).tolist())) for n in (600, 600, 100))
    found = groups({"a": [page + quote, other, quote + other[::-1]]})
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("span", [-1, 0, 1])
def test_a_span_of_no_length_is_refused(span: int) -> None:
    with pytest.raises(ConfigError, match="group_span must be at least 2"):
        NearDuplicates(CORPUS, group_span=span)
