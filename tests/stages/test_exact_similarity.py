"""Exact Jaccard similarity, where it is asked for, instead of what signatures estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exchanges import Texts, run_filter
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import ConfigError
from annotate.minhash.reference import shingles
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import NearDuplicates

CORPUS = Corpus("corpus")


def similarities(texts: Texts, unit_rows: int = 1000, **options: Any) -> dict[tuple[int, int], float]:
    """The similarity of each pair that the filter verified, by the rows of the documents of one shard."""
    stage = NearDuplicates(CORPUS, verify="exact", **options)
    _, tables = run_filter(stage, {"a": texts}, unit_rows=unit_rows)
    # Three stages have this label: of estimates, of what is exact, and of documents and keepers.
    return {(row["a"], row["b"]): row["similarity"] for table in tables["similarity #3"] for row in table.to_pylist()}


def jaccard(a: str, b: str, n: int = 5, tokens: Any = "words") -> np.float32:
    left, right = set(shingles(a, n, tokens)), set(shingles(b, n, tokens))
    return np.float32(len(left & right) / len(left | right))


def edited(rng: np.random.Generator, words: list[str], edits: int) -> str:
    words = list(words)
    for at in rng.choice(len(words), edits, replace=False).tolist():
        words[at] = f"x{rng.integers(1 << 30)}"
    return " ".join(words)


@pytest.mark.parametrize("unit_rows", [7, 1000])
@pytest.mark.parametrize(("tokens", "shingle"), [("words", 3), ("characters", 6)])
def test_every_keeper_has_the_exact_similarity(unit_rows: int, tokens: Any, shingle: int) -> None:
    rng = np.random.default_rng(5)
    texts = []
    for _ in range(40):
        words = [f"w{n}" for n in rng.integers(0, 9999, 120).tolist()]
        texts += [edited(rng, words, int(edits)) for edits in rng.integers(0, 5, 3)]
    found = similarities(texts, unit_rows, tokens=tokens, shingle=shingle)
    if unit_rows == 1000:  # the documents' numbers are then their rows
        assert len(found) > 80
        for (a, b), similarity in found.items():
            assert np.float32(similarity) == jaccard(texts[a], texts[b], shingle, tokens)
    whole, _ = run_filter(
        NearDuplicates(CORPUS, verify="exact", tokens=tokens, shingle=shingle), {"a": texts}, unit_rows=unit_rows
    )
    for row in whole.to_pylist():
        if not row["kept"]:
            pair = texts[row["row"]], texts[row["keeper_row"]]
            assert np.float32(row["similarity"]) == jaccard(*pair, shingle, tokens)


def test_a_threshold_between_two_pairs_parts_them() -> None:
    # 96 words have 92 shingles; five of them change with a word. 82/102 < 0.805 < 87/97.
    rng = np.random.default_rng(1)
    texts = []
    for _ in range(100):
        words = [f"w{n}" for n in rng.integers(0, 1 << 40, 96).tolist()]
        one, two = list(words), list(words)
        one[10], two[10], two[50] = "x", "x", "y"
        texts += [" ".join(words), " ".join(one)]
        texts += [
            " ".join(f"v{word}" for word in words),
            " ".join(f"v{word}" if word not in "xy" else word for word in two),
        ]
    stage = NearDuplicates(CORPUS, threshold=0.805, verify="exact", bands=(32, 4))
    table, _ = run_filter(stage, {"a": texts})
    assert table["kept"].to_pylist().count(False) == 100
    assert {row["row"] % 4 for row in table.to_pylist() if not row["kept"]} <= {0, 1}
    estimated, _ = run_filter(NearDuplicates(CORPUS, threshold=0.805, bands=(32, 4)), {"a": texts})
    # Which the estimate doesn't: its standard deviation is 0.035.
    assert 3 in {row["row"] % 4 for row in estimated.to_pylist() if not row["kept"]}


@settings(max_examples=30)
@given(
    st.lists(
        st.sampled_from(["a b c d e f", "a b c d e g", "a  b c", "a b c", "", "f\u0301 a b c d e"]),
        min_size=1,
        max_size=9,
    )
)
def test_short_texts_and_exact_copies(texts: list[str]) -> None:
    exact, _ = run_filter(NearDuplicates(CORPUS, verify="exact"), {"a": texts})
    estimated, _ = run_filter(NearDuplicates(CORPUS), {"a": texts})
    assert exact.equals(estimated)


def test_only_two_ways_to_verify() -> None:
    with pytest.raises(ConfigError, match="verify must be"):
        NearDuplicates(CORPUS, verify="roughly")  # type: ignore[arg-type]
