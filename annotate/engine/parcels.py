"""Parcels: the units that one task of a shuffle reads, to send their rows; how it puts these; names of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from annotate.engine.attempts import in_time, tried
from annotate.engine.datasets import Aligned
from annotate.engine.worker import Context, give_back
from annotate.graph import ITSELF, RANGE_UNITS, Partitions, Shuffle, first_unit
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, UnitOutput
from annotate.storage.slices import by_partition, put_slices
from annotate.text.arrays import held_bytes

Parcelled = Mapping[str, Unit]
"""A unit of an input that sends rows, with those of the inputs that are read beside it, by name."""


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


def sending(
    parcels: Iterator[list[Parcelled] | None], whole: Aligned, stage: Shuffle, round_: str, to: Partitions
) -> Iterator[Work | None]:
    """Stream the work of the tasks that send the rows of parcels to partitions.

    Args:
        parcels: as `parcels` gives them.
        whole: the inputs that are read whole.
        stage: the shuffle.
        round_: the name of the round, if there are several.
        to: the partitions.
    """
    # The bytes of a part are in the key: a task that was killed leaves some parts, and the next one goes on with parts
    # that are cut at the same rows.
    purpose = f"to {to.groups} by {to.most}" + (f" in slices of {to.width}" if to.width > 1 else "")
    number = 0
    for parcel in parcels:
        if parcel is None:
            yield None
            continue
        key = whole.key(stage, parcel, f"send {round_} from {number} {purpose}")
        yield Work(key, first_unit(parcel[0]).shard, number, number + len(parcel), 0, tuple(parcel), number)
        number += len(parcel)


def again(units: Sequence[Unit]) -> Iterator[Parcelled | None]:
    """Units of the stage's own dataset, to be sent in the next round."""
    return ({ITSELF: unit} for unit in units)


def sender_name(work: Work) -> str:
    """The name of a task that sends rows."""
    return f"what {work.shard} sends" if work.shard else f"what units from {work.start} on send"


def regrouper_name(item: tuple[range, Any]) -> str:
    """The name of a task of the middle level."""
    return f"what goes to groups {item[0].start} to {item[0].stop - 1} of partitions"


def receiver_name(item: tuple[Sequence[Work], Any]) -> str:
    """The name of a task that makes the units of partitions."""
    works, _ = item
    return f"partition {works[0].start}" + (f" and {len(works) - 1} more" if works[1:] else "")


def try_sending(context: Context, works: Sequence[Work], to: Partitions) -> None:
    """Try, in a worker, whether sending the rows of some documents ends its process."""
    stage = context.stage
    assert isinstance(stage, Shuffle)

    def attempt(context: Context, work: Work) -> None:
        with in_time(context, len(work.units)):
            for tables in context.tables(work):
                for output in stage.send(tables, to):
                    by_partition(output.table)

    tried(context, works, attempt)


def put_sent(
    context: Context, key: str, outputs: Iterator[UnitOutput], most: int, width: int, *, apart: bool = False
) -> Iterator[Entry]:
    """Put sent rows, in parts of about `most` bytes; `width` and `apart` as for `put_slices`."""
    stage = context.stage
    assert isinstance(stage, Shuffle)
    sent: list[pa.Table] = []
    bad: list[pa.Table] = []
    counts: Counter[str] = Counter()
    size = 0

    def put() -> Entry:
        reach("unit: computed")
        quarantine = pa.concat_tables(bad) if bad else None
        entry = put_slices(
            context.directory,
            key,
            sent,
            schema=stage.sent_schema,
            width=width,
            quarantine=quarantine,
            counts=dict(counts),
            apart=apart,
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
