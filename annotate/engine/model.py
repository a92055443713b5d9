"""Model stages: each unit is prepared, run through an actor that holds a model, and finished.

Stages that share a model run together. Prepared units wait in front of each model: as many as keep
it busy, see `feeding`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import ray

from annotate.engine.attempts import tried
from annotate.engine.calls import Calls, Narrowing
from annotate.engine.cluster import Resources
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.documents import by_documents
from annotate.engine.facts import Sent, in_turn
from annotate.engine.losses import NOT_RUN
from annotate.engine.map import TASK_UNITS, expected, key_of, listed, single
from annotate.engine.model_actor import ModelActor, PreparedDocuments, Results
from annotate.engine.pool import Pool
from annotate.engine.quarantine import tell_not_run
from annotate.engine.reading import Searched
from annotate.engine.running import Running, name_of, names_of
from annotate.engine.sharing import GPUS, shown
from annotate.engine.worker import Context, frugal
from annotate.graph import Model, Rows
from annotate.graph.tables import Work
from annotate.storage import layout
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, chain, create_entry, heal, intact, put_output, read_part

# In the driver.


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """One step: three calls for some units, each of which takes the result of the one before."""
    aligned = Aligned.of(datasets[0])
    contexts = running.put([_sent(running.context(dataset, aligned)) for dataset in datasets])
    counted = count(datasets[0])
    units, done = counted if counted is not None else (expected(datasets[0]), 0)
    models = _pool(datasets, running, units)  # those that are committed may lack newly kept documents
    found = [f"{done:,} committed before"] if done else []
    detail = "; ".join([*found, models.describe()])
    running.events.started(label(datasets), units, detail, [dataset.label for dataset in datasets])
    collected = running.collect(datasets, label(datasets))
    calls = _Sending(label(datasets), running, contexts, models)
    step = Searched(
        label=label(datasets),
        dataset=datasets[0],
        running=running,
        context=contexts,
        name=_name,
        works=lambda item: item.works[:1],
    )

    def take(index: int, item: Item, made: Sequence[Unit]) -> None:
        collected.take(index, [[unit] for unit in made])
        if item.left_out:
            tell_not_run(label(datasets), datasets, made, running.events)

    gpus = shown(running.events.run, GPUS) if models.resources.gpu else contextlib.nullcontext()
    with gpus, contextlib.closing(models):
        yield Calls(
            items=_items(datasets, aligned),
            submit=calls.submit,
            name=_name,
            take=take,
            together=TASK_UNITS,
            room=models.room,
            idle=models.idle,
            waiting=models.waiting,
            held=models.held,
            coming=models.coming,
            returned=models.returned,
            lost=models.lost,
            twice=all(isinstance(dataset.stage, Model) and dataset.stage.repeatable for dataset in datasets),
            narrowing=Narrowing(
                count=calls.count,
                attempt=calls.attempt,
                without=lambda item, left_out: replace(
                    item, left_out={at: NOT_RUN[kind] for at, kind in left_out.items()}
                ),
                instead=by_documents(step, try_preparing),
            ),
        )
    collected.commit()


@dataclass(frozen=True)
class Item:
    """The work of one unit, for each of the stages that run together.

    `left_out` has the inputs of the model that are not run, by number, since they end the worker that runs them; and
    the reason for each.
    """

    works: tuple[Work, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)


def _name(item: Item) -> str:
    return name_of(item.works[0])


@dataclass(frozen=True)
class _Sending:
    """Sends the calls that prepare units, run the model on them, and finish them."""

    label: str
    running: Running
    contexts: Any
    models: Pool

    def submit(self, items: Sequence[Item], cpus: float) -> Any:
        """Make units."""
        del cpus
        prepared = self._task(prepare, items, items, retries=3)

        def made(actor: Any) -> Any:
            sent = self._sent(items)
            results = actor.forward.options(name=sent.name).remote(sent, prepared)
            return self._task(finish, items, items, prepared, results, retries=3)

        return self.models.send(made, sum(item.works[0].text_bytes for item in items))

    def count(self, item: Item, cpus: float) -> Any:
        """Count the inputs of the model in a unit."""
        del cpus
        return self._task(count_inputs, [item], item)

    def attempt(self, item: Item, part: range, left_out: Sequence[int], cpus: float) -> Any:
        """Run the model on some inputs of a unit, and commit nothing."""
        del cpus
        prepared = self._task(prepare_part, [item], item, part, tuple(left_out), retries=3)
        sent = self._sent([item])
        run = lambda actor: actor.attempt.options(name=sent.name).remote(sent, prepared)  # noqa: E731
        return self.models.send(run, item.works[0].text_bytes)

    def _task(self, function: Callable[..., Any], items: Sequence[Item], *arguments: Any, retries: int = 0) -> Any:
        cpus, sent = self.models.resources.feeder_cpus, self._sent(items)
        named = {"stage": sent.stage, "units": sent.units}
        return self.running.task(function, cpus, self.contexts, *arguments, retries=retries, **named)

    def _sent(self, items: Sequence[Item]) -> Sent:
        return Sent(self.label, "forward", names_of([item.works[0] for item in items]), time.time())


def _items(datasets: Sequence[Dataset], aligned: Aligned) -> Iterator[Item | None]:
    for first in single(datasets[0], aligned):
        if first is None:
            yield None
            continue
        (units,) = first.units
        yield Item(tuple(replace(first, key=key_of(d.stage, aligned, units, first.number)) for d in datasets))


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


def _pool(datasets: Sequence[Dataset], running: Running, wanted: int) -> Pool:
    """The models of stages that run together: as many as the cluster has room for, or as were asked for."""
    shared = ray.put(_stages(datasets))

    def make(resources: Resources) -> Any:
        claims = {"num_cpus": resources.model_cpus, "num_gpus": resources.gpus}
        actor = ray.remote(ModelActor).options(**claims, max_restarts=0, max_task_retries=0)
        return actor.remote(shared, "cuda" if resources.gpu else "cpu")

    said = functools.partial(running.events.said, "warning")
    return Pool(label(datasets), make, lambda: _resources(datasets, running), wanted, said)


def _resources(datasets: Sequence[Dataset], running: Running) -> Resources:
    runs = max(1, len(running.sharing.runs()))
    on_gpus = {*running.sharing.on_gpus(), running.events.run}
    return Resources.of_models(_stages(datasets)[0], running.options, runs, len(on_gpus))


def _sent(context: Context) -> Context:
    return replace(context, stage=_stage(context).sent())


def _stages(datasets: Sequence[Dataset]) -> list[Model]:
    return [dataset.stage for dataset in datasets if isinstance(dataset.stage, Model)]


# In a worker.


def prepare(contexts: Sequence[Context], items: Sequence[Item]) -> list[list[PreparedDocuments]]:
    """Prepare the documents of units that have no results yet."""
    return [_prepare(contexts, item.works, item.left_out) for item in in_turn(items)]


def prepare_part(
    contexts: Sequence[Context], item: Item, part: range, left_out: Sequence[int]
) -> list[list[PreparedDocuments]]:
    """Prepare some inputs of a unit, to try whether they end the worker that runs them."""
    return [_prepare(contexts, item.works, dict.fromkeys(left_out, ""), part)]


def try_preparing(contexts: Sequence[Context], works: Sequence[Work]) -> None:
    """Try whether preparing documents ends this process."""
    tried(contexts[0], works, _try)


def _try(context: Context, work: Work) -> None:
    stage = _stage(context)
    for tables in context.tables(work):
        stage.items(stage.prepare(tables, stage.wanted(tables)))


def count_inputs(contexts: Sequence[Context], item: Item) -> int:
    """The number of inputs in a unit that can be left out."""
    prepared = _prepare(contexts, item.works, {})
    return sum(_stage(contexts[0]).items(each.data) for each in prepared)


@frugal
def _prepare(
    contexts: Sequence[Context], works: Sequence[Work], left_out: Mapping[int, str], part: range | None = None
) -> list[PreparedDocuments]:
    """Prepare the documents of a unit that have no results yet; once for stages that lack the same documents.

    The inputs in `left_out` are left out, each for a reason; and those that are not in a part, if one is given.
    """
    reach("unit: started")
    lacking: dict[bytes, tuple[Rows, list[int]]] = {}
    tables, stage = next(contexts[0].tables(works[0])), _stage(contexts[0])  # all of them read the same inputs
    for i, (context, work) in enumerate(zip(contexts, works, strict=True)):
        wanted = _stage(context).wanted(tables)
        entries = [] if context.fresh else _entries(context, work)
        rows = wanted[~np.isin(wanted, _covered(context, entries))]
        if len(rows) or not entries:
            lacking.setdefault(rows.tobytes(), (rows, []))[1].append(i)
    whole = [(rows, of, stage.prepare(tables, rows)) for rows, of in lacking.values()]
    sizes = [stage.items(data) for _, _, data in whole]
    out = {**left_out, **{at: "" for at in range(sum(sizes)) if part is not None and at not in part}}
    prepared = []
    for (rows, of, data), size, stop in zip(whole, sizes, itertools.accumulate(sizes), strict=True):
        here = {at - (stop - size): reason for at, reason in out.items() if stop - size <= at < stop}
        prepared.append(PreparedDocuments(tuple(of), stage.prepare_without(tables, rows, here) if here else data))
    return prepared


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


def finish(
    contexts: Sequence[Context],
    items: Sequence[Item],
    prepared: Sequence[Sequence[PreparedDocuments]],
    made: Sequence[Results],
) -> list[list[Unit]]:
    """Commit the results of units, for each of the stages."""
    return [
        _finish(contexts, item.works, documents, results)
        for item, documents, results in zip(in_turn(items), prepared, made, strict=True)
    ]


@frugal
def _finish(
    contexts: Sequence[Context], works: Sequence[Work], prepared: Sequence[PreparedDocuments], made: Results
) -> list[Unit]:
    entries: dict[int, Sequence[Entry]] = {}
    for each, results in zip(prepared, made.results, strict=True):
        for i, result in zip(each.wanted, results, strict=True):
            entries[i] = _append(contexts[i], works[i], each.data, result, made.device)
    found = (
        entries[i] if i in entries else _entries(context, work)
        for i, (context, work) in enumerate(zip(contexts, works, strict=True))
    )
    return [
        Unit(work.shard, work.start, work.stop, work.text_bytes, tuple(own))
        for work, own in zip(works, found, strict=True)
    ]


def _append(context: Context, work: Work, data: Any, result: Any, device: str) -> list[Entry]:
    """Append an entry with the documents that are in no entry yet; returns the entries whose parts are there.

    If the part of an entry is gone and held the same results, it is put again. If it held others, the entry stays and
    is ignored. Another run may append an entry at the same time: then that entry stays, and the documents that it lacks
    go into the next one.
    """
    stage = _stage(context)
    rows: Rows | None = None
    while True:
        fresh = context.fresh and rows is None  # if somebody has created an entry meanwhile, ours is not created
        entries = [] if fresh else list(chain(context.directory, work.key))
        there = [entry for entry in entries if intact(context.directory, entry)]
        covered = _covered(context, there)
        if rows is not None and there and np.isin(rows, covered).all():
            return there
        output = stage.finish(work.shard, data, result, device, covered)
        if rows is None:
            rows = np.unique(output.table["row"].to_numpy())
            if there and not len(rows):
                return there
        reach("unit: computed")
        if not heal(context.directory, entries, output, schema=stage.schema):
            key = layout.numbered(work.key, len(entries))
            ours = put_output(context.directory, key, output, schema=stage.schema)
            stands = create_entry(context.directory, ours)
            if stands.part == ours.part:
                return [*there, stands]


def _stage(context: Context) -> Model:
    assert isinstance(context.stage, Model)
    return context.stage
