"""Run a graph of stages on Ray: find what is committed, make what is missing, commit manifests and the ledger."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import ray
from ray import cloudpickle

from annotate.corpus.files import is_jsonl
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.engine import worker
from annotate.engine.cluster import Calls, Resources
from annotate.engine.datasets import (
    Aligned,
    Dataset,
    columns_read,
    count_units,
    latest,
    limited,
    needed,
    open_attributes,
    open_corpus,
    plan_datasets,
    read_together,
    works,
)
from annotate.engine.events import Events, Observer, Silent
from annotate.engine.imports import import_lines
from annotate.engine.lease import Lease, hold
from annotate.engine.ledger import Ledger, balance, write_ledgers
from annotate.engine.place import check_place
from annotate.engine.quarantine import write_views
from annotate.engine.rescore import drop, to_drop
from annotate.engine.scoring import Models, group_label, together
from annotate.engine.worker import Context
from annotate.errors import ConfigError, StorageError
from annotate.graph import RANGE_UNITS, Map, Reduce, Regroup, Shuffle, Stage, Work, digest, graph
from annotate.stages.attributes import AttributeFiles
from annotate.stages.corpus import Corpus
from annotate.stages.score import Score
from annotate.storage import layout
from annotate.storage.faults import reach
from annotate.storage.latest import write_latest
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.marker import mark, other_versions
from annotate.storage.store import Directory

T = TypeVar("T")

PIECES = 64  # units in one piece of a wide stage, and pieces in one merge
TASK_UNITS = 32  # small units that one task does in turn
SEND_UNITS = 4  # what one task of an exchange sends, as a multiple of the work unit
MOST_PARTS = 16  # parts that one task makes of what was sent to them
ROW_BYTES = 32  # of a row in memory, at least; on disk rows of sorted numbers take a fraction of it
AHEAD = 3  # prepared units in front of each model


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run goes: nothing here changes a byte of its output, but for `limit`, which cuts the corpus.

    Attributes:
        workers: tasks or models at a time; None for as many as the cluster has.
        device: where models run: "cpu", "cuda", or "auto" for GPUs where the cluster has them.
        limit: documents to reach; None for all.
        share: run although another run holds the work directory.
        rescore: drop what the pipeline's scoring stages have committed, and score again from nothing.
        stall_seconds: give up when nothing is done for so long.
        by_value: modules whose functions and classes travel to the workers with the pipeline (the pipeline file).
    """

    workers: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    limit: int | None = None
    share: bool = False
    rescore: bool = False
    stall_seconds: float = 3600.0
    by_value: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f'device must be "auto", "cpu" or "cuda", got {self.device!r}')
        for name in ("workers", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


DEFAULTS = Options()


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes:
        workdir: where.
        outputs: the stages that were asked for, by name.
        datasets: of all stages.
        ledgers: by output, for those that are shards: every input document in one state.
        quarantined: rows by reason.
        remarks: what was said loudly.
    """

    workdir: Directory
    outputs: Mapping[str, Stage]
    datasets: Mapping[Stage, Dataset]
    ledgers: Mapping[str, Ledger]
    quarantined: Mapping[str, int]
    remarks: Sequence[str]

    @property
    def ledger(self) -> Ledger | None:
        """The ledger of the only output that is shards; None where there is none.

        Raises:
            ConfigError: there are several.
        """
        if len(self.ledgers) > 1:
            raise ConfigError(f"there are ledgers of several outputs: {', '.join(self.ledgers)}", hint="See `ledgers`.")
        return next(iter(self.ledgers.values()), None)


def run(
    outputs: Mapping[str, Stage],
    location: str,
    options: Options = DEFAULTS,
    observer: Observer | None = None,
    *,
    checks: Sequence[Stage] = (),
) -> Result:
    """Make the datasets of `outputs`, by name, in the work directory at `location`; `checks` are run too.

    Raises:
        ConfigError: Ray does not run, or the graph is wrong.
        InputError: a corpus can't be read.
        StorageError: the work directory can't be used, or holds something damaged.
        WorkError: a unit failed on every attempt.
    """
    stages = graph([*checks, *outputs.values()])
    Resources.found(options.workers)
    workdir = Directory.at(location)
    check_place(workdir, stages)
    workdir.create()
    events = Events(workdir, observer or Silent())
    for module in options.by_value:
        cloudpickle.register_pickle_by_value(sys.modules[module])
    dropped = to_drop(workdir, stages, rescore=options.rescore)
    what = "rescore" if dropped else "run"
    with hold(workdir, events.run, share=options.share, what=what, say=events.said) as lease:
        try:
            if to_drop(workdir, stages, rescore=options.rescore) != dropped:
                raise StorageError(
                    f"another run began to drop scores in {workdir.url}, and did not end",
                    hint="Run the same command again: it goes on with that.",
                )
            return _Run(stages, outputs, checks, workdir, options, events, lease).go(dropped)
        finally:
            events.flush()


@dataclass
class _Run:
    stages: Sequence[Stage]
    outputs: Mapping[str, Stage]
    checks: Sequence[Stage]
    workdir: Directory
    options: Options
    events: Events
    lease: Lease

    def go(self, dropped: Mapping[str, str]) -> Result:
        """Make what is missing, after dropping the scores that `to_drop` named."""
        datasets = self._open()
        if dropped:
            self._drop(dropped)
        self.events.planned(latest(dataset) for dataset in datasets.values())
        missing = needed([*self.checks, *self.outputs.values()], datasets)
        for stage in self.stages:
            dataset = datasets[stage]
            if stage not in missing and (dataset.manifest is not None or dataset.find()):
                self._mark(stage)
                self.events.finished(dataset.label, _described(dataset))
        self._told_of_other_versions(missing)
        for stages in together(missing):
            self._stage([datasets[stage] for stage in stages])
        for stage in self.outputs.values():
            self._companions(datasets[stage])
        self.lease.confirm()  # nothing that this run found or made was removed
        self._latest(datasets)
        reach("driver: before ledger")
        ledgers = balance(datasets, self.outputs)
        write_ledgers(self.workdir, ledgers)
        quarantined = write_views(self.workdir, datasets)
        remarks = [*self._remarks(datasets), *quarantined.remarks]
        for text in remarks:
            self.events.said("warning", text)
        return Result(self.workdir, self.outputs, datasets, ledgers, quarantined.reasons, remarks)

    def _drop(self, names: Mapping[str, str]) -> None:
        """Drop scores, once it is sure that the corpus can be read and that the cluster has room for the models."""
        for stage in self.stages:
            if isinstance(stage, Score):
                Resources.of_models(stage, self.options.workers, self.options.device)
        held, size = drop(self.workdir, names, self.lease.confirm)
        self.events.said("info", f"scores dropped: {held} of {len(names)} annotation datasets, {size:,} bytes")

    def _remarks(self, datasets: Mapping[Stage, Dataset]) -> list[str]:
        """What should be said loudly of this run."""
        remarks = [f"{d.label}: {text}" for s, d in datasets.items() if d.manifest for text in s.remarks(d.manifest)]
        for stage, dataset in datasets.items():
            if not isinstance(stage, Corpus) or dataset.manifest is None:
                continue
            documents = dataset.manifest.counts["documents"]
            if left := documents - dataset.manifest.rows:
                remarks.append(
                    f"--limit left {left:,} of {documents:,} documents of {stage.path}: verdicts, calibration and "
                    "thresholds are of the others"
                )
        return remarks

    def _open(self) -> dict[Stage, Dataset]:
        corpora: dict[Stage, Dataset] = {}
        cut = limited(self.outputs.values())
        for stage in self.stages:
            if isinstance(stage, Corpus | AttributeFiles):
                self._mark(stage)
            if isinstance(stage, Corpus):
                files, unreadable = self._imported(stage)
                corpora[stage] = open_corpus(
                    stage,
                    self.workdir,
                    files,
                    self.options.limit if stage in cut else None,
                    unreadable,
                    columns_read(self.stages, stage),
                )
            elif isinstance(stage, AttributeFiles):
                corpora[stage] = open_attributes(stage, self.workdir, corpora[stage.corpus])
        return plan_datasets(self.stages, self.workdir, corpora, self.outputs)

    def _mark(self, stage: Stage) -> None:
        """Mark the folder of a stage's dataset as ours: what has no marker is never removed."""
        settings = digest(stage.settings())
        mark(self.workdir.child(stage.dataset), stage.recipe, version=stage.version, settings=settings)

    def _told_of_other_versions(self, missing: Sequence[Stage]) -> None:
        """Say it before anything is scored where another version of annotate has scored the same."""
        for stage in missing:
            if not isinstance(stage, Score):
                continue
            for other in other_versions(self.workdir, stage.name, stage.version, digest(stage.settings())):
                self.events.said(
                    "warning",
                    f"{stage.label}: {other.dataset} has scores of the same settings that another version of annotate "
                    f"made (version {other.version} of the recipe, this one has {stage.version}): they can't be used, "
                    "and all is scored again. To go on with them, stop this run and use that version",
                )

    def _imported(self, corpus: Corpus) -> tuple[list[SourceFile], dict[str, UnreadableFile]]:
        """The Parquet files of a corpus; JSON lines are imported first."""
        files = corpus.files()
        if not is_jsonl(files[0].shard):
            return files, {}
        return import_lines(
            corpus, self.workdir, files, self.events, lambda *arguments: self._calls(*arguments, per_worker=2)
        )

    def _stage(self, datasets: Sequence[Dataset]) -> None:
        """Make the datasets of one stage, or of scoring stages that share a backbone."""
        reach("driver: stage started")
        stage = datasets[0].stage
        for dataset in datasets:
            self._mark(dataset.stage)
        if isinstance(stage, Score):
            self._score(datasets)
        elif isinstance(stage, Map):
            self._units(datasets[0], list_units=works)
        elif isinstance(stage, Regroup) and stage.shuffled:
            self._shuffle(datasets[0], stage)
        elif isinstance(stage, Regroup):
            self._units(datasets[0], list_units=_regrouped)
        elif isinstance(stage, Reduce):
            self._wide(datasets[0], stage)
        elif isinstance(stage, Shuffle):
            self._exchange(datasets[0], stage)
        else:
            raise ConfigError(f"{stage.name} is no kind of stage that the engine knows: {type(stage).__mro__[1]}")

    def _units(self, dataset: Dataset, list_units: Callable[[Dataset, Aligned], Iterator[Work]]) -> None:
        """Run a narrow or regroup stage: what is committed is found, the rest goes to tasks in order."""
        stage, aligned = dataset.stage, Aligned.of(dataset)
        context = Context(stage, self.workdir, aligned.whole)
        reference = ray.put(context)
        task = ray.remote(worker.run_units).options(num_cpus=1, max_retries=0)
        self._started(dataset)
        batches = _batches(list_units(dataset, aligned), _task_bytes(self.stages))
        calls = self._calls(dataset.label, lambda works: task.remote(reference, works), _names, per_worker=2)
        self._collect([dataset], ((i, works, [units]) for i, works, units in calls.results(batches)))

    def _started(self, dataset: Dataset, label: str = "", detail: str = "") -> None:
        """Tell that a stage starts, and of units that an earlier run has left: they come back between the others."""
        units, done = (0, 0) if isinstance(dataset.stage, Regroup) else count_units(dataset)
        found = [f"{done:,} committed before"] if done else []
        self.events.started(label or dataset.label, units, "; ".join([*found, *([detail] if detail else [])]))

    def _wide(self, dataset: Dataset, stage: Reduce) -> None:
        """Run a wide stage: pieces of groups of units, merged until few are left, then finished."""
        aligned = Aligned.of(dataset)
        context = Context(stage, self.workdir, aligned.whole)
        reference = ray.put(context)
        self.events.started(dataset.label, 1)
        pieces: list[Unit] = []
        whole: Work | None = None
        if stage.piece_schema is None:
            units = tuple(aligned.units())
            whole = Work(aligned.key(stage, units), "", 0, 0, 0, units)
        else:
            pieces = self._pieces(dataset.label, stage, aligned, reference)
        key = digest(
            [stage.recipe, "finish", whole.key if whole else [p.identity for p in pieces], aligned.key(stage, [])]
        )
        task = ray.remote(worker.finish_wide).options(num_cpus=1, max_retries=0)
        calls = self._calls(dataset.label, lambda key: task.remote(reference, key, pieces, whole), str, per_worker=1)
        results = ((i, [None], [[unit]]) for i, _, unit in calls.results(iter([key[:24]])))
        self._collect([dataset], results)

    def _pieces(self, label: str, stage: Reduce, aligned: Aligned, reference: Any) -> list[Unit]:
        schema = stage.piece_schema
        piece = ray.remote(worker.run_pieces).options(num_cpus=1, max_retries=0)
        merge = ray.remote(worker.merge_pieces).options(num_cpus=1, max_retries=0)
        groups = (
            Work(aligned.key(stage, units, "piece"), units[0][next(iter(units[0]))].shard, 0, 0, 0, tuple(units))
            for units in _chunks(aligned.units(), PIECES)
        )
        calls = self._calls(label, lambda work: piece.remote(reference, work, schema), _name, per_worker=2)
        pieces = [unit for _, _, unit in sorted(calls.results(groups), key=lambda result: result[0])]
        while len(pieces) > PIECES:
            keyed = (
                (digest([stage.recipe, "merge", [unit.identity for unit in units]])[:24], units)
                for units in _chunks(iter(pieces), PIECES)
            )
            merges = self._calls(
                label,
                lambda item: merge.remote(reference, *item, schema),
                lambda item: str(item[0]),
                per_worker=2,
            )
            pieces = [unit for _, _, unit in sorted(merges.results(keyed), key=lambda result: result[0])]
        return pieces

    def _exchange(self, dataset: Dataset, stage: Shuffle) -> None:
        """Run an exchange: rows are sent in slices, partitions receive them; in rounds, until one changes nothing."""
        context = ray.put(Context(stage, self.workdir, {}))
        ranged = [dataset.inputs[names[0]].manifest for names in stage.beside]
        units, rows = (sum(getattr(m, name) for m in ranged if m is not None) for name in ("units", "rows"))
        partitions = stage.partitions(-(-units // RANGE_UNITS), rows)
        self.events.started(dataset.label, 0 if stage.rounds else partitions)
        received: list[Unit] = []
        for number in itertools.count():
            name = f"round {number}" if stage.rounds else ""
            sources = [dataset.inputs[source] for source in stage.sources]
            first = ((source.stage, unit) for source in sources for unit in source.units())
            sending = first if number == 0 else ((stage, unit) for unit in received)
            results = self._receive(
                dataset, stage, self._send(dataset, sending, context, partitions, name), context, name
            )
            if not stage.rounds:
                self._collect([dataset], results)
                return
            received = [units[0][0] for _, _, units in sorted(results, key=lambda result: result[0])]
            if not sum(entry.counts["changed"] for unit in received for entry in unit.entries):
                self._collect([dataset], ((i, [None], [[unit]]) for i, unit in enumerate(received)))
                return

    def _send(
        self, dataset: Dataset, units: Iterator[tuple[Stage, Unit]], context: Any, partitions: int, name: str
    ) -> tuple[int, list[Unit]]:
        """Send the rows of units of some stages, a piece for each few; partitions, and the pieces in order."""
        task = ray.remote(worker.send).options(num_cpus=1, max_retries=0)
        limit = SEND_UNITS * _task_bytes(self.stages)

        def works() -> Iterator[tuple[Work, list[Stage]]]:
            number = 0
            for chunk in _parcels(units, limit, lambda sent: _sent_bytes(sent[1])):
                sent = [[stage.name, unit.identity] for stage, unit in chunk]
                key = digest([dataset.stage.recipe, "send", name, partitions, number, sent])[:24]
                read = tuple({stage.name: unit} for stage, unit in chunk)
                yield Work(key, "", number, number + len(chunk), 0, read, number), [stage for stage, _ in chunk]
                number += len(chunk)

        calls = self._calls(
            dataset.label,
            lambda item: task.remote(context, *item, partitions),
            lambda item: f"what units {item[0].start} to {item[0].stop - 1} send",
            per_worker=2,
        )
        return partitions, [unit for _, _, unit in sorted(calls.results(works()), key=lambda result: result[0])]

    def _receive(
        self, dataset: Dataset, stage: Shuffle, sent: tuple[int, list[Unit]], context: Any, name: str
    ) -> Iterator[tuple[int, Sequence[Any], list[list[Unit]]]]:
        """Make the unit of each partition."""
        task = ray.remote(worker.receive).options(num_cpus=1, max_retries=0)
        partitions, pieces = sent
        reference, identity = ray.put(pieces), digest([unit.identity for unit in pieces])
        beside = [Aligned({name: dataset.inputs[name] for name in names}, {}, {}) for names in stage.beside]
        own = dataset.inputs[stage.beside[0][0]].manifest
        assert own is not None, "inputs are made before"
        ranges = _chunks((units for aligned in beside for units in aligned.units()), RANGE_UNITS)

        def works() -> Iterator[Work]:
            for partition in range(partitions):
                read = next(ranges) if stage.ranged else []
                with_it = [[unit.identity for unit in units.values()] for units in read]
                key = digest([stage.recipe, "receive", name, partition, identity, with_it, own.units, own.rows])[:24]
                yield Work(key, "", partition, partition + 1, 0, tuple(read), partition * RANGE_UNITS)

        calls = self._calls(
            dataset.label,
            lambda work: task.remote(context, work, reference, own.units, own.rows),
            lambda work: f"partition {work.start}",
            per_worker=2,
        )
        return ((i, [work], [[unit]]) for i, work, unit in calls.results(works()))

    def _shuffle(self, dataset: Dataset, stage: Regroup) -> None:
        """Run a regroup stage whose parts are made from rows that units of its inputs send to them."""
        aligned = Aligned.of(dataset)
        context = Context(stage, self.workdir, aligned.whole)
        whole = context.shared()
        groups = stage.partitions(whole, _manifests(dataset))
        partitions = sum(groups)
        limit = SEND_UNITS * _task_bytes(self.stages)
        reference = ray.put(context)
        units = next(source.manifest.units for source in aligned.by_unit.values() if source.manifest is not None)
        self.events.started(dataset.label, units + partitions)
        send, make = (ray.remote(f).options(num_cpus=1, max_retries=0) for f in (worker.send_rows, worker.make_parts))
        parcels = _parcels(aligned.units(), limit, stage.held)
        works = (
            Work(aligned.key(stage, units, f"send to {groups}"), _text_unit(units[0]).shard, 0, 0, 0, tuple(units))
            for units in parcels
        )
        calls = self._calls(
            dataset.label,
            lambda work: send.remote(reference, work, groups, limit + limit // 2),
            lambda work: f"what {work.shard} sends",
            per_worker=2,
        )
        pieces: dict[int, Unit] = {}
        for i, work, unit in calls.results(works):
            pieces[i] = unit
            self.events.advanced(dataset.label, len(work.units), 0)
        sent = ray.put([pieces[i] for i in sorted(pieces)])
        calls = self._calls(
            dataset.label,
            lambda some: make.remote(reference, some, partitions, sent),
            lambda some: f"parts from {some.start} on, of {partitions}",
            per_worker=2,
        )
        # Few for each task where there are few, so that all workers have some.
        together = max(1, min(MOST_PARTS, partitions // (4 * Resources.found(self.options.workers).workers)))
        ranges = (range(n, min(n + together, partitions)) for n in range(0, partitions, together))
        self._collect([dataset], ((i, [some], [made]) for i, some, made in calls.results(ranges)))

    def _score(self, datasets: Sequence[Dataset]) -> None:
        """Run scoring stages that share a backbone: prepare, forward and finish of each unit, with units in front."""
        stages = [dataset.stage for dataset in datasets if isinstance(dataset.stage, Score)]
        label = group_label(datasets)
        aligned = [Aligned.of(dataset) for dataset in datasets]
        contexts = ray.put([Context(stage, self.workdir, a.whole) for stage, a in zip(stages, aligned, strict=True)])
        models = Models(stages, Resources.of_models(stages[0], self.options.workers, self.options.device))
        claim = models.resources.feeder_cpus
        prepare = ray.remote(worker.prepare_unit).options(num_cpus=claim, max_retries=3)
        finish = ray.remote(worker.finish_unit).options(num_cpus=claim, max_retries=3)
        self._started(datasets[0], label, models.describe())

        def submit(item: tuple[Work, ...]) -> ray.ObjectRef:
            batches = prepare.remote(contexts, item)
            scored = models.submit(item, batches)
            return finish.remote(contexts, item, batches, scored)

        items = zip(*(works(d, a) for d, a in zip(datasets, aligned, strict=True)), strict=True)
        calls = self._calls(label, submit, _names, per_worker=AHEAD, workers=models.resources.workers, lost=models.lost)
        # While models are loaded, a unit for each will do: what prepares more would compete with them for the CPUs.
        calls.first = models.resources.workers
        results = (
            (i, [item[0]], [[unit] for unit in units]) for i, item, units in models.returned(calls.results(items))
        )
        try:
            self._collect(datasets, results, label)
        finally:
            models.close()

    def _calls(
        self,
        label: str,
        submit: Callable[[Any], ray.ObjectRef],
        name: Callable[[Any], str],
        *,
        per_worker: int,
        workers: int | None = None,
        lost: Callable[[Any, Exception], None] = lambda item, error: None,
    ) -> Calls[Any]:
        used = workers or Resources.found(self.options.workers).workers

        def waiting(names: list[str]) -> None:
            self.events.in_flight(label, names)
            self.events.said("warning", f"{label}: no unit was finished for a while; in flight: {', '.join(names)}")

        limit = used * per_worker if self.options.workers is None or workers else used
        return Calls(label, submit, name, limit, self.options.stall_seconds, lost, waiting)

    def _collect(
        self,
        datasets: Sequence[Dataset],
        results: Iterable[tuple[int, Sequence[Any], list[list[Unit]]]],
        label: str = "",
    ) -> None:
        """Write manifests from results as they come, putting units back in order, and commit the datasets.

        Each result has the units of an item, a list for each dataset.
        """
        label = label or datasets[0].label
        writers = [dataset.writer() for dataset in datasets]
        early: dict[int, list[list[Unit]]] = {}
        following = 0
        for index, _, units in results:
            reach("driver: receipt taken")
            self.lease.check()
            early[index] = units
            self.events.advanced(label, len(units[0]), sum(e.part.rows for u in units[0] for e in u.entries))
            while following in early:
                for writer, made in zip(writers, early.pop(following), strict=True):
                    for unit in made:
                        writer.add(unit)
                following += 1
        for dataset, writer in zip(datasets, writers, strict=True):
            dataset.commit(writer)
        self.events.finished(label)

    def _companions(self, dataset: Dataset) -> None:
        """Put what lies beside the parts of a dataset, where it is missing or differs."""
        if type(dataset.stage).companions is Stage.companions or dataset.manifest is None:
            return
        whole = Context(dataset.stage, self.workdir, Aligned.of(dataset).whole).shared()
        for path, data in dataset.stage.companions(whole, dataset.manifest).items():
            place = f"{layout.companions(dataset.fingerprint)}/{path}"
            if dataset.directory.size(place) != len(data) or dataset.directory.get(place) != data:
                dataset.directory.put(place, data)

    def _latest(self, datasets: Mapping[Stage, Dataset]) -> None:
        """Point at the datasets of this run."""
        write_latest(self.workdir, [latest(dataset) for dataset in datasets.values() if dataset.manifest is not None])


def _described(dataset: Dataset) -> str:
    """What there is of a dataset that need not be made."""
    manifest = dataset.manifest
    assert manifest is not None, "it was found"
    if isinstance(dataset.stage, Corpus):
        documents = manifest.counts["documents"]
        units = "1 unit" if manifest.units == 1 else f"{manifest.units:,} units"
        return f"{documents:,} documents, {manifest.size / 1e6:,.1f} MB of text, {units}"
    return f"found committed, {manifest.rows:,} row{'' if manifest.rows == 1 else 's'}"


def _regrouped(dataset: Dataset, aligned: Aligned) -> Iterator[Work]:
    stage = dataset.stage
    assert isinstance(stage, Regroup)
    for units in stage.plan(aligned.units(), _manifests(dataset)):
        size = sum(_text_unit(item).text_bytes for item in units)
        yield Work(aligned.key(stage, units), "", 0, 0, size, tuple(units))


def _batches(items: Iterator[Work], task_bytes: int) -> Iterator[list[Work]]:
    """Put small units into one task, and all units that are cut from one row group."""
    batch: list[Work] = []
    size = 0
    for work in items:
        together = read_together(work)
        same = bool(batch) and together is not None and together == read_together(batch[-1])
        full = size + work.text_bytes > task_bytes or len(batch) >= TASK_UNITS
        if batch and not same and (full or together is not None or read_together(batch[-1]) is not None):
            yield batch
            batch, size = [], 0
        batch.append(work)
        size += work.text_bytes
    if batch:
        yield batch


def _parcels(items: Iterator[T], limit: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Put what is sent into parcels: of a range of units at most, and of what takes about `limit` bytes at most."""
    parcel: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if parcel and (len(parcel) == RANGE_UNITS or total + own > limit):
            yield parcel
            parcel, total = [], 0
        parcel.append(item)
        total += own
    if parcel:
        yield parcel


def _sent_bytes(unit: Unit) -> int:
    """Bytes that the rows of a unit take in memory, about."""
    return sum(max(entry.part.bytes, entry.part.rows * ROW_BYTES) for entry in unit.entries)


def _text_unit(units: Mapping[str, Unit]) -> Unit:
    return next(iter(units.values()))


def _manifests(dataset: Dataset) -> dict[str, Manifest]:
    """Those of a dataset's inputs."""
    return {name: source.manifest for name, source in dataset.inputs.items() if source.manifest is not None}


def _task_bytes(stages: Sequence[Stage]) -> int:
    return max((stage.unit_bytes for stage in stages if isinstance(stage, Corpus)), default=8 << 20)


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _name(work: Work) -> str:
    return f"{work.shard}[{work.start}:{work.stop}]" if work.shard else work.key


def _names(works: Sequence[Work]) -> str:
    return _name(works[0]) + (
        f" and {len(works) - 1} more" if len(works) > 1 and works[1].shard != works[0].shard else ""
    )
