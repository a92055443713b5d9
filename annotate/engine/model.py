"""Model stages: each unit is prepared, run through an actor that holds a model, and finished.

Stages that share a model run together. Prepared units wait in front of each model, so that it is never idle.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray import exceptions

from annotate.engine.cluster import Resources
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.facts import Sent, Told
from annotate.engine.map import expected, key_of, listed, single
from annotate.engine.running import Running, names_of
from annotate.engine.scheduler import Calls
from annotate.engine.worker import Context, frugal, told
from annotate.graph import Model, Rows
from annotate.graph.tables import Work
from annotate.storage import layout, tally
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, chain, commit, heal, intact, read_part

AHEAD = 3  # prepared units in front of each model

Item = tuple[Work, ...]  # the work of one unit, for each of the stages that run together

# In the driver.


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """One step: three calls for each unit, each of which takes the result of the one before."""
    stages = _stages(datasets)
    aligned = Aligned.of(datasets[0])
    contexts = running.put([running.context(dataset, aligned) for dataset in datasets])
    models = Models(stages, _resources(datasets, running))
    cpus = models.resources.feeder_cpus
    counted = count(datasets[0])
    units, done = counted if counted is not None else (expected(datasets[0]), 0)
    found = [f"{done:,} committed before"] if done else []
    detail = "; ".join([*found, models.describe()])
    running.events.started(label(datasets), units, detail, [dataset.label for dataset in datasets])
    collected = running.collect(datasets, label(datasets))

    def submit(item: Item, claim: float) -> Any:
        del claim
        named = {"stage": label(datasets), "units": names_of(item)}
        prepared = running.task(prepare, cpus, contexts, item, retries=3, **named)
        made = models.submit(item, Sent(**named, step="forward", time=time.time()), prepared)
        return running.task(finish, cpus, contexts, item, prepared, made, retries=3, **named)

    def take(index: int, item: Item, made: list[Unit]) -> None:
        models.returned(item)
        collected.take(index, [[unit] for unit in made])

    workers = models.resources.workers
    try:
        yield Calls(
            items=_items(datasets, aligned),
            submit=submit,
            name=names_of,
            take=take,
            limit=workers * AHEAD,
            # While models load, one unit for each is enough: more tasks would compete with them for the CPUs.
            first=workers,
            lost=models.lost,
        )
    finally:
        models.close()
    collected.commit()


def _items(datasets: Sequence[Dataset], aligned: Aligned) -> Iterator[Item | None]:
    for first in single(datasets[0], aligned):
        if first is None:
            yield None
            continue
        (units,) = first.units
        yield tuple(replace(first, key=key_of(d.stage, aligned, units, first.number)) for d in datasets)


def label(datasets: Sequence[Dataset]) -> str:
    """The label of stages that run together."""
    if len(datasets) == 1:
        return datasets[0].label
    stages = _stages(datasets)
    return stages[0].together(stages)


def claim(datasets: Sequence[Dataset], running: Running) -> float:
    """The CPUs that a task which feeds the models claims. Other tasks may claim no more."""
    return _resources(datasets, running).feeder_cpus


def count(dataset: Dataset) -> tuple[int, int] | None:
    """Number of units, and how many have an entry in a listing. Those may still lack newly kept documents."""
    return listed(dataset, lambda key: layout.numbered(key, 0))


def ahead(dataset: Dataset, units: int) -> int | None:
    """One unit for each unit of the documents."""
    del dataset
    return units


def _resources(datasets: Sequence[Dataset], running: Running) -> Resources:
    return Resources.of_models(_stages(datasets)[0], running.options.workers, running.options.device)


def _stages(datasets: Sequence[Dataset]) -> list[Model]:
    return [dataset.stage for dataset in datasets if isinstance(dataset.stage, Model)]


class Models:
    """The actors that hold the models of stages that run together, one for each worker. A dead one is replaced."""

    def __init__(self, stages: Sequence[Model], resources: Resources) -> None:
        self.resources = resources
        self._arguments = (ray.put(list(stages)), "cuda" if resources.gpu else "cpu")
        self._actor = ray.remote(ModelActor).options(
            num_cpus=resources.model_cpus, num_gpus=1 if resources.gpu else 0, max_restarts=0, max_task_retries=0
        )
        self._actors: list[Any] = []
        self._loads = [0] * resources.workers
        self._sent: dict[str, tuple[int, Any]] = {}  # by item: the position of its actor, and the actor

    def describe(self) -> str:
        """The number of models and their device, for people."""
        n = self.resources.workers
        return f"{n} {'model' if n == 1 else 'models'}, {'GPU' if self.resources.gpu else 'CPU'}"

    def submit(self, item: Item, sent: Sent, prepared: Any) -> Any:
        """Send a prepared unit to the model with the fewest units in front of it."""
        at = min(range(len(self._loads)), key=self._loads.__getitem__)
        while len(self._actors) <= at:
            self._actors.append(self._actor.remote(*self._arguments))
        self._loads[at] += 1
        self._sent[item[0].key] = (at, self._actors[at])
        return self._actors[at].forward.options(name=sent.name).remote(sent, prepared)

    def returned(self, item: Item) -> None:
        """Count one unit less in front of the model that the item was sent to."""
        self._loads[self._sent.pop(item[0].key)[0]] -= 1

    def lost(self, item: Item, error: Exception) -> None:
        """Replace the actor that an item was sent to, if it died and was not replaced yet."""
        at, actor = self._sent.pop(item[0].key)
        self._loads[at] -= 1
        if _died(error) and self._actors[at] is actor:
            ray.kill(actor)
            self._actors[at] = self._actor.remote(*self._arguments)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)


def _died(error: Exception) -> bool:
    """Whether an actor died: the error says so itself, or passes on such an error of a task that was waited for."""
    cause = getattr(error, "cause", None)
    if isinstance(error, exceptions.RayActorError) or isinstance(cause, exceptions.RayActorError):
        return True
    return "ActorDiedError" in str(error) or "ActorUnavailableError" in str(error)


# In a worker.


@dataclass(frozen=True)
class PreparedDocuments:
    """Documents of a unit, prepared for the stages that have no results for them yet; `wanted` has their positions."""

    wanted: tuple[int, ...]
    data: Any


@dataclass(frozen=True)
class Results:
    """The results of a model for each `PreparedDocuments`, one for each stage in `wanted`; and its kind of device."""

    device: str
    results: Sequence[Sequence[Any]]


@frugal
def prepare(contexts: Sequence[Context], works: Sequence[Work]) -> list[PreparedDocuments]:
    """Prepare the documents of a unit that have no results yet; once for stages that lack the same documents."""
    reach("unit: started")
    lacking: dict[bytes, tuple[Rows, list[int]]] = {}
    for i, (context, work) in enumerate(zip(contexts, works, strict=True)):
        wanted = _stage(context).wanted(next(context.tables(work)))
        entries = _entries(context, work)
        rows = wanted[~np.isin(wanted, _covered(context, entries))]
        if len(rows) or not entries:
            lacking.setdefault(rows.tobytes(), (rows, []))[1].append(i)
    tables = next(contexts[0].tables(works[0]))
    return [PreparedDocuments(tuple(i), _stage(contexts[0]).prepare(tables, rows)) for rows, i in lacking.values()]


def _entries(context: Context, work: Work) -> list[Entry]:
    """The entries of a unit whose parts are there."""
    return [entry for entry in chain(context.directory, work.key) if intact(context.directory, entry)]


def _covered(context: Context, entries: Sequence[Entry]) -> Rows:
    """The rows of the documents in these entries."""
    rows = [
        read_part(context.directory, entry.part, schema=context.stage.schema, columns=["row"])["row"].to_numpy()
        for entry in entries
    ]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)


class ModelActor:
    """An actor that holds the model of stages that run together."""

    def __init__(self, stages: Sequence[Model], device: str) -> None:
        self._stages, self._device = list(stages), device
        self._model: Any = None
        for name in {name for stage in stages for name in stage.modules}:
            importlib.import_module(name)

    def __repr__(self) -> str:
        """Its name in Ray's dashboard and logs."""
        return f"model of {self._stages[0].together(self._stages)}"

    def forward(self, sent: Sent, prepared: Told) -> Told:
        """Run the model on what `prepare` told, and load it first if this is the first time."""
        return told(sent, self._forward, prepared)

    @tally.phase("forward")
    def _forward(self, prepared: Sequence[PreparedDocuments]) -> Results:
        used = False

        def model() -> Any:
            nonlocal used
            used = True
            if self._model is None:
                with tally.phase("load"):
                    self._model = self._stages[0].load(self._stages, self._device)
                reach("actor: loaded")
            return self._model

        first = self._stages[0]
        results = [first.forward(model, each.data, self._stages, each.wanted) for each in prepared]
        tally.count("tokens", sum(first.tokens(each.data) for each in prepared))
        reach("actor: scored")
        return Results(first.device_kind(self._model) if used else "", results)


@frugal
def finish(
    contexts: Sequence[Context], works: Sequence[Work], prepared: Sequence[PreparedDocuments], made: Results
) -> list[Unit]:
    """Commit the results of a unit, for each of the stages."""
    for each, results in zip(prepared, made.results, strict=True):
        for i, result in zip(each.wanted, results, strict=True):
            _append(contexts[i], works[i], each.data, result, made.device)
    return [
        Unit(work.shard, work.start, work.stop, work.text_bytes, tuple(_entries(context, work)))
        for context, work in zip(contexts, works, strict=True)
    ]


def _append(context: Context, work: Work, data: Any, result: Any, device: str) -> None:
    """Append an entry with the documents that are in no entry yet.

    If the part of an entry is gone and held the same results, it is put again. If it held others, the entry stays and
    is ignored. Another run may append an entry at the same time: then that entry stays, and the documents that it lacks
    go into the next one.
    """
    stage = _stage(context)
    rows: Rows | None = None
    while True:
        entries = list(chain(context.directory, work.key))
        there = [entry for entry in entries if intact(context.directory, entry)]
        covered = _covered(context, there)
        if rows is not None and there and np.isin(rows, covered).all():
            return
        output = stage.finish(work.shard, data, result, device, covered)
        if rows is None:
            rows = np.unique(output.table["row"].to_numpy())
            if there and not len(rows):
                return
        reach("unit: computed")
        if not heal(context.directory, entries, output, schema=stage.schema):
            commit(context.directory, layout.numbered(work.key, len(entries)), output, schema=stage.schema)


def _stage(context: Context) -> Model:
    assert isinstance(context.stage, Model)
    return context.stage
