"""Gathers a report on near-duplicates from the committed datasets of the filter.

Figures come from manifests where these have them; other data are read a unit at a time.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from annotate.arguments import as_path
from annotate.engine.datasets import Dataset
from annotate.engine.events import Observer
from annotate.engine.options import Options
from annotate.engine.run import DEFAULTS, Made, run
from annotate.errors import ConfigError
from annotate.graph import Stage
from annotate.minhash.bands import band_chance, detection_chance
from annotate.reports.large_clusters import Cluster, SizeClass, clusters_of, own_runs, own_units, stage_of, tables_of
from annotate.stages.duplicates.clusters import Groups, Keepers
from annotate.stages.duplicates.documents import starts_of
from annotate.stages.duplicates.similarity import Similarity
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.render import Render
from annotate.stages.repeated_ids import id_checks
from annotate.stages.score import Score
from annotate.stages.split import Split
from annotate.storage.latest import read_latest
from annotate.storage.parts import read_part
from annotate.storage.store import Directory

SOURCES = 20  # how many shards, or values of a column, a report lists
MOST_SOURCES = 100_000
OTHERS = (Split.name, Score.name, Render.name)
"""Stages that show that a work directory belongs to a pipeline, so that no filter is run there alone."""


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """The documents of one shard, or with one value in a column, and how many of them were dropped."""

    name: str | None
    documents: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources from which the most documents were dropped.

    Attributes:
        of: name of the column; None if the sources are shards.
        sources: at most `SOURCES`, the one with the most dropped first.
        total: the number of all sources; None if they are more than `MOST_SOURCES`, and then none is listed.
    """

    of: str | None
    sources: Sequence[SourceCount]
    total: int | None


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The chance that the filter finds a pair of documents.

    Attributes:
        similarity: the Jaccard similarity of the pair.
        caught: the chance that the pair is a candidate, for each choice of bands and rows.
        found: the chance that the pair is a candidate by any of them and counts. By estimates, the estimate must reach
            the threshold. If similarity is exact, the estimate must be high enough that the texts are compared, and
            the similarity must reach the threshold.
    """

    similarity: float
    caught: Sequence[float]
    found: float


@dataclass(frozen=True, kw_only=True)
class SplitGroups:
    """Figures on split groups of two documents or more; groups that were cut are counted in `cut` alone."""

    groups: int
    documents: int
    largest: int
    cut: int
    documents_of_cut: int


@dataclass(frozen=True, kw_only=True)
class DuplicatesReport:
    """A report on near-duplicates.

    Attributes:
        documents: how many documents the run reached.
        not_reached: how many it did not reach, because of a limit.
        unusable: documents whose text is null, empty, blank or not UTF-8; they are not compared.
        exact_copies: dropped documents that equal their keeper, after NFC and with each run of blanks as one.
        near_duplicates: the other dropped documents.
        kept: documents that are kept.
        characters: code points of all usable texts.
        characters_dropped: code points of the dropped documents.
        clusters: how many clusters have two documents or more.
        sizes: how many clusters have which size; classes without a cluster are left out.
        largest: the largest clusters, the largest first.
        sources: how many documents were dropped from which source.
        threshold: of similarity.
        verify: whether similarity is an "estimate" or "exact".
        ways: the bands and rows in use.
        curve: the chance that a pair is found, by its similarity.
        groups: figures on split groups.
        remarks: the warnings of the run.
    """

    documents: int
    not_reached: int
    unusable: int
    exact_copies: int
    near_duplicates: int
    kept: int
    characters: int
    characters_dropped: int
    clusters: int
    sizes: Sequence[SizeClass]
    largest: Sequence[Cluster]
    sources: Sources
    threshold: float
    verify: str
    ways: Sequence[tuple[int, int]]
    curve: Sequence[Chance]
    groups: SplitGroups
    remarks: Sequence[str]

    @property
    def dropped(self) -> int:
        """How many documents were dropped."""
        return self.exact_copies + self.near_duplicates

    def figures(self) -> dict[str, Any]:
        """The report as JSON, without texts; the identities of clusters are decimal strings."""
        data = dataclasses.asdict(self)
        for cluster in data["largest"]:
            del cluster["texts"]
            cluster["cluster"] = str(cluster["cluster"])
        return {**data, "dropped": self.dropped}


def find_duplicates(
    verdicts: NearDuplicates,
    workdir: str | PathLike[str],
    options: Options = DEFAULTS,
    *,
    source: str | None = None,
    clusters: int = 5,
    observer: Observer | None = None,
) -> DuplicatesReport:
    """Run the near-duplicate filter alone, and report what it found; the corpus is not changed.

    Verdicts are kept in the work directory, so another report with `source` or `clusters` takes seconds.

        find_duplicates(NearDuplicates(Corpus("data/*.parquet")), "dup").dropped

    Args:
        verdicts: the filter; it must drop near-duplicates.
        workdir: the work directory, which must not be that of a pipeline.
        options: the options of the run.
        source: the column of the corpus whose values are the sources; None for shards.
        clusters: how many of the largest clusters to describe.
        observer: is told of the progress of the run.

    Raises:
        ConfigError: Ray does not run; the work directory is that of a pipeline; or a value of the column can't name a
            source.
        InputError: the corpus can't be read, changed, or has no such column.
        StorageError: the work directory can't be used, or a dataset is damaged.
        WorkError: a unit failed on every attempt.
    """
    place = as_path(workdir, "workdir")
    check_workdir(place)
    outputs = filter_alone(verdicts)
    made = run(outputs, place, options, observer, checks=id_checks(outputs.values()))
    return _gather(verdicts, made, source=source, clusters=clusters)


def filter_alone(verdicts: NearDuplicates) -> dict[str, Stage]:
    """The stages whose datasets a report reads. They must be outputs of the pipeline, so that a run makes them."""
    groups = {"groups": stage_of(verdicts, Groups)} if verdicts.grouped else {}
    kept = {"kept": verdicts.inputs["kept"], "keepers": stage_of(verdicts, Keepers)}
    return {"verdicts": verdicts, **kept, **groups}


def check_workdir(workdir: str) -> None:
    """Refuse the work directory of another pipeline: `annotate clean` goes by the last run, and would drop its work.

    Raises:
        ConfigError: it is the work directory of a pipeline.
    """
    others = [item.label for item in read_latest(Directory.at(workdir)) if item.stage in OTHERS]
    if others:
        raise ConfigError(
            f"{workdir} is the work directory of a pipeline: the last run left {', '.join(others[:3])} there",
            hint="Use another directory. After a run here, the pipeline's shards would not be found any more, and "
            "`annotate clean` would remove them.",
        )


def _gather(verdicts: NearDuplicates, made: Made, *, source: str | None, clusters: int) -> DuplicatesReport:
    datasets = made.datasets
    opened, judged = (datasets[stage].manifest for stage in (verdicts.corpus, verdicts))
    assert opened is not None and judged is not None, "the run has made them"
    counts = judged.counts
    copies, dropped = counts["exact_copies"], counts["near_duplicates"]
    sizes, largest = clusters_of(verdicts, datasets, clusters)
    return DuplicatesReport(
        documents=judged.rows,
        not_reached=opened.counts["documents"] - judged.rows,
        unusable=counts["unusable"],
        exact_copies=copies,
        near_duplicates=dropped - copies,
        kept=judged.rows - dropped - counts["unusable"],
        characters=counts["characters"],
        characters_dropped=counts["characters_of_near_duplicates"],
        clusters=sum(size.clusters for size in sizes),
        sizes=sizes,
        largest=largest,
        sources=_by_shard(datasets[verdicts]) if source is None else _by_column(verdicts, datasets, source),
        threshold=verdicts.threshold,
        verify=verdicts.verify,
        ways=verdicts.ways,
        curve=curve(verdicts),
        groups=_groups(verdicts, datasets),
        remarks=made.remarks,
    )


# Sources.


def _most_dropped(sources: Iterable[SourceCount]) -> list[SourceCount]:
    return heapq.nsmallest(SOURCES, sources, key=lambda source: (-source.dropped, -source.documents))


def _by_shard(dataset: Dataset) -> Sources:
    """Count dropped documents by shard. The entries of units have the counts, so no verdict is read."""
    most: list[SourceCount] = []
    total = 0
    for shard, units in itertools.groupby(dataset.units(), key=lambda unit: unit.shard):
        entries = [entry for unit in units for entry in unit.entries]
        documents = sum(entry.part.rows for entry in entries)
        dropped = sum(entry.counts["near_duplicates"] for entry in entries)
        most = _most_dropped([*most, SourceCount(name=shard, documents=documents, dropped=dropped)])
        total += 1
    return Sources(of=None, sources=most, total=total)


def _by_column(verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset], column: str) -> Sources:
    """Count dropped documents by the values of a column."""
    corpus, dataset = verdicts.corpus, datasets[verdicts]
    counted = pl.DataFrame(schema={"source": pl.String, "documents": pl.UInt64, "dropped": pl.UInt64})
    for of_corpus, unit in zip(datasets[corpus].units(), dataset.units(), strict=True):
        table = corpus.reader.columns_of(datasets[corpus].directory, of_corpus, [column])
        kept = [
            read_part(dataset.directory, entry.part, schema=verdicts.schema, columns=["kept"]) for entry in unit.entries
        ]
        counted = _counted(counted, _names(table[column], column), pa.concat_tables(kept)["kept"])
        if counted.height > MOST_SOURCES:
            return Sources(of=column, sources=(), total=None)
    sources = (SourceCount(name=name, documents=n, dropped=dropped) for name, n, dropped in counted.iter_rows())
    return Sources(of=column, sources=_most_dropped(sources), total=counted.height)


def _counted(counted: pl.DataFrame, names: pa.ChunkedArray, kept: pa.ChunkedArray) -> pl.DataFrame:
    """Add the counts of a unit to those of other units, and sort by name."""
    rows = pl.DataFrame(pa.table({"source": names, "kept": kept}))
    counts = {"documents": pl.len().cast(pl.UInt64), "dropped": (~pl.col("kept")).sum().cast(pl.UInt64)}
    rows = rows.group_by("source").agg(**counts)
    return pl.concat([counted, rows]).group_by("source").sum().sort("source")


def _names(values: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    """Convert values to text.

    Raises:
        ConfigError: their type has no text form.
    """
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise ConfigError(
            f"column {column!r} can't name sources: its type is {values.type}",
            hint="Choose a column of strings, numbers or dates.",
        ) from error


# Chances and split groups.


def curve(verdicts: NearDuplicates) -> list[Chance]:
    """The chances at each tenth of similarity, and at more similarities around the threshold."""
    near = {round(verdicts.threshold + step, 4) for step in (-0.1, -0.05, 0.0, 0.05, 0.1)}
    points = sorted({n / 10 for n in range(1, 10)} | {point for point in near if 0 < point < 1})
    at = np.array(points)
    by_way = [band_chance(at, bands, rows).tolist() for bands, rows in verdicts.ways]
    exact = verdicts.verify == "exact"
    least = stage_of(verdicts, Similarity).least if exact else verdicts.threshold
    both = detection_chance(at, verdicts.ways, verdicts.permutations, least)
    if exact:
        both *= at >= verdicts.threshold
    return [
        Chance(similarity=s, caught=list(ways), found=chance)
        for s, ways, chance in zip(points, zip(*by_way, strict=True), both.tolist(), strict=True)
    ]


def _groups(verdicts: NearDuplicates, datasets: Mapping[Stage, Dataset]) -> SplitGroups:
    """Count split groups. If there are no bands for them, the clusters are the groups."""
    apart = verdicts.grouped
    dataset = datasets[stage_of(verdicts, Groups if apart else Keepers)]
    own = own_units(verdicts, datasets)
    groups = documents = largest = 0
    for table in tables_of(dataset):
        whole = table.drop_null()
        group, member = (whole[name].to_numpy() for name in (("group", "document") if apart else ("cluster", "b")))
        _, sizes = own_runs(member, starts_of(group), whole["copies"].to_numpy(), own)
        groups, documents = groups + len(sizes), documents + int(sizes.sum())
        largest = max(largest, int(sizes.max(initial=0)))
    counts = dataset.manifest.counts if dataset.manifest is not None else {}
    return SplitGroups(
        groups=groups,
        documents=documents,
        largest=largest,
        cut=counts.get("cut_groups", 0),
        documents_of_cut=counts.get("documents_of_cut_groups", 0),
    )
