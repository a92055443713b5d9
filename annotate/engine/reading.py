"""Searches for the files outside of the work directory whose reader ends its process: no document of them is to blame.

This is an error that names file and rows; or, where the source passes over what can't be read, a note beside its
dataset, which names the source itself as the stage. Then the run begins anew, and the rows of that unit are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from annotate.engine.attempts import tried
from annotate.engine.calls import Narrowing
from annotate.engine.datasets import Dataset
from annotate.engine.running import Running, name_of
from annotate.engine.worker import Context
from annotate.graph import Source, graph, lineages
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit, file_rows
from annotate.storage.refusals import Refusal, file_identity, put_refusal

# In the driver.


def one_or_more(item: Work | Sequence[Work]) -> Sequence[Work]:
    """The work of an item that is work."""
    return [item] if isinstance(item, Work) else item


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A step of a stage, for the search in its items.

    Attributes:
        label: of the stage, or of the stages that are made together.
        dataset: what the items are for.
        running: the run.
        context: the reference of the data that the tasks of the stage share, or of those of several.
        name: the name of an item in messages.
        works: the work of an item.
    """

    label: str
    dataset: Dataset
    running: Running
    context: Any
    name: Callable[[Any], str]
    works: Callable[[Any], Sequence[Work]] = one_or_more

    def task(self, function: Callable[..., Any], cpus: float, item: Any, *arguments: Any) -> Any:
        """Call a function for an item, in a worker; returns the reference of what the call tells."""
        return self.running.task(function, cpus, *arguments, stage=self.label, units=self.name(item))


def by_reading(step: Searched) -> Narrowing:
    """Narrow an item to some of its units, which are only read."""

    def count(item: Any, cpus: float) -> int:
        return len(_single(step.works(item)))

    def attempt(item: Any, part: range, left_out: Sequence[int], cpus: float) -> Any:
        some = _single(step.works(item))[part.start : part.stop]
        return step.task(try_reading, cpus, item, step.context, some)

    def without(item: Any, found: Mapping[int, str]) -> None:
        single = _single(step.works(item))
        for number in found:
            _pass_over(step.dataset, step.running, single[number])

    return Narrowing(count=count, attempt=attempt, without=without, inputs="units of files")


def _single(works: Sequence[Work]) -> list[Work]:
    """Work with one unit of each input."""
    return [
        replace(work, units=(units,), number=work.number + i) for work in works for i, units in enumerate(work.units)
    ]


def _pass_over(dataset: Dataset, running: Running, work: Work) -> None:
    """Note that the rows which work reads from a file can't be read.

    Raises:
        InputError: what can't be read is not to be passed over.
    """
    name, unit = next(_read(dataset, work))
    source = dataset.inputs[name]
    assert isinstance(source.stage, Source)
    if (error := source.stage.crashed(unit)) is not None:
        raise error
    own = lineages(graph([source.stage]))[source.stage]
    running.lease.check()
    put_refusal(source.directory, Refusal(unit.shard, unit.start, file_identity(file_rows(unit)), own))
    reach("refusal: put")
    running.events.said(
        "warning",
        f"{source.label}: {name_of(work)} can't be read, a process that reads it ends: its documents go to quarantine. "
        "The run begins anew without them, as soon as nothing else can go on",
    )


def _read(dataset: Dataset, work: Work) -> Iterator[tuple[str, Unit]]:
    (units,) = work.units
    return ((name, unit) for name, unit in units.items() if isinstance(dataset.inputs[name].stage, Source))


# In a worker.


def try_reading(context: Context | Sequence[Context], works: Sequence[Work]) -> None:
    """Try whether reading files outside of the work directory ends this process."""
    tried(context if isinstance(context, Context) else context[0], works, _try)


def _try(context: Context, work: Work) -> None:
    for units, tables in zip(work.units, context.tables(work), strict=True):
        for name, unit in units.items():
            if isinstance(stage := tables.stage(name), Source):
                stage.read_all(tables.directory(name), unit)
