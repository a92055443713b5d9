"""Shuffles: units send rows to partitions, in slices that are committed; each partition makes a unit of its slices."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.running import Collected, Running, chunks, in_order, manifests
from annotate.engine.scheduler import Calls
from annotate.engine.worker import Context, commit_parts, frugal, give_back, made_of
from annotate.graph import ITSELF, RANGE_UNITS, Partitions, Received, Shuffle, digest, first_unit
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, commit_all, find, find_all, joined
from annotate.storage.slices import by_partition, put_slices, read_slice, slice_bytes, slice_checksum, slice_index
from annotate.text.arrays import held_bytes

SEND_UNITS = 4  # bytes that one task sends, as a multiple of the work unit
MOST_PARTS = 16  # most partitions whose units one task makes

# In the driver.


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

    def send(self, sources: Iterator[Parcelled | None], round_: str, sent: dict[int, Unit]) -> Calls:
        """The step in which units send rows; each task commits a part of what a few units send."""

        def take(index: int, work: Work, unit: Unit) -> None:
            sent[index] = unit
            if not self.stage.rounds:
                self.running.events.advanced(self.dataset.label, len(work.units), 0)

        return Calls(
            items=self._sending(sources, round_),
            submit=lambda work, cpus: self.running.task(
                send, cpus, self.context, work, self.to, stage=self.dataset.label, units=_sender(work)
            ),
            name=_sender,
            take=take,
        )

    def _sending(self, sources: Iterator[Parcelled | None], round_: str) -> Iterator[Work | None]:
        number = 0
        for parcel in parcels(sources, self.limit, self.stage):
            if parcel is None:
                yield None
                continue
            # The bytes of a part are in the key: a task that was killed leaves some parts, and the next one goes on
            # with parts that are cut at the same rows.
            purpose = f"send {round_} from {number} to {self.to.groups} by {self.to.most}"
            key = self.whole.key(self.stage, parcel, purpose)
            yield Work(key, first_unit(parcel[0]).shard, number, number + len(parcel), 0, tuple(parcel), number)
            number += len(parcel)

    def receive(self, sent: Sequence[Unit], round_: str, take: Any) -> Calls:
        """The step in which partitions make their units, a few partitions in a task."""
        parts = self.running.put(list(sent))
        # With few partitions, a task takes few of them, so that all workers have some. With inputs beside, it takes
        # one.
        some = max(1, min(MOST_PARTS, self.to.number // (4 * self.running.workers)))
        own = manifests(self.dataset)[self.stage.beside[0][0]] if self.stage.beside else None
        beside = (own.units, own.rows) if own is not None else (0, 0)
        context, of = self.context, self.to.number
        return Calls(
            items=self._receiving(1 if self.stage.beside else some),
            submit=lambda works, cpus: self.running.task(
                receive,
                cpus,
                *(context, works, parts, of, round_, beside),
                stage=self.dataset.label,
                units=_receivers(works),
            ),
            name=_receivers,
            take=lambda index, works, units: take(index, units),
        )

    def _receiving(self, some: int) -> Iterator[list[Work]]:
        beside = [Aligned.of(self.dataset, names) for names in self.stage.beside]
        ranges = chunks(itertools.chain(*(aligned.units() for aligned in beside)), RANGE_UNITS)
        numbers = range(self.to.number)
        for first in numbers[::some]:
            works = []
            for partition in numbers[first : first + some]:
                read = next(ranges) if beside else []
                assert read is not None, "what lies beside is committed"
                works.append(Work("", "", partition, partition + 1, 0, tuple(read), partition * RANGE_UNITS))
            yield works


Parcelled = Mapping[str, Unit]


def _sender(work: Work) -> str:
    return f"what {work.shard} sends" if work.shard else f"what units from {work.start} on send"


def _receivers(works: Sequence[Work]) -> str:
    return f"partition {works[0].start}" + (f" and {len(works) - 1} more" if works[1:] else "")


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """A step in which rows are sent, and one in which they are received; in rounds until nothing changes."""
    (dataset,) = datasets
    stage = dataset.stage
    assert isinstance(stage, Shuffle)
    whole = Aligned.of(dataset, [name for name, source in dataset.inputs.items() if source.stage.cut == "whole"])
    context = running.context(dataset, whole)
    limit = SEND_UNITS * running.unit_bytes
    to = Partitions(stage.partitions(context.shared(), manifests(dataset)), limit + limit // 2)
    shuffling = _Shuffling(dataset, stage, running, running.put(context), to, whole, limit)
    sending = itertools.chain(*(Aligned.of(dataset, names).units() for names in stage.sources))
    made_before = [dataset.inputs[names[0]].manifest for names in stage.sources]
    known = all(manifest is not None for manifest in made_before) and not stage.rounds
    units = sum(manifest.units for manifest in made_before if manifest is not None) + to.number
    running.events.started(dataset.label, units if known else 0)
    if not stage.rounds:
        sent: dict[int, Unit] = {}
        yield shuffling.send(sending, "", sent)
        collected = running.collect(datasets)
        yield shuffling.receive(in_order(sent), "", lambda index, units: collected.take(index, [units]))
        collected.commit()
        return
    yield from _rounds(shuffling, sending)


def _rounds(shuffling: _Shuffling, sending: Iterator[Parcelled | None]) -> Iterator[Calls]:
    """Send the units that partitions made again, until a round changes nothing."""
    for number in itertools.count():
        sent: dict[int, Unit] = {}
        made: dict[int, Sequence[Unit]] = {}
        yield shuffling.send(sending, f"in round {number}", sent)
        yield shuffling.receive(
            in_order(sent),
            f"in round {number}",
            lambda index, units, made=made: made.update({index: units}),
        )
        received = [unit for units in in_order(made) for unit in units]
        if not sum(entry.counts["changed"] for unit in received for entry in unit.entries):
            collected: Collected = shuffling.running.collect([shuffling.dataset])
            for index, unit in enumerate(received):
                collected.take(index, [[unit]])
            collected.commit()
            return
        sending = iter([{ITSELF: unit} for unit in received])


def parcels(items: Iterator[Parcelled | None], limit: int, stage: Shuffle) -> Iterator[list[Parcelled] | None]:
    """Put units into parcels of at most `RANGE_UNITS` units and about `limit` bytes; a task sends one parcel."""
    parcel: list[Parcelled] = []
    total = 0
    for item in items:
        if item is None:
            yield None
            continue
        own = stage.held(item)
        # Units of different inputs are not in one parcel.
        if parcel and (len(parcel) == RANGE_UNITS or total + own > limit or item.keys() != parcel[0].keys()):
            yield parcel
            parcel, total = [], 0
        parcel.append(item)
        total += own
    if parcel:
        yield parcel


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
    entries = find_all(context.directory, work.key)
    if entries is None:
        outputs = (output for tables in context.tables(work) for output in stage.send(tables, to))
        entries = commit_all(context.directory, work.key, _parts(context, work.key, outputs, to.most))
    return made_of(*entries)


def _parts(context: Context, key: str, outputs: Iterator[Any], most: int) -> Iterator[Entry]:
    """Put the sent rows, in parts of about `most` bytes."""
    stage = _stage(context)
    sent: list[pa.Table] = []
    bad: list[pa.Table] = []
    counts: Counter[str] = Counter()
    size = 0

    def put() -> Entry:
        reach("unit: computed")
        quarantine = pa.concat_tables(bad) if bad else None
        entry = put_slices(
            context.directory, key, sent, schema=stage.sent_schema, quarantine=quarantine, counts=dict(counts)
        )
        for kept in (sent, bad, counts):
            kept.clear()
        give_back()
        return entry

    for output in outputs:
        own = held_bytes(output.table)
        if sent and size + own > most:
            yield put()
            size = 0
        sent.append(by_partition(output.table))
        bad += [output.quarantine] if output.quarantine is not None else []
        counts.update(output.counts)
        size += own
    yield put()


def receive(
    context: Context, works: Sequence[Work], parts: Sequence[Unit], of: int, round_: str, beside: tuple[int, int]
) -> list[Unit]:
    """Commit the units of some partitions, from the rows that were sent to them.

    `of` is the number of all partitions. `beside` has the numbers of units and rows of the first input beside.
    """
    sent = [entry for unit in parts for entry in unit.entries]
    # The index of a part is read once: it can be larger than the slice of a partition.
    partitions = range(works[0].start, works[-1].stop)
    indices = [slice_index(context.directory, entry.part, partitions) for entry in sent]
    made = (_receive(context, work, sent, indices, round_, beside) for work in works)
    # What was counted and put into quarantine when rows were sent is divided among the partitions.
    return [_told(context, unit, sent[work.start :: of]) for work, unit in zip(works, made, strict=True)]


@frugal
def _receive(
    context: Context,
    work: Work,
    sent: Sequence[Entry],
    indices: Sequence[pa.Table],
    round_: str,
    beside: tuple[int, int],
) -> Unit:
    """Commit the unit of a partition.

    Its key is a hash of the rows that it is made from, so a partition with the same rows keeps its unit.
    """
    stage, directory, partition = _stage(context), context.directory, work.start
    reach("unit: started")
    sums = [slice_checksum(index, partition) for index in indices]
    read = [[unit.identity for unit in units.values()] for units in work.units]
    key = digest([stage.recipe, "receive", round_, partition, sums, read, beside])[:24]
    made = find_all(directory, key)
    if made is None:

        def tables() -> Iterator[pa.Table]:
            for entry, index in zip(sent, indices, strict=True):
                yield read_slice(directory, entry.part, partition, schema=stage.sent_schema, index=index)

        size = sum(slice_bytes(index, partition) for index in indices)
        received = Received(partition, tables, size, context.tables(work), *beside)
        made = commit_parts(context, key, stage.receive(received))
    return made_of(*made)


def _told(context: Context, unit: Unit, sent: Sequence[Entry]) -> Unit:
    """The unit, with what was counted and put into quarantine when some of the rows were sent."""
    told = [[dict(sorted(e.counts.items())), e.quarantine.checksum if e.quarantine else ""] for e in sent]
    if not any(counts or quarantined for counts, quarantined in told):
        return unit
    *others, last = unit.entries
    key = digest([last.key, told])[:24]
    entry = find(context.directory, key) or joined(context.directory, key, last, sent)
    return replace(unit, entries=(*others, entry))


def _stage(context: Context) -> Shuffle:
    assert isinstance(context.stage, Shuffle)
    return context.stage
