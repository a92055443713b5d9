"""The clusters that the near-duplicate filter found: their sizes, and the documents of the largest ones.

A unit of the dataset of keepers has whole clusters, so no process holds more than one unit. Texts are held only of the
clusters that are described, at most `TEXT` code points of each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from annotate.engine.datasets import Dataset
from annotate.graph import Documents, Stage, graph
from annotate.stages.duplicates.clusters import Keepers
from annotate.stages.duplicates.documents import row_of, starts_of, unit_of
from annotate.stages.near_duplicates import NearDuplicates
from annotate.storage.manifests import Unit
from annotate.storage.store import Directory

TEXT = 1 << 20  # code points of a text that are held
MEMBERS = 4  # documents of a cluster that are named
SIZES = (2, 3, 4, 5, 10, 100, 1000, 10_000, 100_000, 1_000_000)
"""The least number of documents in a cluster of each class."""

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document of a cluster; `against` says whether it is of the older corpus that the corpus is compared with."""

    shard: str
    row: int
    id: str | None
    against: bool


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A large cluster.

    Attributes:
        cluster: its identity, as in the verdicts.
        documents: how many documents it has, of both corpora if there are two.
        members: a few of its documents, the keeper first.
        other: the dropped document that is least similar to its keeper; None if all are kept.
        similarity: of the keeper and `other`.
        texts: of the keeper and `other`, each up to `TEXT` code points.
    """

    cluster: int
    documents: int
    members: Sequence[Document]
    other: Document | None
    similarity: float | None
    texts: tuple[str, str] | None

    @property
    def keeper(self) -> Document:
        """The first document that is kept."""
        return self.members[0]


@dataclass(frozen=True, kw_only=True)
class SizeClass:
    """Clusters of `least` to `most` documents (None: or more)."""

    least: int
    most: int | None
    clusters: int
    documents: int


@dataclass(frozen=True, kw_only=True, order=True)
class _Found:
    """A cluster in the dataset of keepers. Compared by size; of two of one size, the earlier one is greater."""

    documents: int
    earlier: int
    cluster: int
    members: tuple[int, ...]


def clusters_of(
    verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset], number: int
) -> tuple[list[SizeClass], list[Cluster]]:
    """Count clusters by size, and describe the largest. Clusters without a document of the corpus are left out."""
    own = own_units(verdicts, datasets)
    clusters, documents = np.zeros(len(SIZES), np.int64), np.zeros(len(SIZES), np.int64)
    largest: list[_Found] = []
    for table in tables_of(datasets[stage_of(verdicts, Keepers)]):
        member, cluster = table["b"].to_numpy(), table["cluster"].to_numpy()
        starts, sizes = own_runs(member, starts_of(cluster), table["copies"].to_numpy(), own)
        stops = np.append(starts_of(cluster), len(cluster))
        classes = np.searchsorted(SIZES, sizes, side="right") - 1
        clusters += np.bincount(classes, minlength=len(SIZES))
        documents += np.bincount(classes, sizes, minlength=len(SIZES)).astype(np.int64)
        best = np.argsort(-sizes, kind="stable")[:number]
        largest += (
            _Found(
                documents=n,
                earlier=-int(member[at:stop].min()),
                cluster=int(cluster[at]),
                members=tuple(member[at : min(stop, at + MEMBERS)].tolist()),
            )
            for at, stop, n in zip(
                starts[best].tolist(),
                stops[np.searchsorted(stops, starts[best], side="right")].tolist(),
                sizes[best].tolist(),
                strict=True,
            )
        )
        largest = heapq.nlargest(number, largest)
    classes_there = zip(SIZES, [*(least - 1 for least in SIZES[1:]), None], clusters, documents, strict=True)
    return [
        SizeClass(least=least, most=most, clusters=int(n), documents=int(all_))
        for least, most, n, all_ in classes_there
        if n
    ], _described(verdicts, datasets, largest)


def own_runs(
    member: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], copies: npt.NDArray[np.int64], own: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The starts of the runs that have a document of the corpus, whose units are the first `own`; and their documents.

    `copies` says for how many documents each row stands.
    """
    if not len(starts):
        return starts, starts
    has = np.logical_or.reduceat(unit_of(member) < own, starts)
    return starts[has], np.add.reduceat(copies, starts)[has]


def _described(verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset], largest: Sequence[_Found]) -> list[Cluster]:
    """Add to clusters the names of their documents, and the texts of two."""
    others = _least_similar(verdicts, datasets, [each.cluster for each in largest])
    compared = {n for each in largest if each.cluster in others for n in others[each.cluster][:2]}
    named = compared | {n for each in largest for n in each.members}
    documents, texts = _documents(verdicts, datasets, named, compared)
    clusters = []
    for each in largest:
        keeper, other, similarity = others.get(each.cluster, (each.members[0], None, None))
        members = [keeper, *(n for n in each.members if n != keeper)][: len(each.members)]
        clusters.append(
            Cluster(
                cluster=each.cluster,
                documents=each.documents,
                members=[documents[n] for n in members],
                other=None if other is None else documents[other],
                similarity=similarity,
                texts=None if other is None else (texts[keeper], texts[other]),
            )
        )
    return clusters


def _least_similar(
    verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset], clusters: Sequence[int]
) -> dict[int, tuple[int, int, float]]:
    """For each cluster the keeper, the dropped document that is least similar to it, and their similarity."""
    own = own_units(verdicts, datasets)
    wanted = pa.array(clusters, pa.uint64())
    least: dict[int, tuple[float, int, int]] = {}
    for table in tables_of(datasets[verdicts.inputs["kept"]]) if clusters else ():
        some = table.filter(pc.and_(pc.is_in(table["cluster"], wanted), pc.not_equal(table["a"], table["b"])))
        some = some.filter(pa.array(unit_of(some["b"].to_numpy()) < own))
        first = pl.DataFrame(some.select(["cluster", "similarity", "b", "a"])).sort("similarity", "b")
        for cluster, *pair in first.unique("cluster", keep="first").iter_rows():
            least[cluster] = min(least.get(cluster, (2.0, 0, 0)), (pair[0], pair[1], pair[2]))
    return {cluster: (keeper, other, similarity) for cluster, (similarity, other, keeper) in least.items()}


def _documents(
    verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset], numbers: set[int], texts_of: set[int]
) -> tuple[dict[int, Document], dict[int, str]]:
    """Look up documents by their numbers, and the texts of some."""
    documents: dict[int, Document] = {}
    texts: dict[int, str] = {}
    sought = np.sort(np.array(list(numbers), np.uint64))
    own = own_units(verdicts, datasets)
    for number, (corpus, directory, unit) in enumerate(_all_units(verdicts, datasets)):
        mine = sought[slice(*np.searchsorted(unit_of(sought), [number, number + 1]))]
        if not len(mine):
            continue
        table = corpus.read(directory, unit).take(pa.array(row_of(mine)))
        table = table.set_column(2, "text", pc.utf8_slice_codeunits(table["text"], 0, TEXT))
        for n, row in zip(mine.tolist(), table.to_pylist(), strict=True):
            name = None if corpus.id is None else str(row["id"])
            documents[n] = Document(shard=unit.shard, row=row["row"], id=name, against=number >= own)
            if n in texts_of:
                texts[n] = row["text"] or ""
    return documents, texts


def _all_units(
    verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset]
) -> Iterator[tuple[Documents, Directory, Unit]]:
    """The units of both corpora, in the order of their numbers."""
    for corpus in (verdicts.corpus, verdicts.against):
        if corpus is not None:
            dataset = datasets[corpus]
            yield from ((corpus, dataset.directory, unit) for unit in dataset.units())


def stage_of(verdicts: NearDuplicates, kind: type[S]) -> S:
    """The first stage of the filter that has a type."""
    return next(stage for stage in graph([verdicts]) if isinstance(stage, kind))


def tables_of(dataset: Dataset) -> Iterator[pa.Table]:
    """Read the units of a dataset, one at a time."""
    return (dataset.stage.read(dataset.directory, unit) for unit in dataset.units())


def own_units(verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset]) -> int:
    """How many units the corpus has. The units of an older corpus that it is compared with have higher numbers."""
    manifest = datasets[verdicts.corpus].manifest
    assert manifest is not None, "the run has opened it"
    return manifest.units
