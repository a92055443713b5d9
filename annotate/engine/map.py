"""Maps: a unit is made from a group of consecutive units of the inputs, as soon as they are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from annotate.engine.attempts import in_time, tried
from annotate.engine.calls import Calls
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.documents import by_documents
from annotate.engine.facts import in_turn
from annotate.engine.reading import Searched
from annotate.engine.running import Running, manifests, names_of
from annotate.engine.worker import Context, commit_parts, frugal
from annotate.graph import Map, Stage, first_unit
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import committed_keys, parquet_bytes

TASK_UNITS = 32  # most small units in one call
COUNTED = 50_000

# In the driver.


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """One step: each task makes a few units in turn, and finds those that are committed."""
    (dataset,) = datasets
    aligned = Aligned.of(dataset)
    context = running.put(running.context(dataset, aligned))
    counted = count(dataset)
    units, done = counted if counted is not None else (ahead(dataset, expected(dataset)) or 0, 0)
    running.events.started(dataset.label, units, f"{done:,} committed before" if done else "")
    collected = running.collect(datasets)

    def submit(groups: Sequence[Sequence[Work]], cpus: float) -> Any:
        units = names_of([work for group in groups for work in group])
        return running.task(make, cpus, context, groups, stage=dataset.label, units=units)

    step = Searched(label=dataset.label, dataset=dataset, running=running, context=context, name=names_of)
    yield Calls(
        items=read_together(works(dataset, aligned)),
        submit=submit,
        name=names_of,
        take=lambda index, works, units: collected.take(index, [units]),
        together=TASK_UNITS,
        narrowing=by_documents(step, try_units),
    )
    collected.commit()


def works(dataset: Dataset, aligned: Aligned) -> Iterator[Work | None]:
    """Stream the work of a map, unit by unit; None while the next is not there yet."""
    if _stage(dataset).gathers:
        return _gathered(dataset, aligned)
    return single(dataset, aligned)


def single(dataset: Dataset, aligned: Aligned) -> Iterator[Work | None]:
    """Stream the work of a map that makes a unit from one unit of each input."""
    number = 0
    for units in aligned.units():
        if units is None:
            yield None
            continue
        first = first_unit(units)
        key = key_of(dataset.stage, aligned, units, number)
        yield Work(key, first.shard, first.start, first.stop, first.text_bytes, (units,), number)
        number += 1


def key_of(stage: Stage, aligned: Aligned, units: Mapping[str, Unit], number: int) -> str:
    """The key of the work that makes a unit from unit `number` of each input."""
    # Rows of an input by range name a document by the number of its unit, so what is made from them depends on it.
    return aligned.key(stage, [units], str(number) if aligned.by_range else "")


def _gathered(dataset: Dataset, aligned: Aligned) -> Iterator[Work | None]:
    stage = _stage(dataset)
    group_of = stage.gathering(manifests(dataset))
    group: list[Mapping[str, Unit]] = []
    before = 0

    def work() -> Work:
        size = sum(first_unit(units).text_bytes for units in group)
        return Work(aligned.key(stage, group), "", 0, 0, size, tuple(group))

    for units in aligned.units():
        if units is None:
            yield None
            continue
        here = group_of(units)
        if group and here != before:
            yield work()
            group = []
        group.append(units)
        before = here
    if group:
        yield work()


def read_together(works: Iterator[Work | None]) -> Iterator[list[Work] | None]:
    """Put units into one list that one task should read in turn; most units are alone."""
    group: list[Work] = []
    before: tuple[str, int] | None = None
    for work in works:
        if work is None:
            yield None
            continue
        here = _read_with(work)
        if group and (here is None or here != before):
            yield group
            group = []
        group.append(work)
        before = here
    if group:
        yield group


def _read_with(work: Work) -> tuple[str, int] | None:
    """The shard and the group of a unit, if one task should read all units of that group in turn; else None.

    If two sources are read, a file that can only be read from its start comes before a row group.
    """
    read = work.units[0].values() if work.units else ()
    groups = [(unit.shard, unit.source.group) for unit in read if unit.source and unit.source.group is not None]
    return min(groups, default=None)


def count(dataset: Dataset) -> tuple[int, int] | None:
    """Number of units of a map, and how many of them a listing shows as committed; None if that is not known.

    The numbers are for people. They prove nothing, since parts may be gone.
    """
    return None if _stage(dataset).gathers else listed(dataset, str)


def listed(dataset: Dataset, entry: Callable[[str], str]) -> tuple[int, int] | None:
    """Number of units of a dataset that is cut as its inputs are, and how many have an entry in a listing.

    With more than `COUNTED` units the second number is 0, so that the listing need not be held. None if an input is not
    committed.
    """
    if any(source.manifest is None for source in dataset.inputs.values()):
        return None
    units = expected(dataset)
    if units > COUNTED:
        return units, 0
    names = committed_keys(dataset.directory)
    if not names:
        return units, 0
    found = (entry(work.key) in names for work in single(dataset, Aligned.of(dataset)) if work is not None)
    return units, sum(found)


def expected(dataset: Dataset) -> int:
    """Number of units of the inputs, as far as it is known."""
    manifests = (source.manifest for source in dataset.inputs.values() if source.stage.cut in ("documents", "own"))
    return max((manifest.units for manifest in manifests if manifest is not None), default=0)


def ahead(dataset: Dataset, units: int) -> int | None:
    """The number of units of the documents; None if the dataset is cut in its own way."""
    return None if dataset.stage.cut == "own" else units


def _stage(dataset: Dataset) -> Map:
    assert isinstance(dataset.stage, Map)
    return dataset.stage


# In a worker.


def make(context: Context, groups: Sequence[Sequence[Work]]) -> list[list[Unit]]:
    """Make and commit units, in turn."""
    return [[make_unit(context, work) for work in group] for group in in_turn(groups)]


@frugal
def make_unit(context: Context, work: Work) -> Unit:
    """Make and commit a unit."""
    stage = context.stage
    assert isinstance(stage, Map)
    reach("unit: started")
    entries = context.committed(work.key)
    if entries is None:
        with in_time(context, len(work.units)):
            entries = commit_parts(context, work.key, stage.gathered_unit(context.tables(work)))
    return Unit(work.shard, work.start, work.stop, work.text_bytes, entries)


def try_units(context: Context, works: Sequence[Work]) -> None:
    """Try whether making units ends this process."""
    tried(context, works, _try)


def _try(context: Context, work: Work) -> None:
    stage = context.stage
    assert isinstance(stage, Map)
    with in_time(context, len(work.units)):
        for output in stage.gathered_unit(context.tables(work)):
            parquet_bytes(output.table, large_rows=output.large_rows)
