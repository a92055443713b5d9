"""A plan of a run: the state of each stage and why, the time of scoring, and the bytes to be written.

Nothing is run and nothing is written in the work directory. Ray is not needed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from annotate import tally
from annotate.credentials import HIDDEN, redacted
from annotate.engine.check_workdir import check_workdir
from annotate.engine.cost import CORE_SECONDS_A_DOCUMENT, CORE_SECONDS_A_MB, Cost
from annotate.engine.datasets import Dataset, needed, plan_datasets
from annotate.engine.kinds import MAKERS
from annotate.engine.options import Options
from annotate.engine.plan_generation import GenerationPlan, generations
from annotate.engine.plan_models import check_device, models_at_a_time, models_of, on_gpu, share_done
from annotate.engine.source import choose_unit_sizes, open_all
from annotate.errors import ConfigError
from annotate.graph import EndsDocuments, Model, Sample, Source, Stage, graph, source_of
from annotate.source_code import MODULES
from annotate.storage.latest import Latest, read_latest
from annotate.storage.manifests import Manifest, read_manifest, read_units
from annotate.storage.store import Directory

PlanState = Literal["done", "resumable", "stale", "new"]


@dataclass(frozen=True)
class StagePlan:
    """What a run would do about one stage.

    Attributes:
        label: label of the stage.
        state: "done"; "resumable": some units are committed; "stale": it differs from what the last run left; "new".
        why: what changed since the last run, or why nothing is to be done.
        units: number of work units; None if that is known only once its inputs are made.
        done: number of units that are committed.
        rows: rows of the dataset if it is committed; else the documents or spans that it will read.
    """

    label: str
    state: PlanState
    why: str
    units: int | None
    done: int
    rows: int | None


@dataclass(frozen=True)
class ScoringTime:
    """An estimate of the time of scoring: the models are timed on a sample of the corpus.

    Attributes:
        label: label of the stages that share the forward pass.
        spans: number of spans of the sample.
        tokens: number of model tokens of the sample; 0 if the scorer has no tokenizer.
        seconds: time of the sample on one model, tokenizing included.
        text_share: text that is still to be scored, as a multiple of the sample's.
        models: number of models at a time.
        prepare_seconds: the part of `seconds` in which texts were read and tokenized.
        gpus: that the model takes; 0 if it was on a CPU.
        threads: of the model on a CPU.
        remarks: warnings about how it runs.
    """

    label: str
    spans: int
    tokens: int
    seconds: float
    text_share: float
    models: int
    prepare_seconds: float
    gpus: float
    threads: int
    remarks: Sequence[str] = ()

    @property
    def cost(self) -> Cost:
        """Estimate for the whole stage."""
        hours = self.text_share / 3600
        prepare, forward = hours * self.prepare_seconds, hours * (self.seconds - self.prepare_seconds)
        return Cost(prepare + forward * (1 if self.gpus else self.threads), forward * self.gpus)

    @property
    def total_seconds(self) -> float:
        """Estimate for the whole stage."""
        return self.seconds * self.text_share / self.models


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus: its path, the number of its documents, how many of them are reached, and the bytes of their text."""

    path: str
    documents: int
    reached: int
    text_bytes: int


@dataclass(frozen=True)
class Plan:
    """A plan: stages in order, scoring times, corpora, and the bytes to be written and free (None: unknown).

    `generation` has the stages whose models write text; `untimed` the labels of models that could not be timed, as the
    documents that they read are still to be made.

    `cost` is about what the calls of the run will take: of models by their times, of other stages by figures of other
    machines. None if no model was timed.
    """

    stages: Sequence[StagePlan]
    scoring: Sequence[ScoringTime]
    corpora: Sequence[CorpusPlan]
    write_bytes: int | None
    free_bytes: int | None
    cost: Cost | None
    generation: Sequence[GenerationPlan] = ()
    untimed: Sequence[str] = ()


def plan(
    outputs: Mapping[str, Stage], location: str, options: Options, sample: int, *, checks: Sequence[Stage] = ()
) -> Plan:
    """Plan a run.

    Args:
        outputs: as for `run`.
        location: the work directory, which need not exist.
        options: as for `run`.
        sample: spans to time; 0 to time nothing.
        checks: as for `run`.

    Raises:
        ConfigError: the graph is wrong; a model can't be loaded; there is no GPU although one is asked for; or JSON
            lines of the corpus are not imported yet.
        InputError: a corpus can't be read.
        StorageError: the work directory is of another version, or can't be one.
    """
    with opened(outputs, location, options, checks) as (workdir, sources, datasets):
        stages = list(datasets)
        missing = needed([*checks, *outputs.values()], datasets)
        check_device(missing, options)
        before = {item.label: item for item in read_latest(workdir)}
        scoring: list[ScoringTime] = []
        write: int | None = None
        corpora = [_read(dataset) for stage, dataset in sources.items() if "location" in stage.about()]
        if not corpora:
            raise ConfigError("the pipeline reads no corpus", hint="Begin it with a Corpus(...).")
        plans = [
            _stage(datasets[stage], before, datasets[source_of(stage)], workdir, missing=stage in missing)
            for stage in stages
        ]
        generation: list[GenerationPlan] = []
        untimed: list[str] = []
        if sample and missing:
            scoring, write = _timed(missing, datasets, workdir, options, sample)
            generation = generations(missing, datasets, workdir, options)
            found = {id(stage) for stages, _, _ in models_of(datasets) for stage in stages}
            untimed = [datasets[s].label for s in missing if isinstance(s, Model) and id(s) not in found]
            if generation or untimed:
                write = None  # documents that are not there yet can't be weighed
        cost = _cost(missing, [*scoring, *generation], corpora) if sample else None
        return Plan(plans, scoring, corpora, write, _free(workdir), cost, generation, untimed)


@contextlib.contextmanager
def opened(
    outputs: Mapping[str, Stage], location: str, options: Options, checks: Sequence[Stage] = ()
) -> Iterator[tuple[Directory, Mapping[Stage, Dataset], Mapping[Stage, Dataset]]]:
    """Open the sources of a pipeline, and find the datasets of its stages. Nothing is written in the work directory.

    Yields:
        The work directory, the datasets of sources, and those of all stages, each after its inputs.

    Raises:
        ConfigError, InputError, StorageError: as `plan` does.
    """
    stages = graph([*checks, *outputs.values()])
    workdir = Directory.at(location)
    check_workdir(workdir, stages)
    with tempfile.TemporaryDirectory(prefix="annotate-plan-") as scratch:
        found = _imported(stages, workdir)
        choose_unit_sizes(stages, [*checks, *outputs.values()], workdir, found, keep=False)
        sources = open_all(stages, Directory.at(scratch), outputs.values(), options.limit, found, workdir)
        yield workdir, sources, plan_datasets(stages, workdir, sources, outputs)


def _cost(
    missing: Sequence[Stage], models: Sequence[ScoringTime | GenerationPlan], corpora: Sequence[CorpusPlan]
) -> Cost:
    """About what a run will take."""
    others = 0.0
    if any(stage.made_as not in ("model", "source") for stage in missing):
        others = sum(c.reached * CORE_SECONDS_A_DOCUMENT + c.text_bytes / 1e6 * CORE_SECONDS_A_MB for c in corpora)
    return sum((item.cost for item in models), start=Cost(others / 3600))


def _imported(stages: Sequence[Stage], workdir: Directory) -> dict[Stage, Any]:
    """What imports have left in the work directory. The plan lists the units of sources in a temporary folder."""
    return {stage: stage.imported(workdir.child(stage.dataset)) for stage in stages if isinstance(stage, Source)}


def _read(dataset: Dataset) -> CorpusPlan:
    manifest = dataset.manifest
    assert manifest is not None, "a corpus is opened before"
    location = dataset.stage.about()["location"]
    return CorpusPlan(location, manifest.counts["documents"], manifest.rows, manifest.size)


def _stage(
    dataset: Dataset, before: Mapping[str, Latest], documents: Dataset, workdir: Directory, *, missing: bool
) -> StagePlan:
    corpus = documents.manifest
    assert corpus is not None, "a corpus is opened before"
    manifest = dataset.manifest
    last = before.get(dataset.label)
    if dataset is documents and manifest is not None:
        why = _changes(dataset, last) or _corpus_changes(dataset, last, workdir) if last else ""
        return StagePlan(dataset.label, "done", why, manifest.units, manifest.units, manifest.rows)
    if not missing:
        if manifest is None:
            dataset.find()
        manifest = dataset.manifest
        if manifest is None:
            return StagePlan(dataset.label, "done", "not needed: what is made from it is committed", None, 0, None)
        return StagePlan(dataset.label, "done", "", manifest.units, manifest.units, manifest.rows)
    units, done = _units(dataset, corpus)
    rows = _rows(dataset, corpus)
    why = _changes(dataset, last) if last is not None and last.fingerprint != dataset.fingerprint else ""
    if done:
        return StagePlan(dataset.label, "resumable", why or "an earlier run left units", units, done, rows)
    if last is not None and last.fingerprint == dataset.fingerprint:
        return StagePlan(dataset.label, "stale", "committed, but parts of it are gone", units, done, rows)
    return StagePlan(dataset.label, "stale" if last is not None else "new", why, units, done, rows)


def _units(dataset: Dataset, corpus: Manifest) -> tuple[int | None, int]:
    """The number of units of a stage, and how many are committed, as far as it is known."""
    maker = MAKERS[dataset.stage.made_as]
    counted = maker.count(dataset)
    return counted if counted is not None else (maker.ahead(dataset, corpus.units), 0)


def _rows(dataset: Dataset, corpus: Manifest) -> int:
    """Number of rows that a stage reads: of its largest input, or of the corpus."""
    read = [source.manifest.rows for source in dataset.inputs.values() if source.manifest]
    return corpus.rows if isinstance(dataset.stage, EndsDocuments) else max(read, default=corpus.rows)


def _changes(dataset: Dataset, last: Latest) -> str:
    """The difference from the dataset that the last run left, for people."""
    if last.fingerprint == dataset.fingerprint:
        return ""
    if last.recipe != dataset.stage.recipe:
        settings = redacted(dataset.stage.settings())  # as the last run has written its own
        hidden = HIDDEN in str(settings)
        unseen = "what looks like a credential" if hidden else "annotate has another version of this stage"
        return "recipe changed: " + (", ".join(_differences(last.settings, settings)) or unseen)
    changed = [name for name, source in dataset.inputs.items() if last.inputs.get(name) != source.fingerprint]
    return f"input changed: {', '.join(changed)}" if changed else ""


def _corpus_changes(dataset: Dataset, last: Latest, workdir: Directory) -> str:
    """The difference from the corpus that the last run read: its files, or the number of documents reached."""
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
    """Where two JSON values differ, as `path: old -> new`. Modules are known by hashes; only their names are given."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if key == MODULES:
                before, after = old.get(key) or {}, new.get(key) or {}
                changed = (name for name in sorted({*before, *after}) if before.get(name) != after.get(name))
                yield from (f"the module {name} changed" for name in changed)
            else:
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
    missing: Sequence[Stage], datasets: Mapping[Stage, Dataset], workdir: Directory, options: Options, sample: int
) -> tuple[list[ScoringTime], int]:
    """Time the models on a sample of the corpus, and estimate the bytes that will be written."""
    times = []
    results = 0.0
    weighed: dict[Stage, float] = {}  # by corpus
    for stages, corpus, unit in models_of(datasets):
        assert corpus.manifest is not None, "a corpus is opened before"
        samples = [stage.sample(workdir, unit, sample) for stage in stages]
        first = samples[0]
        if first is None:
            continue
        share = corpus.manifest.size / max(first.text_bytes, 1)
        weighed[corpus.stage] = max(weighed.get(corpus.stage, 0.0), first.documents_bytes * share)
        results += share * sum(each.result_bytes for each in samples if each is not None)
        if todo := [stage for stage in stages if stage in missing]:
            tally.said()  # what was said before is not about this model
            prepare, forward, tokens = _seconds(todo, first, options)
            remarks = list(tally.said().values())
            left = share * (1 - share_done(datasets[todo[0]]))
            models = options.workers or options.grow_to or models_at_a_time(todo[0], options)
            label = MAKERS["model"].label([datasets[stage] for stage in todo])
            gpus, seconds = todo[0].gpus if on_gpu(todo[0], options) else 0.0, prepare + forward
            times.append(
                ScoringTime(label, first.items, tokens, seconds, left, models, prepare, gpus, todo[0].threads, remarks)
            )
    return times, int(sum(weighed.values()) + results)


def _seconds(stages: Sequence[Model], sample: Sample, options: Options) -> tuple[float, float, int]:
    """The times of preparing a sample and of one model on it, without that of loading it; and its number of tokens."""
    first = stages[0].sent()  # workers get all that is found only once, so it is no part of their time
    started = time.perf_counter()
    prepared = first.prepare(sample.tables, sample.rows)
    spent = time.perf_counter() - started
    model = stages[0].load(stages, "cuda" if on_gpu(stages[0], options) else "cpu")
    started = time.perf_counter()
    stages[0].forward(lambda: model, prepared, stages, range(len(stages)))
    return spent, time.perf_counter() - started, stages[0].tokens(prepared)


def _free(workdir: Directory) -> int | None:
    if workdir.local is None:
        return None
    place = next((p for p in (workdir.local, *workdir.local.parents) if p.exists()), Path("/"))
    return shutil.disk_usage(place).free
