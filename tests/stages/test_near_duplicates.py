"""The near-duplicate filter on tables in memory: what is a copy, which is kept, how units don't matter."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from exchanges import Texts, run_filter
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import ConfigError
from annotate.graph import Received, graph
from annotate.minhash.reference import shingles
from annotate.stages.corpus import Corpus
from annotate.stages.duplicates import candidates
from annotate.stages.duplicates.clusters import LISTED
from annotate.stages.duplicates.documents import copies_of
from annotate.stages.near_duplicates import NearDuplicates
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest

CORPUS = Corpus("corpus")


def verdicts(
    shards: Mapping[str, Texts], unit_rows: int = 1000, **settings: Any
) -> tuple[dict[str, list[dict[str, Any]]], Manifest, list[str]]:
    """Verdicts by shard, the counts as a manifest has them, and the remarks."""
    stage = NearDuplicates(CORPUS, **settings)
    table, _ = run_filter(stage, shards, unit_rows=unit_rows)
    found: dict[str, list[dict[str, Any]]] = {shard: [] for shard in shards}
    for row in table.to_pylist():
        found[row.pop("shard")].append(row)
    kept = sum(table["kept"].to_pylist())
    counts = {"kept": kept, "near_duplicates": table.num_rows - kept}
    manifest = Manifest("verdicts", "", "", {}, {}, (), 1, table.num_rows, 0, counts)
    return found, manifest, stage.remarks(manifest)


def of(texts: Texts, **settings: Any) -> list[dict[str, Any]]:
    """Verdicts on one shard."""
    return verdicts({"a": texts}, **settings)[0]["a"]


def changed(text: str, *words: int) -> str:
    """The text with other words at these places."""
    parts = text.split(" ")
    for word in words:
        parts[word] = f"other{word}"
    return " ".join(parts)


def sentence(seed: int, words: int) -> str:
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 100_000, words))


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def jaccard(a: str, b: str) -> float:
    left, right = set(shingles(a, 5)), set(shingles(b, 5))
    return len(left & right) / len(left | right)


@pytest.mark.parametrize(("keep", "keeper"), [("longest", 2), ("earliest", 1)])
def test_the_keeper_is_the_longest_or_the_earliest(keep: str, keeper: int) -> None:
    text = sentence(1, 100)
    texts = [sentence(2, 100), text, text + " and some more", changed(text, 50), text + " and same more"]
    assert len(texts[2]) == len(texts[4])  # of equally long ones the earlier
    found = of(texts, keep=keep)
    assert column(found, "kept") == [i in (0, keeper) for i in range(5)]
    assert column(found, "keeper_row") == [0, *[keeper] * 4]
    assert found[keeper]["similarity"] == 1
    for i in (1, 2, 3, 4):
        assert found[i]["similarity"] == pytest.approx(jaccard(texts[i], texts[keeper]), abs=0.1)


def test_a_keeper_can_be_in_another_shard() -> None:
    text = sentence(1, 30)
    found, _, _ = verdicts({"a": [sentence(2, 30), text], "b": [text + " more", text]})
    assert [(row["keeper_shard"], row["keeper_row"], row["kept"]) for row in [*found["a"], *found["b"]]] == [
        ("a", 0, True),
        ("b", 0, False),
        ("b", 0, True),
        ("b", 0, False),
    ]


@pytest.mark.parametrize(
    "copy", ["caf\u00e9 a b", "cafe\u0301 a b", "  caf\u00e9\ta \n\n b ", "caf\u00e9\u00a0a\u3000b"], ids=ascii
)
def test_texts_that_differ_in_blanks_and_normal_form_are_exact_copies(copy: str) -> None:
    # They are shorter than a shingle: no signature could find them.
    found = of(["caf\u00e9 a b", copy, "caf\u00e9 a c"], keep="earliest")
    assert column(found, "kept") == [True, False, True]
    assert column(found, "keeper_row") == [0, 0, 2]
    assert column(found, "similarity") == [1, 1, 1]


def test_a_chain_of_near_copies_is_one_cluster() -> None:
    chain = [sentence(3, 200)]
    for i in range(6):
        chain.append(changed(chain[-1], 10 + 30 * i))
    assert all(jaccard(a, b) > 0.94 for a, b in itertools.pairwise(chain))
    assert jaccard(chain[0], chain[-1]) < 0.75
    found = of(chain, threshold=0.88, keep="earliest")
    assert len(set(column(found, "cluster"))) == 1
    assert column(found, "kept") == [True] + [False] * 6
    assert found[-1]["similarity"] < 0.88
    ends = of([chain[0], chain[-1]], threshold=0.88)
    assert column(ends, "kept") == [True, True]
    assert len(set(column(ends, "cluster"))) == 2


def test_a_split_group_is_looser_than_a_cluster() -> None:
    text = sentence(4, 100)
    akin, near = changed(text, 20, 40, 60, 80), changed(text, 10)
    assert 0.6 < jaccard(text, akin) < 0.7
    found = of([text, sentence(5, 100), akin, near], threshold=0.8, group_threshold=0.5, keep="earliest")
    assert column(found, "kept") == [True, True, True, False]
    clusters, groups = column(found, "cluster"), column(found, "split_group")
    assert clusters[0] == clusters[3]
    assert len(set(clusters)) == 3
    assert groups[0] == groups[2] == groups[3] != groups[1]
    strict = of([text, akin], threshold=0.8, group_threshold=0.8)
    assert len(set(column(strict, "split_group"))) == 2


def test_short_and_bad_documents_are_kept_and_alone() -> None:
    long = sentence(6, 30)
    found = of([None, "one two three", None, "one two four", "a", long, "", long])
    assert column(found, "kept") == [True] * 7 + [False]
    alone = found[:5] + found[6:7]
    assert column(alone, "keeper_row") == column(alone, "row")
    assert column(alone, "keeper_shard") == ["a"] * 6
    assert column(alone, "similarity") == [1] * 6
    assert len(set(column(found, "cluster"))) == len(set(column(found, "split_group"))) == 7


@pytest.mark.parametrize("texts", [[None, None], ["only one"]])
def test_hardly_any_documents(texts: Texts) -> None:
    assert column(of(texts), "kept") == [True] * len(texts)


def test_none_and_most_of_the_corpus_are_worth_a_remark() -> None:
    several = [sentence(seed, 30) for seed in range(1000)]
    _, manifest, remarks = verdicts({"a": several})
    assert manifest.counts == {"kept": 1000, "near_duplicates": 0}
    assert remarks == ["no near-duplicates found among 1,000 documents: is the text column right?"]
    found, manifest, remarks = verdicts({"a": [several[0]] * 3, "b": [several[1]] * 2})
    assert manifest.counts == {"kept": 2, "near_duplicates": 3}
    assert sum(not row["kept"] for shard in found.values() for row in shard) == 3
    assert remarks == ["3 of 5 documents are near-duplicates: more than half of the corpus"]
    # One, just half, and none of so few that it means nothing.
    for texts in ([*several[:999], several[0]], [several[0]] * 2, several[:999]):
        assert verdicts({"a": texts})[2] == []


@pytest.mark.parametrize("unit_rows", [1, 7, 1000])
@pytest.mark.parametrize("keep", ["longest", "earliest"])
def test_verdicts_do_not_depend_on_how_units_are_cut(unit_rows: int, keep: str) -> None:
    random = np.random.default_rng(9)
    originals = [sentence(100 + i, 100) for i in range(12)]
    texts: list[str | None] = []
    for _ in range(80):
        text = originals[random.integers(len(originals))]
        texts.append(changed(text, *random.integers(0, 100, random.integers(0, 4))))
    texts[5:5] = [None, "short", "short"]
    shards = {"a": texts[:30], "b": texts[30:31], "c": texts[31:]}
    expected, counts, _ = verdicts(shards, unit_rows=30, keep=keep)
    assert counts.counts["near_duplicates"] > 20
    found, again, _ = verdicts(shards, unit_rows=unit_rows, keep=keep)
    assert found == expected
    assert again.counts == counts.counts


@pytest.mark.parametrize(
    ("threshold", "group_threshold"), [(0.5, 0.8), (0.0, 0.0), (1.1, 0.5), (0.8, -0.1), (float("nan"), 0.5)]
)
def test_thresholds_out_of_order_are_refused(threshold: float, group_threshold: float) -> None:
    with pytest.raises(ConfigError, match=rf"got group_threshold={group_threshold}, threshold={threshold}"):
        NearDuplicates(CORPUS, threshold=threshold, group_threshold=group_threshold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"group_threshold": 0.0}, "group_threshold=0.0"),
        ({"threshold": 0.6, "group_threshold": 0.7}, "got group_threshold=0.7, threshold=0.6"),
        ({"keep": "shortest"}, 'keep must be "longest", "earliest" or "highest:NAME" of a column, got \'shortest\''),
        ({"most": 0}, "most must be at least 1 document of a cluster, got 0"),
        ({"bands": (20, 8)}, "bands=(20, 8) are 20 bands of 8 rows"),
        ({"group_bands": (0, 4)}, "group_bands=(0, 4)"),
    ],
)
def test_the_whole_stage_refuses_what_its_inputs_do(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        NearDuplicates(CORPUS, **settings)


def test_unless_it_is_given_the_looser_threshold_follows_a_low_one() -> None:
    for threshold, looser in ((0.8, 0.45), (0.3, 0.3)):
        given = NearDuplicates(CORPUS, threshold=threshold, group_threshold=looser)
        assert NearDuplicates(CORPUS, threshold=threshold).inputs == given.inputs


def test_many_identical_documents_take_linear_work() -> None:
    n = 10_000
    table, made = run_filter(NearDuplicates(CORPUS), {"a": [sentence(10, 20)] * n + [sentence(11, 20)]})
    units = 10
    assert sum(part.num_rows for part in made["candidates"]) == 2 * units - 1  # of a unit two, wherever they go
    assert sum(part.num_rows for part in made["keepers"]) == units * LISTED
    assert sum(pc.sum(part["copies"]).as_py() for part in made["keepers"]) == n
    assert sum(table["kept"].to_pylist()) == 2
    assert set(table["keeper_row"].to_pylist()) == {0, n}


PAGES = [sentence(60, 40), sentence(61, 40), changed(sentence(60, 40), 5), "too short"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(PAGES), st.sampled_from(["", " ", "\n\n"])), min_size=1, max_size=40),
    st.sampled_from([2, 7, 1000]),
    st.sampled_from(["longest", "earliest"]),
    st.integers(1, 3),
    st.booleans(),
)
def test_copies_in_a_unit_get_the_verdicts_that_each_would_get_alone(
    pages: list[tuple[str, str]],
    unit_rows: int,
    keep: str,
    most: int,
    older: bool,  # noqa: FBT001
) -> None:
    """Texts that differ in blanks are copies of other lengths. In units of one document nothing is a copy."""
    texts = [text + blanks for text, blanks in pages]
    against = {"old": texts[1::3]} if older else None
    with mock.patch("annotate.stages.near_duplicates.LISTED", 1):
        stage = NearDuplicates(CORPUS, keep=keep, most=most, against=Corpus("old") if older else None)
        each, counted = (Counter[tuple[str, str]]() for _ in range(2))
        alone, _ = run_filter(stage, {"a": texts}, against=against, unit_rows=1, counts=each)
        found, _ = run_filter(stage, {"a": texts}, against=against, unit_rows=unit_rows, counts=counted)
    assert found.equals(alone)
    for name in ("cut_groups", "documents_of_cut_groups"):
        assert counted["groups", name] == each["groups", name]


def test_texts_of_one_hash_and_other_signatures_are_no_copies() -> None:
    signature = pa.array([[1, 2], [1, 3], [1, 2], [], [], [1, 2]], pa.list_(pa.uint32()))
    same, usable = pa.array([7] * 6, pa.uint64()), pa.array([True] * 5 + [False])
    table = pa.table({"exact_high": same, "exact_low": same, "signature": signature, "usable": usable})
    assert copies_of(table).tolist() == [0, 1, 0, 3, 4, 5]


def test_a_large_bucket_of_different_documents_takes_linear_work() -> None:
    n = 3000
    key, document = np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)[::-1]
    a, b = candidates.unique_pairs(
        *(
            np.concatenate(side)
            for side in zip(*candidates.bucket_pairs(*candidates.in_buckets(key, document)), strict=True)
        )
    )
    assert len(a) < n * (candidates.NEIGHBOURS + 1)
    assert set(b.tolist()) == set(range(1, n))
    assert set(b[a == 0].tolist()) == set(range(1, n)), "each is compared with the first"


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_pairs_that_are_made_some_at_a_time_are_the_same(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pages that many documents share, of different ones that share a band, and of both."""
    rng = np.random.default_rng(0)
    columns = [
        np.zeros(500, np.int32),
        rng.integers(0, 12, 500).astype(np.uint64),
        rng.permutation(500).astype(np.uint64),
        rng.integers(0, 90, 500).astype(np.uint64),
    ]
    sent = pa.table(columns, schema=contract("sent-band-hashes").schema)
    stage = NearDuplicates(CORPUS)
    (found,) = [each for each in graph([stage]) if isinstance(each, candidates.Candidates)]

    def pairs() -> list[set[tuple[int, int]]]:
        tables = (output.table for output in found.receive(Received(0, lambda: iter([sent]))))
        return [set(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)) for table in tables]

    (whole,) = pairs()
    monkeypatch.setattr(candidates, "AT_ONCE", at_once)
    parts = pairs()
    assert set().union(*parts) == whole and len(parts) >= 300 // at_once
    assert max(map(len, parts)) <= (candidates.NEIGHBOURS + 2) * at_once


def test_small_buckets_are_compared_in_full() -> None:
    key = np.repeat(np.arange(5, dtype=np.uint64), [1, 2, 3, candidates.NEIGHBOURS + 1, 1])
    document = np.random.default_rng(0).permutation(len(key)).astype(np.uint64)
    a, b = candidates.unique_pairs(
        *(
            np.concatenate(side)
            for side in zip(*candidates.bucket_pairs(*candidates.in_buckets(key, document)), strict=True)
        )
    )
    expected = {
        tuple(sorted((int(document[i]), int(document[j]))))
        for i, j in itertools.combinations(range(len(key)), 2)
        if key[i] == key[j]
    }
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected


@pytest.mark.parametrize("unit_rows", [1000, 3])
def test_an_older_corpus_always_wins_and_gets_no_verdicts(unit_rows: int) -> None:
    text = sentence(12, 80)
    old = [sentence(13, 80), text, changed(text, 3), "short"]
    new = [text + " and a much longer end", sentence(14, 80), changed(text, 40), "short", sentence(14, 80)]
    stage = NearDuplicates(CORPUS, against=Corpus("old"))
    table, _ = run_filter(stage, {"n": new}, against={"o": old}, unit_rows=unit_rows)
    assert table["shard"].to_pylist() == ["n"] * 5
    assert table["kept"].to_pylist() == [False, True, False, False, False]
    assert table["keeper_shard"].to_pylist() == ["against:o", "n", "against:o", "against:o", "n"]
    assert table["keeper_row"].to_pylist() == [1, 1, 1, 3, 1]


def test_several_of_a_cluster_can_be_kept() -> None:
    text = sentence(15, 80)
    texts = [changed(text, 3), text + " a", changed(text, 50), text + " much longer", text + " longer"]
    for most, kept in ((1, [3]), (2, [3, 4]), (9, [0, 1, 2, 3, 4])):
        found = of(texts, most=most)
        assert [i for i, row in enumerate(found) if row["kept"]] == kept
        assert {row["keeper_row"] for row in found if not row["kept"]} <= {3}
        assert all(row["keeper_row"] == i for i, row in enumerate(found) if row["kept"])


def test_near_duplicates_can_be_kept_and_told_to_the_rules() -> None:
    text = sentence(16, 80)
    stage = NearDuplicates(CORPUS, drop=False)
    table, _ = run_filter(stage, {"a": [text, changed(text, 3), sentence(17, 80)]})
    assert table["kept"].to_pylist() == [True] * 3
    similarity = stage.similarities(table, "a")
    assert similarity[0] == similarity[2] == 0
    assert similarity[1] == table["similarity"][1].as_py() > 0.8


def test_a_split_group_of_too_many_documents_falls_into_its_clusters() -> None:
    text = sentence(18, 100)
    akin = [changed(text, *range(i, 100, 50)) for i in range(20)] * 6  # 120 of a group, 20 clusters of 6 each
    found, _, _ = verdicts({"a": akin + [sentence(1000 + i, 20) for i in range(200)]}, threshold=0.9)
    groups = [row["split_group"] for row in found["a"]]
    clusters = [row["cluster"] for row in found["a"]]
    assert groups[:120] == clusters[:120]
    few, _, _ = verdicts({"a": akin[:60] + [sentence(1000 + i, 20) for i in range(200)]}, threshold=0.9)
    assert len({row["split_group"] for row in few["a"][:60]}) == 1
    assert len({row["cluster"] for row in few["a"][:60]}) == 20


def test_an_older_corpus_does_not_make_a_group_too_large() -> None:
    """One per cent is of the documents that are split; those of the other corpus are in no split."""
    text = sentence(40, 100)
    relatives = [changed(text, *range(10 * i % 90, 10 * i % 90 + 5)) + f" {i}" for i in range(4)]
    old = [text + f" {sentence(41 + i, 2)}" for i in range(120)]
    new = [*relatives, *(sentence(1000 + i, 40) for i in range(300))]
    stage = NearDuplicates(CORPUS, against=Corpus("old"))
    table, _ = run_filter(stage, {"a": new}, against={"o": old})
    groups = table["split_group"].to_pylist()
    assert len(set(groups[:4])) == 1 and len(set(groups)) == 301
