"""Searches for the documents that end the worker of a partition, by making its unit of what some documents send.

A partition has rows of many units, and its rows need not say which documents they are of. So the documents of all units
that send to it are searched. Where all documents of what a task sent are tried, its rows are read as they were sent;
where some are, they are sent once more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.engine.attempts import in_time, tried
from annotate.engine.calls import Narrowing
from annotate.engine.documents import Documents, among_documents
from annotate.engine.reading import Searched
from annotate.engine.worker import Context
from annotate.graph import Partitions, Received, Shuffle
from annotate.graph.tables import Work
from annotate.storage.manifests import Unit
from annotate.storage.parts import parquet_bytes
from annotate.storage.slice_reader import Slices
from annotate.storage.slices import TO, by_partition
from annotate.text.arrays import held_bytes

KEPT_BYTES = 64 << 20
"""Rows of a partition that are kept after their size was counted; if there are more, they are read once more."""

# In the driver.


@dataclass(frozen=True)
class Senders:
    """What was sent to partitions, and by which documents.

    Attributes:
        sent: for each task that sent rows, what it committed.
        works: streams the work of these tasks.
        to: the partitions.
    """

    sent: Sequence[Unit]
    works: Callable[[], Iterator[Work]]
    to: Partitions

    def narrowing(self, step: Searched, beside: tuple[int, int]) -> Narrowing:
        """Narrow the units of partitions to what some documents have sent.

        Args:
            step: in which partitions make their units.
            beside: the numbers of units and rows of the first input beside.
        """
        documents = Documents(self.works)
        sent = functools.cache(lambda: step.running.put(list(self.sent)))

        def attempt(item: tuple[Sequence[Work], Any], part: range, cpus: float) -> Any:
            whole, cut = documents.whole(part), documents.cut(part)
            return step.task(try_receiving, cpus, item, step.context, item[0], sent(), whole, cut, self.to, beside)

        return among_documents(step, lambda item: documents, attempt)


# In a worker.


def try_receiving(
    context: Context,
    works: Sequence[Work],
    sent: Sequence[Unit],
    whole: npt.NDArray[np.int64],
    cut: Sequence[Work],
    to: Partitions,
    beside: tuple[int, int],
) -> None:
    """Try whether the units of some partitions end this process, if only some documents have sent rows.

    Args:
        context: of the shuffle.
        works: the partitions.
        sent: all that tasks have sent.
        whole: the numbers of those in `sent` that are read as they are.
        cut: work that is sent once more.
        to: the partitions that rows can be sent to.
        beside: the numbers of units and rows of the first input beside.
    """
    stage = context.stage
    assert isinstance(stage, Shuffle)
    parts = [[entry.part for entry in unit.entries] for unit in sent]
    read = [next(part for some in parts for part in some), *(part for i in whole for part in parts[i])]
    numbers = range(works[0].start // to.width, works[-1].start // to.width + 1)
    slices = Slices(context.directory, read, numbers, schema=stage.sent_schema)
    slices.read_together(numbers)

    @functools.cache
    def again() -> list[pa.Table]:
        outputs = (output for work in cut for tables in context.tables(work) for output in stage.send(tables, to))
        return [by_partition(output.table) for output in outputs]

    def rows(partition: int) -> Iterator[pa.Table]:
        # The first part is read for a table without rows, as there has to be one.
        for i, table in enumerate(slices.tables(partition // to.width)):
            yield _to(table, partition) if i else table.slice(0, 0)
        yield from (_to(table, partition) for table in again())

    def attempt(context: Context, work: Work) -> None:
        kept, size = [], 0
        for table in rows(work.start):
            size += held_bytes(table)
            kept += [table] if size <= KEPT_BYTES else []
        tables = partial(rows, work.start) if size > KEPT_BYTES else lambda: iter(kept)
        received = Received(work.start, tables, size, context.tables(work), *beside)
        with in_time(context, units_received(context, work, size)):
            for output in stage.receive(received):
                parquet_bytes(output.table, large_rows=output.large_rows)

    tried(context, works, attempt)


def _to(table: pa.Table, partition: int) -> pa.Table:
    return table.filter(pc.equal(table[TO], partition))


def units_received(context: Context, work: Work, size: int) -> int:
    """How many work units a partition is worth, for a limit of time: those beside it, or that its bytes would fill."""
    return max(len(work.units), -(-size // max(1, context.unit_bytes)))
