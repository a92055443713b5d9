"""Verdicts: whether each document is kept or a near-duplicate, and of which; its cluster and its split group.

signatures ─► candidates ─► signed pairs ─► similarity ─┬─► components ─► members ─► keepers ─► similarity ─► verdicts
fingerprints ─► shared spans ───────────────────────────┴─► components ─► members ─► groups ───────────────────┘
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.graph import Documents, Map, Stage, Tables
from annotate.minhash.reference import Scheme, Tokens
from annotate.stages.duplicates.candidates import Candidates
from annotate.stages.duplicates.clusters import LISTED, DocumentGroups, Groups, Keepers, Members
from annotate.stages.duplicates.components import Components
from annotate.stages.duplicates.documents import SignedDocuments, copies_of, identity, row_of, unit_of, unlisted
from annotate.stages.duplicates.shared_spans import Fingerprints, KeptFingerprints, SharedSpans
from annotate.stages.duplicates.similarity import FirstSigned, Similarity
from annotate.stages.signatures import Hash, Signatures
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.subsets import Subsets

Bands = tuple[int, int]
GROUP_BANDS: Bands = (32, 4)
GROUP_THRESHOLD = 0.45
NEAR_DUPLICATE = "near_duplicate"
"""The name, in rules, of the similarity of a near-duplicate to its keeper, if near-duplicates are not dropped."""
FEW = 1000
"""With fewer documents, it is no surprise to find no near-duplicates."""


@dataclass(frozen=True)
class NearDuplicates(Map):
    """Verdicts on every document of a corpus.

        verdicts = NearDuplicates(corpus, threshold=0.7)
        scores = score(Split(corpus), skip=verdicts, scorers=[Probe("niceness")])

    A cluster is a connected component over pairs of documents that are exact copies (after NFC and folding of blanks),
    or whose estimated Jaccard similarity is at least `threshold`; one document of it is kept. A split group is a
    component at the looser `group_threshold`, over these pairs and over those that share a long exact span: its
    documents are always in one subset together. A group of more than 1 % of the corpus is cut: its clusters, and its
    documents that are in no cluster, are groups of their own.

    Attributes:
        corpus: the documents.
        threshold: Jaccard similarity of shingles from which two documents are near-duplicates.
        keep: which document of a cluster is kept: the "longest", the "earliest", or the one with the largest value in a
            column of the corpus, as "highest:NAME"; of several that are alike, the earliest.
        most: number of documents that are kept of a cluster, the first in that order.
        drop: whether near-duplicates are dropped. If not, all documents are kept, and rules can read `near_duplicate`:
            the similarity of a near-duplicate to its keeper, 0 for other documents.
        against: a corpus whose documents always win, and get no verdicts: a new corpus is filtered against an old.
        verify: "estimate" takes the similarity from signatures; "exact" computes it from the shingles of the texts,
            which are read again for pairs whose estimate is near enough.
        shingle: tokens in a shingle.
        tokens: "words", where each character of a script without blanks is one; or "characters".
        permutations: length of a signature.
        bands: bands and rows by which candidates for near-duplicates are found; None for datasketch's optimum.
        group_threshold: similarity from which documents are in one split group, at most `threshold`; None for 0.45, or
            `threshold` where that is lower.
        group_bands: bands and rows by which candidates for split groups are found.
        group_span: tokens in a row that two documents share to be in one split group; a span that more than 50
            kept documents have joins none. None for no such groups.
        seed: of the permutations.
        hash: of shingles, "rolling" or "sha1"; see `Signatures`.
        scheme: of the permutations, "affine32" or "legacy".
        subsets: documents for training, calibration and evaluation, by split group; None for all in one. Each output
            chooses its subset, as in `Render(placements, subset="evaluation")`. The verdicts are the same.
    """

    corpus: Documents
    _: KW_ONLY
    threshold: float = 0.8
    keep: str = "longest"
    most: int = 1
    drop: bool = True
    against: Documents | None = None
    verify: Literal["estimate", "exact"] = "estimate"
    shingle: int = 5
    tokens: Tokens = "words"
    permutations: int = 128
    bands: Bands | None = None
    group_threshold: float | None = None
    group_bands: Bands = GROUP_BANDS
    group_span: int | None = 100
    seed: int = 1
    hash: Hash = "rolling"
    scheme: Scheme = "affine32"
    subsets: Subsets | None = None

    name: ClassVar[str] = "verdicts"
    schema: ClassVar[str] = "verdicts"
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        for name in ("bands", "group_bands"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_tuple(getattr(self, name), name))
        if not 0 < self.looser <= self.threshold <= 1:
            raise ConfigError(
                "thresholds must satisfy 0 < group_threshold <= threshold <= 1, got "
                f"group_threshold={self.looser}, threshold={self.threshold}"
            )
        if self.permutations < 8:
            raise ConfigError(f"permutations must be at least 8, got {self.permutations}")
        for name, cut in (("bands", self.bands), ("group_bands", self.group_bands)):
            if cut is not None and (min(cut) < 1 or cut[0] * cut[1] > self.permutations):
                raise ConfigError(
                    f"{name}={cut} are {cut[0]} bands of {cut[1]} rows: both must be at least 1, and their product at "
                    f"most permutations={self.permutations}",
                    hint=f"With so many permutations {name} can be {max(self.permutations // 4, 1)} bands of 4.",
                )
        if self.verify not in ("estimate", "exact"):
            raise ConfigError(f'verify must be "estimate" or "exact", got {self.verify!r}')
        if self.group_span is not None and self.group_span < 2:
            raise ConfigError(f"group_span must be at least 2 tokens, or None, got {self.group_span}")
        _ = self.inputs  # the other settings are checked there

    @property
    def looser(self) -> float:
        """The similarity from which documents are in one split group."""
        return min(GROUP_THRESHOLD, self.threshold) if self.group_threshold is None else self.group_threshold

    @property
    def ways(self) -> tuple[Bands, ...]:
        """Bands and rows in use."""
        from annotate.minhash.bands import optimal_bands

        own = self.bands or optimal_bands(self.threshold, self.permutations)
        return (own,) if self.looser == self.threshold else tuple(sorted({own, self.group_bands}))

    @functools.cached_property
    def inputs(self) -> Mapping[str, Stage]:
        """The signatures, each document's keeper, and its split group."""
        own, other = (
            Signatures(corpus, self.shingle, self.permutations, self.seed, self.tokens, self.hash, self.scheme)
            if corpus is not None
            else None
            for corpus in (self.corpus, self.against)
        )
        assert own is not None
        all_ = SignedDocuments(own, other)
        exact = self.verify == "exact"
        near = Similarity(all_, FirstSigned(all_, Candidates(all_, self.ways)), self._surely(self.looser))
        if exact:
            near = Similarity(all_, FirstSigned(all_, near, exact), self.looser)
        clusters = Members(all_, Components(all_, near, self.threshold), self.keep, max(LISTED, self.most + 1))
        kept = Similarity(all_, FirstSigned(all_, Keepers(all_, clusters, self.most), exact), 0.0)
        if not self.grouped:
            return {"signatures": own, "kept": kept}
        groups = Groups(all_, Members(all_, Components(all_, near, self.looser, self._spans(kept))))
        return {"signatures": own, "kept": kept, "groups": DocumentGroups(all_, groups)}

    @property
    def grouped(self) -> bool:
        """Whether split groups differ from the clusters."""
        return self.looser < self.threshold or self.group_span is not None

    def _surely(self, similarity: float) -> float:
        """The least estimate of pairs that stay: four standard deviations lower if they are then compared exactly."""
        if self.verify == "estimate":
            return similarity
        return max(0.0, similarity - 4 * (similarity * (1 - similarity) / self.permutations) ** 0.5)

    def _spans(self, kept: Similarity) -> SharedSpans | None:
        """The pairs of documents that share a long span."""
        if self.group_span is None:
            return None
        own, other = (
            Fingerprints(corpus, self.group_span, self.tokens) if corpus is not None else None
            for corpus in (self.corpus, self.against)
        )
        assert own is not None
        return SharedSpans(KeptFingerprints(own, kept), other)

    def settings(self) -> Mapping[str, Any]:
        """Whether near-duplicates are dropped: the inputs have the rest, and subsets change no verdict."""
        return {"drop": self.drop}

    def unit(self, tables: Tables) -> UnitOutput:
        """Give the verdicts on the documents of a unit."""
        signatures = tables["signatures"]
        rows = signatures["row"].to_numpy()
        similarity = np.ones(len(rows), np.float32)
        keeper_shard, keeper_row = np.full(len(rows), tables.shard, object), rows.copy()
        cluster = identity(tables.shard, rows)
        found = tables["kept"]
        found = found.filter(pa.array(unit_of(found["b"].to_numpy()) == tables.number))
        at = row_of(found["b"].to_numpy())
        near = np.zeros(len(rows), bool)
        near[at] = found["a"].to_numpy() != found["b"].to_numpy()
        keeper_shard[at], keeper_row[at] = found["shard"].to_numpy(), found["row"].to_numpy()
        similarity[at], cluster[at] = found["similarity"].to_numpy(), found["cluster"].to_numpy()
        exact = np.zeros(len(rows), bool)
        exact[at] = found["copy"].to_numpy()
        first = copies_of(signatures)
        copies, like = unlisted(first, at, near[at])
        for column in (near, keeper_shard, keeper_row, similarity, cluster, exact):
            column[copies] = column[like]
        group = cluster.copy()
        if self.grouped:
            shared = tables["groups"].drop_null()
            shared = shared.filter(pa.array(unit_of(shared["document"].to_numpy()) == tables.number))
            at = row_of(shared["document"].to_numpy())
            group[at] = shared["group"].to_numpy()
            copies, like = unlisted(first, at, np.ones(len(at), bool))
            group[copies] = group[like]
        kept = ~near if self.drop else np.ones(len(rows), bool)
        lengths = signatures["length"].to_numpy()
        columns = [pa.array(column) for column in (rows, kept)] + [pa.array(keeper_shard, pa.string())]
        columns += [pa.array(column) for column in (keeper_row, similarity, cluster, group)]
        return UnitOutput(
            pa.table(columns, schema=contract("verdicts").schema),
            counts={
                "kept": int(kept.sum()),
                "near_duplicates": int(near.sum()),
                "exact_copies": int((near & exact).sum()),
                "unusable": pc.sum(pc.invert(signatures["usable"])).as_py() or 0,
                "characters": int(lengths.sum()),
                "characters_of_near_duplicates": int(lengths[near].sum()),
            },
        )

    def similarities(self, verdicts: pa.Table, shard: str) -> npt.NDArray[np.float32]:
        """What rules read as `near_duplicate`, for each document of a unit: float32 `[n]`."""
        own = pc.and_(pc.equal(verdicts["keeper_shard"], shard), pc.equal(verdicts["keeper_row"], verdicts["row"]))
        return np.where(own.to_numpy(zero_copy_only=False), np.float32(0), verdicts["similarity"].to_numpy())

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when nothing, or most of the corpus, is a near-duplicate."""
        dropped = manifest.counts.get("near_duplicates", 0)
        total = manifest.rows
        if dropped == 0 and total >= FEW:
            return [f"no near-duplicates found among {total:,} documents: is the text column right?"]
        if dropped * 2 > total:
            return [f"{dropped:,} of {total:,} documents are near-duplicates: more than half of the corpus"]
        return []
