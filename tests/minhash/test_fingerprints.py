"""Fingerprints: few of the runs of a text, whatever is around them, and never none of a long run."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.minhash import signing
from annotate.minhash.documents import hash_texts
from annotate.minhash.fingerprints import choose, fingerprints, run_lengths
from annotate.minhash.reference import fmix64, rolling_hash, shingles


def texts_of(*words: list[str]) -> pa.Array:
    return pa.array([" ".join(each) for each in words], pa.large_string())


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=40), max_size=5), st.integers(1, 9))  # few values: ties
def test_windows_whose_smallest_is_first_or_last_are_chosen(texts: list[list[int]], window: int) -> None:
    offsets = np.cumsum([0, *map(len, texts)])
    chosen, counts = choose(np.array([*itertools.chain(*texts)], np.uint64), offsets, window)
    expected = [
        [min(text[i : i + window]) in (text[i], text[i + window - 1]) for i in range(len(text) - window + 1)]
        for text in texts
    ]
    assert chosen.tolist() == [*itertools.chain(*expected)]
    assert counts.tolist() == [sum(each) for each in expected]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(2, 40), st.data())
def test_texts_that_share_a_long_run_share_a_fingerprint(words: list[str], span: int, data: st.DataObject) -> None:
    run = data.draw(st.lists(st.sampled_from("abc"), min_size=span, max_size=span + 5))
    before, after = data.draw(st.lists(st.sampled_from("xyz"), max_size=9)), data.draw(st.lists(st.sampled_from("uv")))
    found, ends = fingerprints(texts_of([*words, *run], [*before, *run, *after]), span)
    assert set(found[: ends[1]].tolist()) & set(found[ends[1] :].tolist())


@settings(deadline=None)
@given(st.integers(2, 500))
def test_runs_are_as_long_as_a_span_allows(span: int) -> None:
    k, s = run_lengths(span)
    assert span - 1 <= 2 * k - s - 1 <= span
    assert 1 <= s < k <= span


def test_what_is_chosen_does_not_depend_on_what_is_around() -> None:
    rng = np.random.default_rng(0)
    run = [f"w{n}" for n in rng.integers(0, 1 << 40, 170).tolist()]
    texts = [[f"{n}" for n in rng.integers(0, 1 << 40, 900).tolist()] + run for _ in range(60)]
    found, ends = fingerprints(texts_of(*texts), 100)
    sets = [set(found[a:b].tolist()) for a, b in itertools.pairwise(ends)]
    common = set.intersection(*sets)
    assert len(common) > 1
    for one, two in itertools.combinations(sets, 2):
        assert one & two == common


def test_two_of_each_window_and_one_more_are_chosen_of_random_runs() -> None:
    text = [f"w{n}" for n in np.random.default_rng(0).integers(0, 1 << 40, 100_000).tolist()]
    found, _ = fingerprints(texts_of(text), 100)
    k, s = run_lengths(100)
    assert len(found) / len(text) == pytest.approx(2 / (k - s + 1), rel=0.05)


@settings(deadline=None)
@given(st.lists(st.text(), max_size=4), st.integers(1, 3), st.sampled_from(["words", "characters"]))
def test_hashes_of_shingles_are_whole(texts: list[str], n: int, tokens: str) -> None:
    hashes, offsets = hash_texts(pa.array(texts, pa.string()), n, tokens=tokens)
    for text, (a, b) in zip(texts, itertools.pairwise(offsets), strict=True):
        assert hashes[a:b].tolist() == [fmix64(rolling_hash(data)) for data in shingles(text, n, tokens)]


def test_long_texts_and_odd_ones_side_by_side() -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(map(str, rng.integers(0, 999, n).tolist())) for n in (3000, 0, 4, 9000)]
    texts.append("cafe\u0301 a b c d e")
    documents = pa.chunked_array([texts[:2], texts[2:], [None]], pa.large_string())
    hashes, offsets = hash_texts(documents, 5)
    longer, ends = hash_texts(documents, 7)
    for text, (a, b) in zip([*texts, ""], itertools.pairwise(offsets), strict=True):
        assert hashes[a:b].tolist() == [fmix64(rolling_hash(data)) for data in shingles(text, 5)]
    for text, (a, b) in zip([*texts, ""], itertools.pairwise(ends), strict=True):
        assert longer[a:b].tolist() == [fmix64(rolling_hash(data)) for data in shingles(text, 7)]


@pytest.mark.parametrize("at_once", [1, 7, 100])
@pytest.mark.parametrize("tokens", ["words", "characters"])
def test_it_does_not_matter_how_many_are_hashed_at_once(
    monkeypatch: pytest.MonkeyPatch, tokens: str, at_once: int
) -> None:
    texts = pa.array(["a b c d", None, "\u4e2d\u6587 x", "", "a  b " * 9, "e"], pa.large_string())
    whole = hash_texts(texts, 2, tokens=tokens)
    monkeypatch.setattr(signing, "AT_ONCE", at_once)
    for one, two in zip(whole, hash_texts(texts, 2, tokens=tokens), strict=True):
        assert one.tolist() == two.tolist()
    assert hash_texts(texts[:0])[1].tolist() == [0]
