"""Shuffles: units send rows to partitions, in slices that are committed; each partition makes a unit of its slices.

A partition reads a slice of every part that was sent. Where that would be too many small reads, there are two levels:
units send rows to groups of partitions, and then tasks send the rows of a group on, to each partition by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from annotate.engine.attempts import in_time
from annotate.engine.calls import Calls
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.documents import by_documents
from annotate.engine.parcels import (
    Parcelled,
    again,
    parcels,
    put_sent,
    receiver_name,
    regrouper_name,
    sender_name,
    sending,
    try_sending,
)
from annotate.engine.partition_search import Senders, units_received
from annotate.engine.reading import Searched
from annotate.engine.running import Collected, Running, chunks, in_order, manifests
from annotate.engine.worker import Context, commit_parts, frugal, made_of
from annotate.graph import RANGE_UNITS, Partitions, Received, Shuffle, digest
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, UnitOutput, commit_all, joined
from annotate.storage.slice_reader import KeptSums, Slices

SEND_UNITS = 4  # bytes that one task sends, as a multiple of the work unit
MOST_PARTS = 16  # most partitions whose units one task makes
SMALL_READS = 20_000
"""Most slices that all partitions of a shuffle of one level may read. `docs/benchmarks.md` has the measurement."""

# In the driver.

Sources = Callable[[], Iterator[Parcelled | None]]
"""Streams the units that send rows, from the first one on; None while the next one is not there yet."""


@dataclass
class _Shuffling:
    """A shuffle in progress, and the partitions that its rows are sent to."""

    dataset: Dataset
    stage: Shuffle
    running: Running
    context: Any
    to: Partitions
    whole: Aligned
    limit: int

    def _task(self, function: Callable[..., Any], cpus: float, units: str, *arguments: Any) -> Any:
        return self.running.task(function, cpus, self.context, *arguments, stage=self.dataset.label, units=units)

    def _searched(self, name: Callable[[Any], str]) -> Searched:
        return Searched(
            label=self.dataset.label, dataset=self.dataset, running=self.running, context=self.context, name=name
        )

    def send(self, sources: Sources, round_: str, sent: dict[int, Unit]) -> Calls:
        """The step in which units send rows; each task commits a part of what a few units send."""

        def take(index: int, work: Work, unit: Unit) -> None:
            sent[index] = unit
            if not self.stage.rounds:
                self.running.events.advanced(self.dataset.label, len(work.units), 0)

        return Calls(
            items=self._sending(sources, round_),
            submit=lambda work, cpus: self._task(send, cpus, sender_name(work), work, self.to),
            name=sender_name,
            take=take,
            narrowing=by_documents(self._searched(sender_name), try_sending, lambda: (self.to,)),
        )

    def _sending(self, sources: Sources, round_: str) -> Iterator[Work | None]:
        yield from self._choose_level(sources)
        yield from self._works(sources, round_)

    def _works(self, sources: Sources, round_: str) -> Iterator[Work | None]:
        return sending(parcels(sources(), self.limit, self.stage), self.whole, self.stage, round_, self.to)

    def _choose_level(self, sources: Sources) -> Iterator[None]:
        """Choose one level or two. Yields None while units that send rows are not there yet.

        What is sent is counted. But where partitions are ranges of documents, and so few that as many pieces would be
        no problem, nothing is waited for. Keys depend on the level, so what happens to be committed must not matter.
        """
        self.to = one = replace(self.to, width=1)
        if (self.stage.beside or self.stage.rounds) and one.number**2 <= SMALL_READS:
            return
        pieces = 0
        for parcel in parcels(sources(), self.limit, self.stage):
            pieces += parcel is not None
            if parcel is None:
                yield None
        if pieces * one.number > SMALL_READS:
            self.to = replace(one, width=math.isqrt(one.number - 1) + 1)

    def received(
        self, sources: Sources, sent: Sequence[Unit], round_: str, take: Callable[[int, Sequence[Unit]], None]
    ) -> Iterator[Calls]:
        """The steps in which partitions make their units from what was sent: one, or two with a middle level."""
        senders = Senders(sent, lambda: (work for work in self._works(sources, round_) if work is not None), self.to)
        told: dict[int, list[Entry]] = {}
        for number, entry in enumerate(entry for unit in sent for entry in unit.entries):
            if entry.counts or entry.quarantine is not None:
                told.setdefault(number % self.to.number, []).append(entry)
        if self.to.width == 1:
            whole = self.running.put(list(sent))
            yield self._receive(lambda group: whole, told, round_, take, senders)
            return
        made: dict[int, list[Unit]] = {}
        yield self._regroup(sent, round_, made)
        by_group: list[list[Unit]] = [[] for _ in range(self.to.slices)]
        for number, unit in enumerate(unit for units in in_order(made) for unit in units):
            by_group[number % self.to.slices].append(unit)
        yield self._receive(lambda group: self.running.put(by_group[group]), told, round_, take, senders)

    def _regroup(self, sent: Sequence[Unit], round_: str, made: dict[int, list[Unit]]) -> Calls:
        """The step of the middle level: the rows of groups of partitions are sent on, to each partition by itself.

        A task does it for a few groups, and for a block of the units that were sent. A block has half as many of them
        as there are groups, so that a group gets about half as much from a block as one of these units has sent.
        """
        size = max(1, self.to.slices // 2)

        def items() -> Iterator[tuple[range, Any]]:
            for first in range(0, len(sent), size):
                block = self.running.put(list(sent[first : first + size]))
                for group in range(0, self.to.slices, MOST_PARTS):
                    yield range(group, min(group + MOST_PARTS, self.to.slices)), block

        return Calls(
            items=items(),
            submit=lambda item, cpus: self._task(regroup, cpus, regrouper_name(item), *item, self.to, round_),
            name=regrouper_name,
            take=lambda index, item, units: made.update({index: units}),
        )

    def _receive(
        self,
        parts: Callable[[int], Any],
        told: Mapping[int, Sequence[Entry]],
        round_: str,
        take: Callable[[int, Sequence[Unit]], None],
        senders: Senders,
    ) -> Calls:
        """The step in which partitions make their units, a few partitions in a task.

        `parts` gives the reference of what was sent to a group of partitions.
        """
        own = manifests(self.dataset)[self.stage.beside[0][0]] if self.stage.beside else None
        beside = (own.units, own.rows) if own is not None else (0, 0)

        def submit(item: tuple[list[Work], Any], cpus: float) -> Any:
            works, sent = item
            others = [told.get(work.start, ()) for work in works]
            first = works[0].start % self._readers == 0
            return self._task(receive, cpus, receiver_name(item), works, sent, others, round_, beside, first)

        return Calls(
            items=self._receiving(parts),
            submit=submit,
            name=receiver_name,
            take=lambda index, item, units: take(index, units),
            narrowing=senders.narrowing(self._searched(receiver_name), beside),
        )

    @property
    def _readers(self) -> int:
        """Number of partitions that read the same parts: those of a group, or all."""
        return self.to.width if self.to.width > 1 else max(1, self.to.number)

    def _receiving(self, parts: Callable[[int], Any]) -> Iterator[tuple[list[Work], Any]]:
        # With few partitions, a task takes few of them, so that all workers have some; with inputs beside, one.
        some = 1 if self.stage.beside else max(1, min(MOST_PARTS, self.to.number // (4 * self.running.workers)))
        beside = [Aligned.of(self.dataset, names) for names in self.stage.beside]
        ranges = chunks(itertools.chain(*(aligned.units() for aligned in beside)), RANGE_UNITS)
        for group in range(0, self.to.number, self._readers):
            sent = parts(group // self._readers)
            stop = min(group + self._readers, self.to.number)
            for first in range(group, stop, some):
                works = []
                for partition in range(first, min(first + some, stop)):
                    read = next(ranges) if beside else []
                    assert read is not None, "what lies beside is committed"
                    works.append(Work("", "", partition, partition + 1, 0, tuple(read), partition * RANGE_UNITS))
                yield works, sent


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """A step in which rows are sent, and those in which they are received; in rounds until nothing changes."""
    (dataset,) = datasets
    stage = dataset.stage
    assert isinstance(stage, Shuffle)
    whole = Aligned.of(dataset, [name for name, source in dataset.inputs.items() if source.stage.cut == "whole"])
    context = running.context(dataset, whole)
    limit = SEND_UNITS * running.unit_bytes
    to = Partitions(stage.partitions(context.shared(), manifests(dataset)), limit + limit // 2)
    shuffling = _Shuffling(dataset, stage, running, running.put(context), to, whole, limit)

    def sources() -> Iterator[Parcelled | None]:
        return itertools.chain(*(Aligned.of(dataset, names).units() for names in stage.sources))

    made_before = [dataset.inputs[names[0]].manifest for names in stage.sources]
    known = all(manifest is not None for manifest in made_before) and not stage.rounds
    units = sum(manifest.units for manifest in made_before if manifest is not None) + to.number
    running.events.started(dataset.label, units if known else 0, "sent from and made" if known else "")
    if stage.rounds:
        yield from _rounds(shuffling, sources)
        return
    sent: dict[int, Unit] = {}
    yield shuffling.send(sources, "", sent)
    collected = running.collect(datasets)
    yield from shuffling.received(sources, in_order(sent), "", lambda index, units: collected.take(index, [units]))
    collected.commit()


def _rounds(shuffling: _Shuffling, sources: Sources) -> Iterator[Calls]:
    """Send the units that partitions made again, until a round changes nothing."""
    for number in itertools.count():
        sent: dict[int, Unit] = {}
        made: dict[int, Sequence[Unit]] = {}
        round_ = f"in round {number}"
        yield shuffling.send(sources, round_, sent)
        take = made.__setitem__
        yield from shuffling.received(sources, in_order(sent), round_, take)
        received = [unit for units in in_order(made) for unit in units]
        if not sum(entry.counts["changed"] for unit in received for entry in unit.entries):
            collected: Collected = shuffling.running.collect([shuffling.dataset])
            for index, unit in enumerate(received):
                collected.take(index, [[unit]])
            collected.commit()
            return
        sources = partial(again, received)


def count(dataset: Dataset) -> tuple[int, int] | None:
    """None: the key of a partition's unit is known only once its rows were sent."""
    del dataset
    return None


def ahead(dataset: Dataset, units: int) -> int | None:
    """None: the number of partitions is known only once the inputs are there."""
    del dataset, units
    return None


# In a worker.


@frugal
def send(context: Context, work: Work, to: Partitions) -> Unit:
    """Commit the rows that some units send, sliced by partition, in parts of about `to.most` bytes."""
    stage = _stage(context)
    reach("unit: started")
    entries = context.committed(work.key)
    if entries is None:
        outputs = (output for tables in context.tables(work) for output in stage.send(tables, to))
        with in_time(context, len(work.units)):
            entries = commit_all(context.directory, work.key, put_sent(context, work.key, outputs, to.most, to.width))
    return made_of(*entries)


def regroup(context: Context, groups: range, units: Sequence[Unit], to: Partitions, round_: str) -> list[Unit]:
    """Commit the rows that units sent to groups of partitions, sliced by partition; returns a unit for each group.

    The key of a group is a hash of its rows. So where few documents change, few groups are sent on again, and slices of
    other partitions keep their checksums.
    """
    stage = _stage(context)
    sent = _sent(context, units, groups, first=groups.start == 0)
    cut = [to.groups, to.width, to.most]
    keys = {group: digest([stage.recipe, "regroup", round_, group, *cut, sent.sum(group)])[:24] for group in groups}
    return _made(context, sent, keys, lambda group, key: _regroup(context, key, sent, group, to))


@frugal
def _regroup(context: Context, key: str, sent: Slices, group: int, to: Partitions) -> tuple[Entry, ...]:
    """Commit the rows that were sent to a group of partitions."""
    outputs = map(UnitOutput, sent.tables(group, empty=False))
    return commit_all(context.directory, key, put_sent(context, key, outputs, to.most, 1, apart=True))


def _sent(context: Context, units: Sequence[Unit], numbers: range, *, first: bool) -> Slices:
    """The slices of these numbers, of what units sent. The task that makes the `first` of them keeps sums for all."""
    parts = [entry.part for unit in units for entry in unit.entries]
    sums = KeptSums(look=not context.fresh, keep=first)
    return Slices(context.directory, parts, numbers, schema=_stage(context).sent_schema, sums=sums)


def _made(
    context: Context, sent: Slices, keys: Mapping[int, str], make: Callable[[int, str], tuple[Entry, ...]]
) -> list[Unit]:
    """The units of slices of some numbers, by their keys; those that are not committed are made from the slices."""
    committed = {number: context.committed(key) for number, key in keys.items()}
    sent.read_together(number for number, entries in committed.items() if entries is None)
    for number, key in keys.items():
        reach("unit: started")
        committed[number] = committed[number] or make(number, key)
    return [made_of(*(entries or ())) for entries in committed.values()]


def receive(
    context: Context,
    works: Sequence[Work],
    parts: Sequence[Unit],
    told: Sequence[Sequence[Entry]],
    round_: str,
    beside: tuple[int, int],
    first: bool,  # noqa: FBT001
) -> list[Unit]:
    """Commit the units of some partitions, from the rows that were sent to them.

    `told` has the sent entries whose counts and bad rows each of these units takes over. `beside` has the numbers of
    units and rows of the first input beside. The `first` of the tasks that read `parts` keeps sums for all of them.
    """
    recipe = _stage(context).recipe
    sent = _sent(context, parts, range(works[0].start, works[-1].stop), first=first)
    by_number = {work.start: work for work in works}
    # The key of a unit is a hash of the rows that it is made from, so a partition with the same rows keeps its unit.
    keys = {
        number: digest([recipe, "receive", round_, number, sent.sum(number), work.identities, beside])[:24]
        for number, work in by_number.items()
    }
    made = _made(context, sent, keys, lambda number, key: _receive(context, key, sent, by_number[number], beside))
    return [_told(context, unit, others) for unit, others in zip(made, told, strict=True)]


@frugal
def _receive(context: Context, key: str, sent: Slices, work: Work, beside: tuple[int, int]) -> tuple[Entry, ...]:
    """Commit the unit of a partition."""
    number = work.start
    size = sent.held(number)
    received = Received(number, lambda: sent.tables(number), size, context.tables(work), *beside)
    with in_time(context, units_received(context, work, size)):
        return commit_parts(context, key, _stage(context).receive(received))


def _told(context: Context, unit: Unit, sent: Sequence[Entry]) -> Unit:
    """The unit, with what was counted and put into quarantine when some of the rows were sent."""
    if not sent:
        return unit
    told = [[dict(sorted(e.counts.items())), e.quarantine.checksum if e.quarantine else ""] for e in sent]
    *others, last = unit.entries
    key = digest([last.key, told])[:24]
    found = context.committed(key) or (joined(context.directory, key, last, sent),)
    return replace(unit, entries=(*others, *found))


def _stage(context: Context) -> Shuffle:
    assert isinstance(context.stage, Shuffle)
    return context.stage
