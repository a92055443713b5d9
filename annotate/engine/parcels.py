"""Parcels: the units that one task of a shuffle reads, to send their rows; and the names of its tasks in messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from annotate.engine.documents import in_time, tried
from annotate.engine.worker import Context
from annotate.graph import ITSELF, RANGE_UNITS, Partitions, Shuffle
from annotate.graph.tables import Work
from annotate.storage.manifests import Unit
from annotate.storage.slices import by_partition

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
        with in_time(context, work):
            for tables in context.tables(work):
                for output in stage.send(tables, to):
                    by_partition(output.table)

    tried(context, works, attempt)
