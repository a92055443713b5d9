"""The filter on planted copies: what it finds is what exact Jaccard similarity finds, as far as chance allows.

Chance is that of ideal min-wise hashing: of two documents of exact Jaccard similarity s, each of the 128 values of
their signatures agrees with chance s, one independently of the other. A right filter breaks a bound once in a million.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from exchanges import run_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import binom, norm
from scipy.stats import t as student

from annotate.minhash.bands import band_chance, detection_chance, optimal_bands
from annotate.minhash.reference import shingles
from annotate.stages.corpus import Corpus
from annotate.stages.duplicates.documents import row_of, unit_of
from annotate.stages.near_duplicates import GROUP_BANDS, GROUP_THRESHOLD, NearDuplicates

CORPUS = Corpus("corpus")
WORDS, PERMUTATIONS, UNIT_ROWS = 5, 128, 1000
RARE = 1e-6
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


# Documents. A word is drawn from two million, so that no two documents share a shingle by accident.


def words(random: np.random.Generator, n: int) -> list[str]:
    return [f"w{word}" for word in random.integers(0, 2_000_000, n)]


def substituted(text: list[str], random: np.random.Generator, edits: int) -> list[str]:
    """Other words at places so far from each other and from the ends that each is in 5 shingles of its own."""
    slots = np.sort(random.choice((len(text) - WORDS + 1) // WORDS, edits, replace=False))
    changed = list(text)
    for slot, word in zip(slots, words(random, edits), strict=True):
        changed[WORDS * slot + WORDS - 1] = word
    return changed


def exact_pair(random: np.random.Generator, *, apart: bool) -> tuple[str, str]:
    """Two documents of exact Jaccard similarity 0.6, by edits that are spread, or all at one end."""
    if apart:
        edits = int(random.integers(2, 7))  # of 20 * edits shingles, 15 * edits are left, and 5 * edits new
        text = words(random, 20 * edits + WORDS - 1)
        return " ".join(text), " ".join(substituted(text, random, edits))
    third = int(random.integers(10, 40))
    start, end, other = words(random, 3 * third + WORDS - 1), words(random, third), words(random, third)
    return " ".join(start + end), " ".join(start + other)


# Brute force: the exact Jaccard similarity of all pairs.


@dataclass(frozen=True)
class Pairs:
    """Pairs of documents, the smaller first, in order, with their similarity."""

    a: Ints
    b: Ints
    similarity: Floats

    def at_least(self, similarity: float) -> Pairs:
        return self.where(self.similarity >= similarity)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        return Pairs(self.a[chosen], self.b[chosen], self.similarity[chosen])

    def of(self, a: Ints, b: Ints) -> Floats:
        """The similarity of other pairs, 0 for those that are not among these."""
        key, wanted = (left << 32 | right for left, right in ((self.a, self.b), (a, b)))
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[at] == wanted, self.similarity[at], 0.0)


def incidence(texts: list[str]) -> csr_array:
    """Which shingles each document has: `[n_documents, n_shingles]` of 1."""
    of = [sorted(set(shingles(text, WORDS))) for text in texts]
    _, columns = np.unique(np.array([each for some in of for each in some], object), return_inverse=True)
    rows = np.repeat(np.arange(len(of)), [len(some) for some in of])
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=(len(of), columns.max() + 1))


def brute_force(has: csr_array) -> Pairs:
    """All pairs that share a shingle."""
    shared = (has @ has.T).tocoo()
    upper = shared.row < shared.col
    a, b, both = shared.row[upper].astype(np.int64), shared.col[upper].astype(np.int64), shared.data[upper]
    order = np.lexsort((b, a))
    a, b, both = a[order], b[order], both[order]
    sizes = np.diff(has.indptr)
    return Pairs(a, b, both / (sizes[a] + sizes[b] - both))


def components(n: int, pairs: Pairs) -> Ints:
    """The component of each document."""
    graph = csr_array((np.ones(len(pairs.a)), (pairs.a, pairs.b)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def together(labels: npt.NDArray[np.integer]) -> set[tuple[int, int]]:
    """The pairs of documents with one label."""
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return {(int(a), int(b)) for some in members for i, a in enumerate(some) for b in some[i + 1 :]}


# What chance says.


def agreements(similarity: float) -> int:
    """The least number of equal values that is an estimate of at least this."""
    return int(np.ceil(similarity * PERMUTATIONS - 1e-9))


def chance_found(similarity: Floats, threshold: float) -> Floats:
    """The chance that a pair is a candidate, and that its estimate is at least `threshold`.

    A band of 13 values holds a whole band of 4, as any 11 in a row do; so only the bands of 4 count. A pair that they
    miss has, in each, at most 3 values that agree: how many in all is a power of that polynomial.
    """
    assert GROUP_BANDS == (32, 4) and optimal_bands(0.8, PERMUTATIONS)[1] >= 11
    chances = []
    distinct, which = np.unique(similarity, return_inverse=True)
    for s in distinct.tolist():
        missed, band = np.ones(1), binom.pmf(range(4), 4, s)
        for _ in range(GROUP_BANDS[0]):
            missed = np.convolve(missed, band)
        least = agreements(threshold)
        chances.append(binom.sf(least - 1, PERMUTATIONS, s) - missed[least:].sum())
    return np.array(chances)[which]


def bounds(chances: Floats, cluster: Ints) -> tuple[float, float]:
    """Between which the number of pairs that are found lies, of pairs with these chances.

    Pairs of different clusters are independent. Those of one share documents, so at worst their deviations add up.
    """
    deviation = np.bincount(cluster, np.sqrt(chances * (1 - chances)), cluster.max(initial=0) + 1)
    width = norm.isf(RARE) * np.sqrt((deviation**2).sum()) + 1  # 1 for what is no normal distribution
    return max(0.0, chances.sum() - width), min(len(chances), chances.sum() + width)


def verified(made: dict[str, list[pa.Table]]) -> Pairs:
    """The edges: pairs that the filter compared and whose estimate is at least the looser threshold."""
    table = pa.concat_tables(made["similarity"])
    assert table["cluster"].null_count == table.num_rows, "these are not pairs of documents and keepers"
    a, b = (unit_of(each) * UNIT_ROWS + row_of(each) for each in (table[name].to_numpy() for name in "ab"))
    order = np.lexsort((b, a))
    return Pairs(a[order], b[order], table["similarity"].to_numpy()[order].astype(np.float64))


# The tests.


@pytest.mark.parametrize("span", [None, 100])
def test_pairs_at_0_6_survive_and_share_a_split_group(span: int | None) -> None:
    """Half of the pairs share all but their ends, which joins those of long spans, where spans are looked at."""
    random = np.random.default_rng(1)
    pairs = [exact_pair(random, apart=i % 2 == 0) for i in range(1000)]
    for left, right in pairs:
        a, b = set(shingles(left, WORDS)), set(shingles(right, WORDS))
        assert 10 * len(a & b) == 6 * len(a | b)
    others = [" ".join(words(random, random.integers(5, 120))) for _ in range(3000)]
    texts = [text for pair in pairs for text in pair] + others
    places = random.permutation(len(texts))
    at = np.argsort(places)[:2000].reshape(-1, 2)  # where the documents of each pair went
    counts: Counter[tuple[str, str]] = Counter()
    stage = NearDuplicates(CORPUS, group_span=span)
    table, made = run_filter(stage, {"a": [texts[i] for i in places]}, counts=counts)
    assert table["kept"].to_numpy(zero_copy_only=False).all()

    group = table["split_group"].to_numpy()
    joined = group[at[:, 0]] == group[at[:, 1]]
    shared = int(joined.sum())
    chance = band_chance(np.array([0.6]), *GROUP_BANDS)[0] * binom.sf(
        agreements(GROUP_THRESHOLD) - 1, PERMUTATIONS, 0.6
    )
    least = binom.ppf(RARE, len(pairs), chance)
    exact = chance_found(np.array([0.6]), GROUP_THRESHOLD)[0]
    print(f"\n{shared} of 1,000 pairs at 0.6 share a split group, with spans of {span}; bound {least:.0f}")
    print(f"chance of both: product {chance:.5f}, exact {exact:.5f}")
    # Agreeing in a band goes with agreeing in many values, so the product is less than the chance of both.
    assert chance <= exact
    assert shared >= least
    assert len(np.unique(group)) == len(texts) - shared, "nothing else is together"

    edges = verified(made)
    long = [bool(i % 2) and len(pair[0].split()) * 3 // 4 >= 100 for i, pair in enumerate(pairs)]
    assert sum(long) > 100
    if span is None:
        assert len(edges.a) == shared
    else:
        assert joined[long].all()
    assert (edges.similarity >= GROUP_THRESHOLD).all()
    assert (group[edges.a] == group[edges.b]).all()
    assert counts["groups", "cut_groups"] == counts["groups", "documents_of_cut_groups"] == 0


def test_only_a_group_above_one_percent_is_split_and_it_is_counted() -> None:
    """A group of 150 in which 20 clusters hang together, one of 101 that is 1 %, and pairs: 10,100 documents."""
    random = np.random.default_rng(2)
    large, allowed = words(random, 104), words(random, 104)
    akin = [" ".join(substituted(large, random, 3)) for _ in range(20)]
    texts = [akin[i % 20] for i in range(150)]
    texts += [" ".join(substituted(allowed, random, 3)) for _ in range(101)]
    texts += [text for _ in range(100) for text in exact_pair(random, apart=True)]
    texts += [" ".join(words(random, 8)) for _ in range(10_100 - len(texts))]
    places = random.permutation(len(texts))
    counts: Counter[tuple[str, str]] = Counter()
    table, made = run_filter(NearDuplicates(CORPUS, drop=False), {"a": [texts[i] for i in places]}, counts=counts)
    group, cluster = table["split_group"].to_numpy(), table["cluster"].to_numpy()
    of = {
        name: np.flatnonzero((places >= start) & (places < stop))
        for name, start, stop in (("large", 0, 150), ("allowed", 150, 251))
    }

    edges = verified(made)
    split = group[edges.a] != group[edges.b]
    in_large = np.isin(edges.a, of["large"]) & np.isin(edges.b, of["large"])
    print(f"\n{split.sum()} of {len(split)} edges are split, all in one group of 150")
    assert split.sum() > 100
    assert (split == (in_large & (cluster[edges.a] != cluster[edges.b]))).all()
    assert counts["groups", "cut_groups"] == 1
    assert counts["groups", "documents_of_cut_groups"] == 150
    assert (group[of["large"]] == cluster[of["large"]]).all()
    assert len(np.unique(group[of["large"]])) == 20
    assert len(np.unique(group[of["allowed"]])) == 1
    assert len(np.unique(cluster[of["allowed"]])) > 50


def spread_clusters(random: np.random.Generator, n: int) -> tuple[list[str], Ints]:
    """Clusters of 2 to 6 copies of a text, each with its own edits: other words here and there, more words at the end.

    A copy of four has no edit, or only another end.
    """
    texts, cluster = [], []
    for number in range(n):
        text = words(random, int(random.integers(80, 160)))
        for _ in range(random.integers(2, 7)):
            edits = int(random.integers(1, 1 + len(text) // 25)) if random.random() < 0.75 else 0
            texts.append(" ".join(substituted(text, random, edits) + words(random, random.integers(0, 9))))
            cluster.append(number)
    return texts, np.array(cluster)


@dataclass(frozen=True)
class Planted:
    """A corpus that was filtered, and what brute force says of it."""

    texts: list[str]
    has: csr_array
    cluster: Ints
    exact: Pairs
    edges: Pairs
    found: Ints
    estimate: Floats


def planted(texts: list[str], cluster: Ints) -> Planted:
    """Filter a corpus; `found` are the clusters of the filter, `estimate` is what it finds of each pair of `exact`.

    Of documents with one signature only the first is compared with others, and stands for them. Of copies in a unit
    the second is compared with the first copy only, later ones with none.
    """
    table, made = run_filter(NearDuplicates(CORPUS), {"a": texts}, unit_rows=UNIT_ROWS)
    has, edges = incidence(texts), verified(made)
    exact = brute_force(has)
    signatures = np.stack([each for part in made["signatures"] for each in part["signature"].to_numpy()])
    _, first, same = np.unique(signatures, axis=0, return_index=True, return_inverse=True)
    stands = first[same.ravel()]
    twins = np.flatnonzero(stands != np.arange(len(texts)))
    copies = np.array([texts[at // UNIT_ROWS * UNIT_ROWS : at].count(text) for at, text in enumerate(texts)])
    compared = twins[copies[twins] < 1]
    assert (edges.of(stands[compared], compared) == 1).all() and len(compared)
    a, b = stands[exact.a], stands[exact.b]
    estimate = np.where(a == b, 1.0, edges.of(np.minimum(a, b), np.maximum(a, b)))
    return Planted(texts, has, cluster, exact, edges, table["cluster"].to_numpy(), estimate)


@pytest.fixture(scope="module")
def spread() -> Planted:
    return planted(*spread_clusters(np.random.default_rng(3), 1000))


@pytest.mark.parametrize("threshold", [0.8, GROUP_THRESHOLD])
def test_recall_by_similarity_is_what_chance_says(spread: Planted, threshold: float) -> None:
    exact, hit = spread.exact, spread.estimate >= threshold
    assert exact.similarity.min() < 0.45
    chances = chance_found(exact.similarity, threshold)
    some = np.array([0.3, 0.5, 0.6, 0.8, 0.9])
    ours = detection_chance(some, NearDuplicates(CORPUS).ways, PERMUTATIONS, threshold)
    np.testing.assert_allclose(ours, chance_found(some, threshold), rtol=1e-6)
    of = spread.cluster[exact.a]
    assert (of == spread.cluster[exact.b]).all(), "documents of two clusters share a shingle"
    print(f"\nfound at an estimate of {threshold}\n     exact   pairs   found  chance  bounds")
    edges = [0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.01]
    for low, high in itertools.pairwise(edges):
        here = (exact.similarity >= low) & (exact.similarity < high)
        least, most = bounds(chances[here], of[here])
        n, hits = int(here.sum()), int(hit[here].sum())
        shares = f"{n:7,} {hits / n:7.4f} {chances[here].mean():7.4f}"
        print(f"{low:5.2f}-{min(high, 1):4.2f} {shares}  {least:.0f} <= {hits:,} <= {most:.0f}")
        assert n > 100
        assert least <= hits <= most


def test_estimates_and_precision_are_what_chance_says(spread: Planted) -> None:
    edges, exact = spread.edges, spread.exact
    similarity = exact.of(edges.a, edges.b)
    equal = np.rint(edges.similarity * PERMUTATIONS)
    rare = norm.sf(5)
    assert (binom.sf(equal - 1, PERMUTATIONS, similarity) > rare).all()
    assert (binom.cdf(equal, PERMUTATIONS, similarity) > rare).all()

    found = spread.estimate >= 0.8
    chances = chance_found(exact.similarity, 0.8)
    right = exact.similarity >= 0.8
    counted = {}
    for name, these in (("right", right), ("wrong", ~right)):
        least, most = bounds(chances[these], spread.cluster[exact.a[these]])
        counted[name] = hits = int(found[these].sum())
        print(f"\n{hits:,} {name} pairs at an estimate of 0.8; bounds {least:.0f} to {most:.0f}", end="")
        assert least <= hits <= most
    precision, recall = counted["right"] / found.sum(), counted["right"] / right.sum()
    expected = chances[right].sum() / chances.sum(), chances[right].sum() / right.sum()
    print(f"\npairs: precision {precision:.4f}, recall {recall:.4f}; by chance {expected[0]:.4f}, {expected[1]:.4f}")


def ideal(has: csr_array, pairs: Pairs, random: np.random.Generator) -> Pairs:
    """What ideal min-wise hashing finds of some pairs, with its estimates: each shingle has 128 random values."""
    values = random.random((PERMUTATIONS, has.shape[1]), np.float32)
    least = np.stack([np.minimum.reduceat(each[has.indices], has.indptr[:-1]) for each in values], axis=1)
    equal = least[pairs.a] == least[pairs.b]
    candidates = equal.reshape(-1, *GROUP_BANDS).all(axis=2).any(axis=1)
    return Pairs(pairs.a, pairs.b, equal.mean(axis=1)).where(candidates)


def quality(found: npt.NDArray[np.integer], right: Ints) -> tuple[float, float]:
    """Precision and recall of pairs of documents that are in one cluster."""
    ours, theirs = together(found), together(right)
    return len(ours & theirs) / len(ours), len(ours & theirs) / len(theirs)


def test_clusters_are_as_near_to_those_of_brute_force_as_ideal_hashing_gives(spread: Planted) -> None:
    n = len(spread.found)
    assert together(spread.found) == together(components(n, spread.edges.at_least(0.8)))
    right = components(n, spread.exact.at_least(0.8))
    random = np.random.default_rng(4)
    draws = np.array(
        [quality(components(n, ideal(spread.has, spread.exact, random).at_least(0.8)), right) for _ in range(12)]
    )
    ours = np.array(quality(spread.found, right))
    mean, deviation = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    print(f"\n{n:,} documents, clusters at 0.8: precision {ours[0]:.4f}, recall {ours[1]:.4f}")
    print(f"ideal: {mean[0]:.4f} +- {deviation[0]:.4f}, {mean[1]:.4f} +- {deviation[1]:.4f}")
    width = student.isf(RARE, len(draws) - 1) * deviation * np.sqrt(1 + 1 / len(draws))
    assert (np.abs(ours - mean) <= width).all()


def test_exact_similarity_gives_the_clusters_of_brute_force(spread: Planted) -> None:
    table, _ = run_filter(NearDuplicates(CORPUS, verify="exact"), {"a": spread.texts})
    right = components(len(spread.texts), spread.exact.at_least(0.8))
    precision, recall = quality(table["cluster"].to_numpy(), right)
    print(f"\n{len(right):,} documents, exact similarity: precision {precision}, recall {recall}")
    # Missed are those that an estimate four deviations too low has left out: by chance 1 in 10,000 at 0.8, fewer above.
    assert precision == 1
    assert recall > 0.999


def test_clusters_that_are_well_apart_are_exactly_those_of_brute_force() -> None:
    """Copies at 0.93 or more, and relatives of theirs at 0.6 or less."""
    random = np.random.default_rng(5)
    texts = []
    for _ in range(250):
        text = words(random, 400)
        texts += [
            " ".join(substituted(text, random, int(random.integers(0, 2))) + words(random, random.integers(0, 4)))
            for _ in range(random.integers(2, 7))
        ]
        relative = substituted(text, random, 24)
        texts += [" ".join(relative), " ".join(relative + words(random, 2))][: random.integers(0, 3)]
    texts = [texts[i] for i in random.permutation(len(texts))]
    made = planted(texts, np.zeros(len(texts), np.int64))
    s = made.exact.similarity
    assert ((s >= 0.93) | (s <= 0.6)).all()
    assert (s >= 0.93).sum() > 500 and ((s > 0.5) & (s <= 0.6)).sum() > 500
    right = components(len(texts), made.exact.at_least(0.8))
    precision, recall = quality(made.found, right)
    print(f"\n{len(texts):,} documents well apart: precision {precision}, recall {recall}")
    assert together(made.found) == together(right)
