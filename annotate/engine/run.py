"""Run a graph of stages on Ray: find what is committed, make what is missing, write the ledger."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ray import cloudpickle

from annotate import amounts
from annotate.engine import head
from annotate.engine.at_work import at_work
from annotate.engine.calls import Calls, Job
from annotate.engine.check_nodes import check_gpus, check_nodes
from annotate.engine.check_workdir import check_place, check_shared, check_workdir
from annotate.engine.cluster import Resources, check_asked, check_cpus, wait_for_cpu
from annotate.engine.datasets import Aligned, Dataset, latest, needed, plan_datasets
from annotate.engine.events import Events, Observer, Silent
from annotate.engine.kernel_kills import KernelKills
from annotate.engine.kinds import MAKERS
from annotate.engine.lease import hold
from annotate.engine.ledger import Ledger, balance, write_ledgers
from annotate.engine.options import Options
from annotate.engine.provenance import Origin, other_pipeline, write_provenance
from annotate.engine.quarantine import Quarantined, write_views
from annotate.engine.recovery import BeginAnew
from annotate.engine.rescore import drop, to_drop
from annotate.engine.result import MadeDataset, Result
from annotate.engine.running import Running, unit_bytes
from annotate.engine.scheduler import Scheduler
from annotate.engine.sharing import shown
from annotate.engine.source import ImportJob, choose_unit_sizes, open_all
from annotate.engine.telemetry import telemetry
from annotate.engine.waits import holders, waited_for
from annotate.errors import StorageError
from annotate.graph import Model, Source, Stage, digest, graph
from annotate.storage import layout, retries
from annotate.storage.faults import reach
from annotate.storage.latest import write_latest
from annotate.storage.manifests import Manifest
from annotate.storage.marker import datasets_in, mark, other_versions
from annotate.storage.store import Directory

DEFAULTS = Options()


@dataclass(frozen=True)
class Made:
    """The datasets of a finished run, as the engine holds them.

    Attributes:
        workdir: the work directory.
        outputs: the stages of the outputs, by name.
        datasets: the datasets of all stages.
        ledgers: by output, for outputs of shards: every input document in one state.
        quarantined: what is in quarantine.
        remarks: the warnings.
    """

    workdir: Directory
    outputs: Mapping[str, Stage]
    datasets: Mapping[Stage, Dataset]
    ledgers: Mapping[str, Ledger]
    quarantined: Quarantined
    remarks: Sequence[str]

    def result(self) -> Result:
        """The result in plain values, without types of the engine."""
        made = {
            stage: _plain(dataset, dataset.manifest) for stage, dataset in self.datasets.items() if dataset.manifest
        }
        return Result(
            workdir=self.workdir.url,
            outputs={name: made[stage] for name, stage in self.outputs.items()},
            datasets={dataset.label: dataset for dataset in made.values()},
            ledgers=self.ledgers,
            quarantined=self.quarantined.reasons,
            remarks=tuple(self.remarks),
        )


def _plain(dataset: Dataset, manifest: Manifest) -> MadeDataset:
    return MadeDataset(
        label=dataset.label,
        described=latest(dataset).described,
        folder=dataset.directory.url,
        fingerprint=dataset.fingerprint,
        rows=manifest.rows,
        units=manifest.units,
        bytes=manifest.size,
        counts=manifest.counts,
    )


def run(
    outputs: Mapping[str, Stage],
    location: str,
    options: Options = DEFAULTS,
    observer: Observer | None = None,
    *,
    checks: Sequence[Stage] = (),
    origin: Origin | None = None,
) -> Made:
    """Make the datasets of `outputs`, which are by name, and of `checks` in the work directory at `location`.

    `origin` is where the pipeline comes from, for the provenance; None for the program that runs.

    Raises:
        ConfigError: Ray does not run, or the graph is wrong.
        InputError: a corpus can't be read.
        StorageError: the work directory can't be used, or holds something damaged.
        WorkError: a unit failed on every attempt.
        BudgetError: the budget is spent.
        HeadLostError: the head of the cluster is lost.
    """
    stages = graph([*checks, *outputs.values()])
    check_cpus(options)
    workdir = Directory.at(location)
    check_place(location)
    with retries.within(retries.START_SECONDS):
        check_workdir(workdir, stages)
        workdir.create()
        check_shared(workdir)
    events = Events(workdir, observer or Silent())
    for module in options.by_value:
        cloudpickle.register_pickle_by_value(sys.modules[module])
    dropped = to_drop(workdir, stages, rescore=options.rescore)
    what = "rescore" if dropped else "run"
    holding = hold(workdir, events.run, share=options.share, what=what, say=events.said)
    telling = telemetry(events, options.new_budget())
    with holding as lease, head.watched(lease.remove), shown(events.run), telling as heard:
        if to_drop(workdir, stages, rescore=options.rescore) != dropped:
            raise StorageError(
                f"another run began to drop scores in {workdir.url}, and did not end",
                hint="Run the same command again: it drops the rest, and scores again.",
            )
        wait_for_cpu(options, functools.partial(events.said, "warning"))
        running = Running(workdir, options, events, lease, heard=heard)
        heard.workers = lambda: running.workers
        events.workers(running.workers)
        return _Run(stages, outputs, checks, running, origin).go(dropped)


@dataclass
class _Run:
    stages: Sequence[Stage]
    outputs: Mapping[str, Stage]
    checks: Sequence[Stage]
    running: Running
    origin: Origin | None = None
    kernel_kills: KernelKills = field(default_factory=KernelKills)

    def go(self, dropped: Mapping[str, str]) -> Made:
        """Remove the scores that `to_drop` named, then make the missing datasets."""
        workdir, events, lease = self.running.workdir, self.running.events, self.running.lease
        models = [stage for stage in self.stages if stage.made_as == "model"]
        if models:  # also where all is scored: an option is not ignored
            check_asked(self.running.options)
        self._check_models(stage for stage in models if stage.dataset in dropped or self._never_made(stage))
        check_nodes(self.stages, workdir)
        self.kernel_kills.start()
        while True:
            try:
                datasets = self._make(dropped)
                break
            except BeginAnew:
                events.said("warning", "the run begins anew: what is committed is found")
                dropped = {}
        for stage in self.outputs.values():
            self._companions(datasets[stage])
        lease.confirm()  # so nothing that this run found or made was removed
        write_latest(workdir, [latest(dataset) for dataset in datasets.values() if dataset.manifest is not None])
        reach("driver: before ledger")
        ledgers = balance(datasets, self.outputs)
        write_ledgers(workdir, ledgers)
        quarantined = write_views(workdir, datasets)
        remarks = [f"{d.label}: {text}" for s, d in datasets.items() if d.manifest for text in s.remarks(d.manifest)]
        remarks += quarantined.remarks
        for text in remarks:
            events.said("warning", text)
        return Made(workdir, self.outputs, datasets, ledgers, quarantined, remarks)

    def _make(self, dropped: Mapping[str, str]) -> dict[Stage, Dataset]:
        """Plan, and make the missing datasets.

        Raises:
            BeginAnew: documents were found that end their worker; the corpus has them noted.
        """
        workdir, events = self.running.workdir, self.running.events
        datasets = self._open()
        wanted = [*self.checks, *self.outputs.values()]
        if dropped:
            self._wait_for_cpu()
            self._drop(dropped, datasets)
        events.planned([(latest(dataset), stage) for stage, dataset in datasets.items()])
        if other := other_pipeline(workdir, self.origin):
            events.said(
                "warning",
                f"the last run in {workdir.url} was of another pipeline file, {other}: from now on status and summary "
                "tell of this one, and `annotate clean` takes what only the other uses for unused",
            )
        write_provenance(workdir, events.run, self.origin, self.running.options, datasets)
        missing = needed(wanted, datasets)
        for stage in self.stages:
            dataset = datasets[stage]
            if stage not in missing and (dataset.manifest is not None or dataset.find()):
                assert dataset.manifest is not None, "it was found"
                self._mark(stage)
                events.finished(dataset.label, stage.described(dataset.manifest))
        if missing:
            self._wait_for_cpu()
        else:
            events.said("info", "nothing to do: all that the pipeline makes is committed")
        if self._check_models(missing):
            self.running.options.new_budget().check_gpus()
            check_gpus()
        self._tell_of_other_versions(missing)
        self._schedule(self._jobs([[datasets[stage] for stage in some] for some in together(missing)]))
        return datasets

    def _wait_for_cpu(self) -> None:
        """Wait for a node: while the corpus was listed, an autoscaler may have taken idle ones away."""
        wait_for_cpu(self.running.options, functools.partial(self.running.events.said, "warning"))

    def _never_made(self, stage: Stage) -> bool:
        """Whether a stage has no dataset at all. Sources are not open yet, so its fingerprint is not known."""
        return next(self.running.workdir.child(stage.dataset).sizes(layout.MANIFESTS), None) is None

    def _check_models(self, stages: Iterable[Stage]) -> bool:
        """Check, before anything runs, that the cluster can hold the models of stages; whether any will be on a GPU.

        Raises:
            ConfigError: there is no GPU although one is asked for, or no node has enough CPUs.
        """
        options = self.running.options
        models = [stage for stage in stages if isinstance(stage, Model)]
        found = [Resources.of_models(stage, options) for stage in models]
        return any(resources.gpu for resources in found)

    def _drop(self, names: Mapping[str, str], datasets: Mapping[Stage, Dataset]) -> None:
        """Drop scores, after checking that the corpus can be read and that the cluster has room for the models."""
        for stage, dataset in datasets.items():
            if stage.dataset in names:
                MAKERS[stage.made_as].claim([dataset], self.running)
        held, size = drop(self.running.workdir, names, self.running.lease.confirm)
        self.running.events.said(
            "info", f"scores dropped: {held} of {len(names)} annotation datasets, {amounts.size(size)}"
        )

    def _open(self) -> dict[Stage, Dataset]:
        """Import files where necessary, and list the units of all sources."""
        imports: dict[Stage, ImportJob] = {}
        for stage in self.stages:
            if isinstance(stage, Source):
                self._mark(stage)
                imports[stage] = ImportJob(stage, self.running)
                self._schedule([imports[stage].job()])
        found = {stage: each.found for stage, each in imports.items()}
        limit, workdir = self.running.options.limit, self.running.workdir
        choose_unit_sizes(self.stages, [*self.checks, *self.outputs.values()], workdir, found, keep=True)
        self.running.unit_bytes = unit_bytes(self.stages)
        sources = open_all(self.stages, workdir, self.outputs.values(), limit, found)
        return plan_datasets(self.stages, workdir, sources, self.outputs)

    def _mark(self, stage: Stage) -> None:
        """Put the marker of a run in the folder of a dataset: no file of a dataset is removed without one."""
        settings = digest(stage.settings())
        mark(self.running.workdir.child(stage.dataset), stage.recipe, version=stage.version, settings=settings)

    def _tell_of_other_versions(self, missing: Sequence[Stage]) -> None:
        """Warn, before anything is scored, if another version of annotate has made the same scores."""
        scored = [stage for stage in missing if stage.rescored]
        markers = list(datasets_in(self.running.workdir).values()) if scored else []
        for stage in scored:
            for other in other_versions(markers, stage.name, stage.version, digest(stage.settings())):
                self.running.events.said(
                    "warning",
                    f"{stage.label}: {other.dataset} has scores of the same settings that another version of annotate "
                    f"made (version {other.version} of the recipe, this one has {stage.version}): they can't be used, "
                    "and all is scored again. To go on with them, stop this run and use that version",
                )

    def _schedule(self, jobs: Sequence[Job]) -> None:
        running = self.running

        def waiting(label: str, names: list[str], missing: list[str]) -> None:
            cluster = "; ".join([running.sharing.describe(), *holders()])
            waits = f"{', '.join(missing)}; {cluster}" if missing else ""
            running.events.in_flight(label, names, waits)
            said = f"{label}: waits for {waits}" if waits else f"{label}: no unit was finished for a while; {cluster}"
            running.events.said("warning", said + (f"; in flight: {', '.join(names)}" if names else ""))

        def check() -> None:
            head.check()
            running.heard.check()

        scheduler = Scheduler(
            share=running.sharing.share,
            stall_seconds=running.options.stall_seconds,
            waiting=waiting,
            said=functools.partial(running.events.said, "warning"),
            heard=running.heard.heard,
            lost=running.heard.tell,
            waits=waited_for,
            check=check,
            confirm=head.confirm,
            starved=running.starved,
            killed=self.kernel_kills.since,
            searching=running.events.searching,
            at_work=at_work,
        )
        running.heard.queue = scheduler.queue
        scheduler.run(jobs)

    def _jobs(self, made: Sequence[Sequence[Dataset]]) -> list[Job]:
        """The jobs, in order: one for stages that are made together."""
        jobs = []
        for number, datasets in enumerate(made):
            maker = MAKERS[datasets[0].stage.made_as]
            claim = maker.claim(datasets, self.running)
            before = made[:number] if claim is not None else ()
            ready = functools.partial(_ready, datasets, [dataset for some in before for dataset in some])
            jobs.append(Job(maker.label(datasets), ready, self._steps(datasets), claim))
        return jobs

    def _steps(self, datasets: Sequence[Dataset]) -> Iterator[Calls]:
        """Make the datasets of one stage, or of stages that are made together."""
        reach("driver: stage started")
        for dataset in datasets:
            self._mark(dataset.stage)
        yield from MAKERS[datasets[0].stage.made_as].steps(datasets, self.running)

    def _companions(self, dataset: Dataset) -> None:
        """Put the files beside the parts of a dataset that are missing or differ."""
        if type(dataset.stage).companions is Stage.companions or dataset.manifest is None:
            return
        whole_inputs = [source for source in dataset.inputs.values() if source.stage.cut == "whole"]
        if lost := [source.label for source in whole_inputs if source.manifest is None]:
            # The inputs are not made again for this: the run that committed the dataset has put the files.
            said = f"{dataset.label}: the files beside its parts were not checked, as {', '.join(lost)} lost parts"
            self.running.events.said("warning", said)
            return
        whole = self.running.context(dataset, Aligned.of(dataset)).shared()
        for path, data in dataset.stage.companions(whole, dataset.manifest).items():
            place = f"{layout.companions(dataset.fingerprint)}/{path}"
            if dataset.directory.size(place) != len(data) or dataset.directory.get(place) != data:
                dataset.directory.put(place, data)


def together(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Group stages with equal `shared` keys, each group at the place of its first stage.

    All stages of a group read the same inputs, so all inputs of a group come before it.
    """
    for stage in stages:
        same = [other for other in stages if stage.shared is not None and other.shared == stage.shared] or [stage]
        if stage is same[0]:
            yield same


def _ready(datasets: Sequence[Dataset], before: Sequence[Dataset]) -> bool:
    """Whether datasets can be begun.

    The inputs that they read whole, or are sized by, must be committed; the other inputs must have begun. If models are
    needed, the reduces and shuffles in `before` must be done, since they may find a mistake in the input.
    """
    for dataset in datasets:
        for name, source in dataset.inputs.items():
            wholly = source.stage.cut == "whole" or name in dataset.stage.sized_by
            if not (source.manifest is not None if wholly else source.begun):
                return False
    return all(dataset.manifest is not None for dataset in before if dataset.stage.made_as in ("reduce", "shuffle"))
