"""The near-duplicate filter: exact copies and MinHash-LSH, through datasketch.

Signatures are made a unit at a time. Clustering sees all signatures in one process, which bounds the size of a corpus:
128 permutations take about 1.2 kB a document there. Verdicts are written for every document; no text is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.stages.base import Narrow, Stage, Tables, Wide
from annotate.stages.corpus import Corpus
from annotate.stages.signatures import Signatures
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.text.keyed import name_key

WORTH_A_REMARK = 1000  # documents: fewer may well have no near-duplicates
Keep = Literal["longest", "earliest"]


@dataclass(frozen=True)
class Clusters(Wide):
    """Clusters of near-duplicates and split groups, of the documents that are not alone in theirs.

    A cluster is a connected component over pairs of documents that are exact copies, or whose Jaccard similarity,
    estimated from their signatures, is at least `threshold`. A split group is one over a looser `group_threshold`.
    """

    signatures: Signatures
    threshold: float = 0.8
    group_threshold: float = 0.5
    keep: Keep = "longest"

    name: ClassVar[str] = "clusters"
    schema: ClassVar[str] = "clusters"

    def __post_init__(self) -> None:
        if not 0 < self.group_threshold <= self.threshold <= 1:
            raise ConfigError(
                "thresholds must satisfy 0 < group_threshold <= threshold <= 1, got "
                f"group_threshold={self.group_threshold}, threshold={self.threshold}"
            )
        if self.keep not in ("longest", "earliest"):
            raise ConfigError(f'keep must be "longest" or "earliest", got {self.keep!r}')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The signatures."""
        return {"signatures": self.signatures}

    def settings(self) -> Mapping[str, Any]:
        """Thresholds and keeper rule."""
        return {"threshold": self.threshold, "group_threshold": self.group_threshold, "keep": self.keep}

    def piece(self, tables: Tables) -> pa.Table:
        """The signatures of a unit, with their shard."""
        table = tables["signatures"]
        return table.append_column("shard", pa.array([tables.shard] * table.num_rows, pa.string()))

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Cluster all documents."""
        del shared
        documents = merged.filter(merged["usable"]).combine_chunks()
        n = documents.num_rows
        left, right = _pairs(documents, self.signatures.permutations, self.threshold, self.group_threshold)
        values = _matrix(documents, self.signatures.permutations)
        exact = _exact(documents)
        similarity = _similarity(values, exact, left, right)
        near = similarity >= np.float32(self.threshold)
        cluster = _components(n, left[near], right[near])
        group = _components(n, left, right)
        keeper = _keepers(cluster, documents["length"].to_numpy(), self.keep)
        alone = (np.bincount(cluster, minlength=n)[cluster] == 1) & (np.bincount(group, minlength=n)[group] == 1)
        chosen = np.flatnonzero(~alone)
        return Output(
            _cluster_table(
                documents, chosen, keeper, cluster, group, _similarity(values, exact, chosen, keeper[chosen])
            )
        )


@dataclass(frozen=True)
class NearDuplicates(Narrow):
    """Verdicts on every document of a corpus: kept, or near-duplicate of which.

    Attributes:
        corpus: the documents.
        threshold: Jaccard similarity of word shingles from which two documents are near-duplicates.
        keep: which document of a cluster is kept: the "longest" (then the earliest), or the "earliest".
        shingle: words in a shingle.
        permutations: length of a signature.
        group_threshold: similarity from which documents never lie on both sides of a split, at most `threshold`; None:
            0.5, or `threshold` where that is lower.
        seed: of the permutations.
    """

    corpus: Corpus
    threshold: float = 0.8
    keep: Keep = "longest"
    shingle: int = 5
    permutations: int = 128
    group_threshold: float | None = None
    seed: int = 1

    name: ClassVar[str] = "verdicts"
    schema: ClassVar[str] = "verdicts"

    def __post_init__(self) -> None:
        _ = self.inputs  # its settings are checked there

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Signatures for the rows, and the clusters."""
        signatures = Signatures(self.corpus, self.shingle, self.permutations, self.seed)
        looser = min(0.5, self.threshold) if self.group_threshold is None else self.group_threshold
        return {"signatures": signatures, "clusters": Clusters(signatures, self.threshold, looser, self.keep)}

    def settings(self) -> Mapping[str, Any]:
        """None of its own: the inputs have them all."""
        return {}

    def unit(self, tables: Tables) -> Output:
        """Give the verdicts on the documents of a unit."""
        rows = tables["signatures"]["row"].to_numpy()
        own = np.array([name_key(f"{tables.shard}:{row}") for row in rows], np.uint64)
        kept = np.ones(len(rows), bool)
        keeper_shard = np.full(len(rows), tables.shard, object)
        keeper_row, similarity = rows.copy(), np.ones(len(rows), np.float32)
        cluster, group = own.copy(), own.copy()
        clusters = tables["clusters"]
        here = clusters.filter(pc.equal(clusters["shard"], tables.shard))
        inside = pc.and_(pc.greater_equal(here["row"], tables.rows.start), pc.less(here["row"], tables.rows.stop))
        here = here.filter(inside)
        at = here["row"].to_numpy() - tables.rows.start
        kept[at] = here["kept"].to_numpy(zero_copy_only=False)
        keeper_shard[at] = here["keeper_shard"].to_numpy()
        keeper_row[at] = here["keeper_row"].to_numpy()
        similarity[at] = here["similarity"].to_numpy()
        cluster[at], group[at] = here["cluster"].to_numpy(), here["split_group"].to_numpy()
        columns = [
            pa.array(rows, pa.int64()),
            pa.array(kept),
            pa.array(keeper_shard, pa.string()),
            pa.array(keeper_row, pa.int64()),
            pa.array(similarity),
            pa.array(cluster),
            pa.array(group),
        ]
        return Output(
            pa.table(columns, schema=contract("verdicts").schema),
            counts={"kept": int(kept.sum()), "near_duplicates": int((~kept).sum())},
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when nothing, or most of the corpus, is a near-duplicate."""
        dropped = manifest.counts.get("near_duplicates", 0)
        total = dropped + manifest.counts.get("kept", 0)
        if dropped == 0 and total >= WORTH_A_REMARK:
            return [f"no near-duplicates found among {total:,} documents: is the text column right?"]
        if dropped * 2 > total:
            return [f"{dropped:,} of {total:,} documents are near-duplicates: more than half of the corpus is dropped"]
        return []


def _matrix(documents: pa.Table, permutations: int) -> npt.NDArray[np.uint32]:
    """Signatures as uint32 `[n, permutations]`; zeros for documents without shingles."""
    signatures = documents["signature"].combine_chunks()
    has = pc.list_value_length(signatures).to_numpy() > 0
    values = np.zeros((documents.num_rows, permutations), np.uint32)
    values[has] = signatures.flatten().to_numpy().reshape(-1, permutations)
    return values


def _exact(documents: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each document that exact copies share, and others do not."""
    both = np.stack([documents["exact_high"].to_numpy(), documents["exact_low"].to_numpy()])
    return np.unique(both, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _pairs(
    documents: pa.Table, permutations: int, threshold: float, group_threshold: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of documents whose similarity is at least the group threshold, as two int64 arrays.

    Of exact copies, only pairs with the first copy are listed, and only first copies go through LSH: a bucket of many
    equal documents costs linear work.
    """
    exact = _exact(documents)
    _, first, inverse = np.unique(exact, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[inverse] != np.arange(len(exact)))
    left, right = [first[inverse[copies]]], [copies]
    values = _matrix(documents, permutations)
    has = np.flatnonzero(pc.list_value_length(documents["signature"]).to_numpy() > 0)
    for level in sorted({threshold, group_threshold}):
        a, b = _lsh_pairs(values, np.intersect1d(has, first), permutations, level)
        keep = (values[a] == values[b]).mean(axis=1, dtype=np.float32) >= np.float32(group_threshold)
        left.append(a[keep])
        right.append(b[keep])
    return np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64)


def _lsh_pairs(
    values: npt.NDArray[np.uint32], members: npt.NDArray[np.int64], permutations: int, threshold: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Candidate pairs of datasketch's LSH, with bands and rows by its optimiser."""
    from datasketch import MinHash, MinHashLSH  # with scipy 0.4 s of CPU time, and every worker imports this module

    # Near 1 datasketch's optimiser finds no bands; candidates are verified, so a lower threshold only finds more.
    lsh = MinHashLSH(threshold=min(threshold, 0.9), num_perm=permutations)
    left: list[int] = []
    right: list[int] = []
    for member in members.tolist():
        minhash = MinHash(num_perm=permutations, hashvalues=values[member], scheme="affine32")
        found = lsh.query(minhash)
        left.extend(found)
        right.extend([member] * len(found))
        lsh.insert(member, minhash)
    return np.array(left, np.int64), np.array(right, np.int64)


def _similarity(
    values: npt.NDArray[np.uint32],
    exact: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Estimated Jaccard similarity of pairs: the share of equal signature values, 1 for exact copies."""
    share = (values[left] == values[right]).mean(axis=1, dtype=np.float32) if len(left) else np.empty(0, np.float32)
    return np.where(exact[left] == exact[right], np.float32(1), share).astype(np.float32)


def _components(n: int, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Component of each of n documents, named by its first member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n)), directed=False)
    first = np.full(n, n, np.int64)
    np.minimum.at(first, labels, np.arange(n))
    return first[labels]


def _keepers(cluster: npt.NDArray[np.int64], length: npt.NDArray[np.int64], keep: Keep) -> npt.NDArray[np.int64]:
    """The kept document of each document's cluster."""
    order = np.lexsort((np.arange(len(cluster)), -length)) if keep == "longest" else np.arange(len(cluster))
    _, first = np.unique(cluster[order], return_index=True)
    keeper = np.empty(len(cluster), np.int64)
    keeper[cluster[order[first]]] = order[first]
    return keeper[cluster]


def _cluster_table(
    documents: pa.Table,
    chosen: npt.NDArray[np.int64],
    keeper: npt.NDArray[np.int64],
    cluster: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float32],
) -> pa.Table:
    shard, row = documents["shard"].combine_chunks(), documents["row"].combine_chunks()

    def named(members: npt.NDArray[np.int64]) -> pa.Array:
        """Identity of a component: the hash of where its first member is."""
        firsts, inverse = np.unique(members, return_inverse=True)
        names = zip(shard.take(pa.array(firsts)).to_pylist(), row.take(pa.array(firsts)).to_pylist(), strict=True)
        keys = np.array([name_key(f"{s}:{r}") for s, r in names], np.uint64)
        return pa.array(keys[inverse], pa.uint64())

    own, kept = pa.array(chosen), pa.array(keeper[chosen])
    columns = [
        shard.take(own),
        row.take(own),
        pa.array(keeper[chosen] == chosen),
        shard.take(kept),
        row.take(kept),
        pa.array(similarity),
        named(cluster[chosen]),
        named(group[chosen]),
    ]
    return pa.table(columns, schema=contract("clusters").schema)
