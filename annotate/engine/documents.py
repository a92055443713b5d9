"""Searches for the documents that end the worker of a stage, by making its units of some of their documents only.

What is found is noted beside the corpus, as refusals, and the run begins anew: then each stage sees a document with a
problem, as if it had been so from the start. So what comes out does not depend on how a document was found.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.engine.calls import Narrowing
from annotate.engine.datasets import Dataset
from annotate.engine.overdue import TOO_LONG
from annotate.engine.reading import Searched, by_reading, try_reading
from annotate.engine.running import Running
from annotate.engine.search import halves
from annotate.engine.worker import Context
from annotate.graph import first_unit, graph, lineages
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import FileRows, Unit
from annotate.storage.refusals import Refusal, file_identity, put_refusal

MOST_DOCUMENTS = 64
"""Documents of one item that a search may find. If more end their worker, the fault is not that of documents."""
MOST_NAMED = 3
LEVELS_AHEAD = 8
"""When the work of a part is looked for, so many halvings of the part are looked for with it."""
MOST_KEPT = 4 << LEVELS_AHEAD
"""Pieces of work that are kept, once they were looked for."""
WHY = {"worker": "its process ended", "time": TOO_LONG}

# In the driver.


@dataclass(frozen=True)
class Documents:
    """The documents that some work reads, numbered over all of the work, in order.

    Attributes:
        works: streams the work. It may be too much to be held.
    """

    works: Callable[[], Iterable[Work]]
    _kept: dict[int, Work] = field(default_factory=dict, init=False, compare=False, repr=False)

    @functools.cached_property
    def _edges(self) -> npt.NDArray[np.int64]:
        """The number of the first document of each piece of work, and at last the number of all documents."""
        return np.cumsum([0, *(sum(len(_rows(units)) for units in work.units) for work in self.works())])

    @property
    def number(self) -> int:
        """Number of documents."""
        return int(self._edges[-1])

    def whole(self, part: range) -> npt.NDArray[np.int64]:
        """The numbers of the pieces of work that have no document outside of a part."""
        first, stop = self._edges[:-1], self._edges[1:]
        return np.flatnonzero((first == stop) | ((first >= part.start) & (stop <= part.stop)))

    def cut(self, part: range) -> list[Work]:
        """Work that has documents in a part and others outside of it, without these."""
        first, stop = self._edges[:-1], self._edges[1:]
        some = (first < part.stop) & (stop > part.start) & ((first < part.start) | (stop > part.stop))
        return (
            [work for number in np.flatnonzero(some).tolist() for work in self._narrowed(number, part)] if part else []
        )

    def at(self, number: int) -> tuple[str, Unit]:
        """A document, as the name of the first input and a unit that has only this document."""
        one = range(number, number + 1)
        (work,) = self._narrowed(self._with([number])[0], one)
        (units,) = work.units
        return next(iter(units.items()))

    def _with(self, numbers: Sequence[int]) -> list[int]:
        """The numbers of the pieces of work that have these documents."""
        found: list[int] = (np.searchsorted(self._edges, numbers, side="right") - 1).tolist()
        return found

    def _narrowed(self, number: int, part: range) -> list[Work]:
        if number not in self._kept:
            self._look_for(number, part)
        first = int(self._edges[number])
        return narrowed([self._kept[number]], range(part.start - first, part.stop - first))

    def _look_for(self, number: int, part: range) -> None:
        """Keep a piece of work, and those at whose documents a search will cut this part.

        All work is streamed for that, from the first on: with a million units, this takes many seconds.
        """
        wanted = {number, *self._with([each.start for each in _parts_of(part)])}
        some = itertools.islice(self.works(), max(wanted) + 1)
        self._kept.update((i, work) for i, work in enumerate(some) if i in wanted)
        for old in list(self._kept)[:-MOST_KEPT]:
            del self._kept[old]


def _parts_of(part: range) -> list[range]:
    """A part, its halves, their halves, and so on."""
    found = level = [part]
    for _ in range(LEVELS_AHEAD):
        level = [half for each in level if len(each) > 1 for half in halves(each)]
        found = found + level
    return found


def by_documents(step: Searched, tries: Callable[..., None], more: Callable[[], tuple[Any, ...]] = tuple) -> Narrowing:
    """Narrow an item to some documents of its units; or to some of the files that it reads, if to read them is enough.

    Args:
        step: whose items are narrowed.
        tries: tries work in a worker, as `tried` does; takes the context, work with some of the documents, and `more`.
        more: more arguments, when a call is sent.
    """

    def attempt(item: Any, part: range, cpus: float) -> Any:
        return step.task(tries, cpus, item, step.context, narrowed(step.works(item), part), *more())

    def count(item: Any, cpus: float) -> Any:
        return step.task(count_read, cpus, item, step.context, step.works(item))

    among = among_documents(step, lambda item: Documents(lambda: step.works(item)), attempt)
    return replace(among, count=count, instead=by_reading(step))


def among_documents(
    step: Searched, documents: Callable[[Any], Documents], attempt: Callable[[Any, range, float], Any]
) -> Narrowing:
    """Narrow an item to some of its documents.

    Args:
        step: whose items are narrowed.
        documents: the documents of an item.
        attempt: takes an item, some of its documents by number, and CPUs; sends a call of `tried`, and returns its
            reference.
    """

    def without(item: Any, found: Mapping[int, str]) -> Any:
        named = [(*documents(item).at(number), kind) for number, kind in found.items()]
        return None if refuse(step.dataset, step.running, named) else item

    return Narrowing(
        count=lambda item, cpus: documents(item).number,
        # Nothing is left out: what a search has found, the next run's units say.
        attempt=lambda item, part, left_out, cpus: attempt(item, part, cpus),
        without=without,
        inputs="documents",
        most=MOST_DOCUMENTS,
    )


def narrowed(works: Sequence[Work], part: range) -> list[Work]:
    """Work without all documents but some; documents are counted over all of the work, in order."""
    found: list[Work] = []
    at = 0
    for work in works:
        kept: dict[int, Mapping[str, Unit]] = {}
        for number, units in enumerate(work.units):
            rows = _rows(units)
            some = rows[max(part.start - at, 0) : max(part.stop - at, 0)]
            at += len(rows)
            if some:
                kept[number] = {name: _cut(unit, first_unit(units), some) for name, unit in units.items()}
        if kept:
            found.append(replace(work, units=tuple(kept.values()), number=work.number + min(kept)))
    return found


def _rows(units: Mapping[str, Unit]) -> range:
    """The rows of the documents that are read together; none if they are no rows of one shard."""
    first = first_unit(units)
    return range(first.start, first.stop) if first.shard else range(0)


def _cut(unit: Unit, first: Unit, rows: range) -> Unit:
    """Narrow a unit, if its rows are those of the first one. An input that is cut into ranges has other rows."""
    if (unit.shard, unit.start, unit.stop) != (first.shard, first.start, first.stop):
        return unit
    return replace(unit, start=rows.start, stop=rows.stop, narrowed=True)


def refuse(dataset: Dataset, running: Running, found: Sequence[tuple[str, Unit, str]]) -> bool:
    """Note documents as refused; False if all of them were refused before, which did not help.

    Each is given as the name of the input that it is read from, a unit that has only this document, and the kind of
    loss that it causes. The kind is told, but not written: it must not matter which of several stages came first.
    """
    documents: defaultdict[str, list[Unit]] = defaultdict(list)
    for name, unit, _ in found:
        documents[name].append(unit)
    sources = {name: _source(dataset.inputs[name]) for name in documents}
    stage = lineages(graph([dataset.stage]))[dataset.stage]
    refused = [
        (name, Refusal(each.shard, each.start, file_identity(file), stage))
        for name, units in documents.items()
        for each, file in _files(sources[name], units)
        if each.start not in file.refused
    ]
    if not refused:
        return False
    running.lease.check()
    for name, refusal in refused:
        put_refusal(sources[name].directory, refusal)
        reach("refusal: put")
    kinds = {(unit.shard, unit.start): WHY[kind] for _, unit, kind in found}
    named = ", ".join(
        f"{each.shard}, row {each.row} ({kinds[each.shard, each.row]})" for _, each in refused[:MOST_NAMED]
    )
    more = f" and {len(refused) - MOST_NAMED} more" if refused[MOST_NAMED:] else ""
    running.events.said(
        "warning",
        f"{dataset.label}: documents that end its worker go to quarantine: {named}{more}. The run begins anew without "
        "them, as soon as nothing else can go on. The end of the run names them by id",
    )
    return True


def _files(source: Dataset, documents: Sequence[Unit]) -> Iterator[tuple[Unit, FileRows]]:
    """Each document with the rows of the file that it is among, as the list of the source's units has them."""
    shards = {document.shard for document in documents}
    for whole in source.units():
        if whole.shard in shards and whole.source is not None:
            for document in documents:
                if document.shard == whole.shard and whole.start <= document.start < whole.stop:
                    yield document, whole.source


def count_read(context: Context | Sequence[Context], works: Sequence[Work]) -> int:
    """Read, in a worker, what work reads from files outside of the work directory; returns its number of documents."""
    try_reading(context, works)
    return Documents(lambda: works).number


def _source(dataset: Dataset) -> Dataset:
    """The dataset of the source that a dataset's documents come from."""
    while dataset.inputs:
        dataset = next(iter(dataset.inputs.values()))
    return dataset
