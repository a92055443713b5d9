"""The near-duplicate stages alone, on tables made by hand: what is a copy, which is kept, how units don't matter."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotate.errors import ConfigError
from annotate.minhash.reference import shingles
from annotate.stages import near_duplicates
from annotate.stages.base import Tables
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import Clusters, NearDuplicates
from annotate.stages.signatures import Signatures
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest

CORPUS = Corpus("corpus")
Texts = Sequence[str | None]


class Given(Tables):
    """Tables that are given instead of read."""

    def __init__(self, shard: str, rows: range, **tables: pa.Table) -> None:
        self._shard, self._rows, self._tables = shard, rows, tables

    @property
    def shard(self) -> str:
        return self._shard

    @property
    def rows(self) -> range:
        return self._rows

    def __getitem__(self, name: str) -> pa.Table:
        return self._tables[name]


def documents(texts: Texts, start: int = 0) -> pa.Table:
    rows = range(start, start + len(texts))
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "id": pa.array([f"d{row}" for row in rows], pa.large_string()),
            "text": pa.array(texts, pa.large_string()),
            "problem": pa.array(["the text is null" if text is None else None for text in texts], pa.string()),
        }
    )


def verdicts(
    shards: Mapping[str, Texts], unit_rows: int = 1000, **settings: Any
) -> tuple[dict[str, list[dict[str, Any]]], Manifest, list[str]]:
    """Verdicts by shard, the counts as a manifest has them, and the remarks."""
    stage = NearDuplicates(CORPUS, **settings)
    sign, clusters = stage.inputs["signatures"], stage.inputs["clusters"]
    assert isinstance(sign, Signatures)
    assert isinstance(clusters, Clusters)
    units = [
        (shard, range(start, min(start + unit_rows, len(texts))), texts[start : start + unit_rows])
        for shard, texts in shards.items()
        for start in range(0, len(texts), unit_rows)
    ]
    signed = [sign.unit(Given(shard, rows, corpus=documents(texts, rows.start))).table for shard, rows, texts in units]
    pieces = [
        clusters.piece(Given(shard, rows, signatures=contract("signatures").check(table, "here")))
        for (shard, rows, _), table in zip(units, signed, strict=True)
    ]
    whole = contract("clusters").check(clusters.finish(clusters.merge(pieces), {}).table, "here")
    found: dict[str, list[dict[str, Any]]] = {shard: [] for shard in shards}
    counts = {"kept": 0, "near_duplicates": 0}
    for (shard, rows, _), table in zip(units, signed, strict=True):
        output = stage.unit(Given(shard, rows, signatures=table, clusters=whole))
        found[shard] += contract("verdicts").check(output.table, "here").to_pylist()
        counts = {name: counts[name] + output.counts[name] for name in counts}
    manifest = Manifest("verdicts", "", "", {}, {}, (), len(units), sum(map(len, shards.values())), 0, counts)
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
    assert remarks == ["3 of 5 documents are near-duplicates: more than half of the corpus is dropped"]
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
        Clusters(Signatures(CORPUS), threshold=threshold, group_threshold=group_threshold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"group_threshold": 0.0}, "group_threshold=0.0"),
        ({"threshold": 0.6, "group_threshold": 0.7}, "got group_threshold=0.7, threshold=0.6"),
        ({"keep": "shortest"}, 'keep must be "longest" or "earliest", got \'shortest\''),
    ],
)
def test_the_whole_stage_refuses_what_its_inputs_do(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NearDuplicates(CORPUS, **settings)


def test_unless_it_is_given_the_looser_threshold_follows_a_low_one() -> None:
    for threshold, looser in ((0.8, 0.5), (0.3, 0.3)):
        given = NearDuplicates(CORPUS, threshold=threshold, group_threshold=looser)
        assert NearDuplicates(CORPUS, threshold=threshold).inputs["clusters"] == given.inputs["clusters"]


def test_many_identical_documents_take_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2000
    listed: list[int] = []
    looked_up: list[int] = []
    pairs, lsh_pairs = near_duplicates._pairs, near_duplicates._lsh_pairs

    def count_pairs(*arguments: Any) -> Any:
        left, right = pairs(*arguments)
        listed.append(len(left))
        return left, right

    def count_members(values: Any, members: Any, *more: Any) -> Any:
        looked_up.append(len(members))
        return lsh_pairs(values, members, *more)

    monkeypatch.setattr(near_duplicates, "_pairs", count_pairs)
    monkeypatch.setattr(near_duplicates, "_lsh_pairs", count_members)
    found = of([sentence(10, 20)] * n + [sentence(11, 20)])
    assert listed == [n - 1]
    assert looked_up == [2, 2]  # the two distinct documents, at each threshold
    assert sum(column(found, "kept")) == 2
    assert set(column(found, "keeper_row")) == {0, n}
