"""What a run would do: the state of each stage and why, the time of scoring, the bytes that will be written.

Nothing is run and nothing is written in the work directory. Ray is not needed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.corpus.files import is_jsonl
from annotate.corpus.source_files import SourceFile
from annotate.engine.datasets import (
    Dataset,
    columns_read,
    count_units,
    limited,
    needed,
    open_attributes,
    open_corpus,
    plan_datasets,
)
from annotate.engine.imports import find_imported
from annotate.engine.place import check_place
from annotate.engine.run import Options
from annotate.errors import ConfigError
from annotate.graph import Map, Reduce, Regroup, Stage, Tables, documents_of, graph
from annotate.stages.attributes import AttributeFiles
from annotate.stages.corpus import Corpus
from annotate.stages.score import Score, group, prepare
from annotate.storage.latest import Latest, read_latest
from annotate.storage.manifests import Manifest, Unit, read_manifest, read_units
from annotate.storage.parts import parquet_bytes
from annotate.storage.store import Directory

State = Literal["done", "resumable", "stale", "new"]


@dataclass(frozen=True)
class StagePlan:
    """What a run would do about one stage.

    Attributes:
        label: of the stage.
        state: "done"; "resumable": some units are committed; "stale": the last run left another; "new".
        why: what changed since the last run, or what is there.
        units: work units in all, None where that is known only once its inputs are made.
        done: units that are committed.
        rows: rows of the dataset if it is committed, else documents or spans that it will read.
    """

    label: str
    state: State
    why: str
    units: int | None
    done: int
    rows: int | None


@dataclass(frozen=True)
class ScoringTime:
    """The time that scoring will take, from timing a sample of the corpus with the models.

    Attributes:
        label: axes of the stages that share the forward pass.
        spans: spans of the sample.
        tokens: model tokens of the sample; 0 where the scorer has no tokenizer.
        seconds: time of the sample on one model, tokenizing included.
        text_share: text that is still to be scored, as a multiple of the sample's.
        models: models at a time.
    """

    label: str
    spans: int
    tokens: int
    seconds: float
    text_share: float
    models: int

    @property
    def total_seconds(self) -> float:
        """Estimate for the whole stage."""
        return self.seconds * self.text_share / self.models


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus: where it is, its documents, how many of them are reached, and the bytes of text in these."""

    path: str
    documents: int
    reached: int
    text_bytes: int


@dataclass(frozen=True)
class Plan:
    """A plan: stages in order, scoring times, corpora, and the bytes to be written and free (None: unknown)."""

    stages: Sequence[StagePlan]
    scoring: Sequence[ScoringTime]
    corpora: Sequence[CorpusPlan]
    write_bytes: int | None
    free_bytes: int | None


def plan(
    outputs: Mapping[str, Stage], location: str, options: Options, sample: int, *, checks: Sequence[Stage] = ()
) -> Plan:
    """Say what a run would do.

    Args:
        outputs: as for `run`.
        location: the work directory, which need not exist.
        options: as for `run`.
        sample: spans to time; 0 to time nothing.
        checks: as for `run`.

    Raises:
        ConfigError: the graph is wrong, or a model can't be loaded; or the corpus is of JSON lines.
        InputError: a corpus can't be read.
        StorageError: the work directory is of another version, or can't be one.
    """
    stages = graph([*checks, *outputs.values()])
    workdir = Directory.at(location)
    check_place(workdir, stages)
    with tempfile.TemporaryDirectory(prefix="annotate-plan-") as scratch:
        limit = dict.fromkeys(limited(outputs.values()), options.limit)
        opened = _open(stages, workdir, Directory.at(scratch), limit)
        datasets = plan_datasets(stages, workdir, opened, outputs)
        missing = needed([*checks, *outputs.values()], datasets)
        before = {item.label: item for item in read_latest(workdir)}
        scoring: list[ScoringTime] = []
        write: int | None = None
        corpora = [_read(stage, datasets[stage]) for stage in stages if isinstance(stage, Corpus)]
        if not corpora:
            raise ConfigError("the pipeline reads no corpus")
        plans = [
            _stage(datasets[stage], before, datasets[documents_of(stage)], workdir, missing=stage in missing)
            for stage in stages
        ]
        if sample and missing:
            scoring, write = _timed(stages, missing, datasets, workdir, options, sample)
        return Plan(plans, scoring, corpora, write, _free(workdir))


def _read(corpus: Corpus, dataset: Dataset) -> CorpusPlan:
    manifest = dataset.manifest
    assert manifest is not None, "a corpus is opened before"
    return CorpusPlan(str(corpus.path), manifest.counts["documents"], manifest.rows, manifest.size)


def _open(
    stages: Sequence[Stage], workdir: Directory, scratch: Directory, limit: Mapping[Stage, int | None]
) -> dict[Stage, Dataset]:
    """Open the corpora, with their lists of units in a scratch directory; `limit` is by corpus."""
    corpora: dict[Stage, Dataset] = {}
    for stage in stages:
        if isinstance(stage, Corpus):
            files: list[SourceFile] | None = stage.files()
            assert files, "files() raises where there are none"
            size, n = sum(file.size for file in files) / 1e6, len(files)
            if is_jsonl(files[0].path):
                files = find_imported(stage, workdir, files)
            if files is None:
                raise ConfigError(
                    f"{stage.path} is JSON lines, {size:,.1f} MB in {n} files: they must be imported before a plan",
                    hint="Run with --limit 1, which imports them all; then plan.",
                )
            corpora[stage] = open_corpus(stage, scratch, files, limit.get(stage), readers=columns_read(stages, stage))
        elif isinstance(stage, AttributeFiles):
            corpora[stage] = open_attributes(stage, scratch, corpora[stage.corpus])
    return corpora


def _stage(
    dataset: Dataset, before: Mapping[str, Latest], documents: Dataset, workdir: Directory, *, missing: bool
) -> StagePlan:
    corpus = documents.manifest
    assert corpus is not None, "a corpus is opened before"
    stage, manifest = dataset.stage, dataset.manifest
    last = before.get(dataset.label)
    if isinstance(stage, Corpus) and manifest is not None:
        return StagePlan(
            dataset.label,
            "done",
            _changes(dataset, last) or _corpus_changes(dataset, last, workdir) if last else "",
            manifest.units,
            manifest.units,
            manifest.rows,
        )
    if not missing:
        if manifest is None:
            dataset.find()
        manifest = dataset.manifest
        if manifest is None:
            return StagePlan(dataset.label, "done", "not needed: what is made from it is committed", None, 0, None)
        return StagePlan(dataset.label, "done", "", manifest.units, manifest.units, manifest.rows)
    ready = all(source.manifest is not None for source in dataset.inputs.values())
    read = [] if isinstance(stage, Regroup) else [s.manifest.rows for s in dataset.inputs.values() if s.manifest]
    rows = max(read, default=corpus.rows)
    units, done = count_units(dataset) if ready and isinstance(stage, Map | Score) else (_units_ahead(stage, corpus), 0)
    why = _changes(dataset, last) if last is not None and last.fingerprint != dataset.fingerprint else ""
    if done:
        return StagePlan(dataset.label, "resumable", why or "an earlier run left units", units, done, rows)
    if last is not None and last.fingerprint == dataset.fingerprint:
        return StagePlan(dataset.label, "stale", "committed, but parts of it are gone", units, done, rows)
    return StagePlan(dataset.label, "stale" if last is not None else "new", why, units, done, rows)


def _units_ahead(stage: Stage, corpus: Manifest) -> int | None:
    """Units of a stage whose inputs are not there yet: those of the corpus, but for stages that merge or regroup."""
    if isinstance(stage, Reduce):
        return 1
    return corpus.units if isinstance(stage, Map | Score) else None


def _share_done(dataset: Dataset) -> float:
    """Share of the units of a stage that are committed; 0 where its inputs are not there yet."""
    if any(source.manifest is None for source in dataset.inputs.values()):
        return 0.0
    units, done = count_units(dataset)
    return done / max(units, 1)


def _changes(dataset: Dataset, last: Latest) -> str:
    """What differs from the dataset that the last run left."""
    if last.fingerprint == dataset.fingerprint:
        return ""
    if last.recipe != dataset.stage.recipe:
        differs = _differences(last.settings, dataset.stage.settings())
        return "recipe changed: " + (", ".join(differs) or "its version")
    changed = [name for name, source in dataset.inputs.items() if last.inputs.get(name) != source.fingerprint]
    return f"input changed: {', '.join(changed)}" if changed else ""


def _corpus_changes(dataset: Dataset, last: Latest, workdir: Directory) -> str:
    """What differs from the corpus that the last run read, of equal recipe: its documents, or how many are reached."""
    if last.fingerprint == dataset.fingerprint:
        return ""
    directory = workdir.child(last.dataset)
    old, new = read_manifest(directory, last.fingerprint), dataset.manifest
    if old is not None and new is not None and old.counts["documents"] == new.counts["documents"]:
        before = {unit.identity for unit in read_units(directory, old)}
        now = {unit.identity for unit in dataset.units()}
        if before < now or now < before:
            return f"the limit changed: the last run reached {old.rows:,} of {old.counts['documents']:,} documents"
    return "shards were added, removed or changed"


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, as `path: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list | tuple) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{path}[{i}]")
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _timed(
    stages: Sequence[Stage],
    missing: Sequence[Stage],
    datasets: Mapping[Stage, Dataset],
    workdir: Directory,
    options: Options,
    sample: int,
) -> tuple[list[ScoringTime], int]:
    """Time the models on a sample of the corpus, and weigh what is made of it."""
    times = []
    scored = 0.0
    weighed: dict[Stage, float] = {}  # by corpus
    for scores in group([stage for stage in stages if isinstance(stage, Score)]):
        corpus = datasets[scores[0].corpus]
        tables, rows, text_bytes = _sample(scores[0], corpus, workdir, sample)
        assert corpus.manifest is not None, "a corpus is opened before"
        share = corpus.manifest.size / max(text_bytes, 1)
        spans = tables["spans"]
        weight = parquet_bytes(spans).size + parquet_bytes(tables["corpus"]).size
        weighed[corpus.stage] = max(weighed.get(corpus.stage, 0.0), weight * share)
        scored += 4.0 * spans.num_rows * share * sum(len(stage.axes) for stage in scores)
        todo = [stage for stage in scores if stage in missing]
        if todo:
            started = time.perf_counter()
            batch = prepare(todo[0], tables, rows, range(len(todo)))
            spent = time.perf_counter() - started
            spent += _forward_seconds(todo, batch.prepared)
            left = share * (1 - _share_done(datasets[todo[0]]))
            label = ", ".join(axis for stage in todo for axis in stage.axes)
            models = options.workers or _models(todo[0].threads)
            times.append(ScoringTime(label, spans.num_rows, batch.prepared.tokens, spent, left, models))
    return times, int(sum(weighed.values()) + scored)


def _forward_seconds(stages: Sequence[Score], prepared: Any) -> float:
    device = _device()
    scorers = [stage.scorer for stage in stages]
    forward = scorers[0].backbone.load(scorers, device)
    if forward.device is not None:
        from annotate.models.device import use_threads

        use_threads(stages[0].threads)
    started = time.perf_counter()
    forward(prepared, range(len(scorers)))
    return time.perf_counter() - started


def _device() -> str:
    import torch  # a plan of what is done should not wait for it

    return "cuda" if torch.cuda.is_available() else "cpu"


def _models(threads: int) -> int:
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.cuda.device_count() or max(1, cpus // threads)


class _SampleTables(Tables):
    """Tables of a sample of documents, held in memory."""

    def __init__(self, stage: Score, workdir: Directory, unit: Unit, sample: int) -> None:
        super().__init__(stage, workdir, {"corpus": unit, "spans": unit}, {})
        documents = stage.corpus.read(self.directory("corpus"), unit)
        made = stage.spans.unit(_Only(self, documents))
        rows = made.table["row"].to_numpy()
        last = rows[min(sample, len(rows)) - 1] if len(rows) else -1
        self._held = {
            "corpus": documents.filter(pc.less_equal(documents["row"], int(last))),
            "spans": made.table.filter(pc.less_equal(made.table["row"], int(last))),
        }

    def __getitem__(self, name: str) -> pa.Table:
        return self._held[name]


class _Only(Tables):
    """The tables of a unit of which the corpus is read."""

    def __init__(self, of: Tables, documents: pa.Table) -> None:
        self.__dict__.update(of.__dict__)
        self._documents = documents

    def __getitem__(self, name: str) -> pa.Table:
        return self._documents


def _sample(stage: Score, corpus: Dataset, workdir: Directory, sample: int) -> tuple[Tables, Any, int]:
    """The first documents of a unit from the middle of the corpus, with about `sample` spans."""
    assert corpus.manifest is not None, "a corpus is opened before"
    unit = next(itertools.islice(corpus.units(), corpus.manifest.units // 2, None))
    tables = _SampleTables(stage, workdir, unit, sample)
    spans = tables["spans"]
    size = int(np.sum(spans["byte_end"].to_numpy() - spans["byte_start"].to_numpy()))
    return tables, np.unique(spans["row"].to_numpy()), size


def _free(workdir: Directory) -> int | None:
    if workdir.local is None:
        return None
    place = next((p for p in (workdir.local, *workdir.local.parents) if p.exists()), Path("/"))
    return shutil.disk_usage(place).free
