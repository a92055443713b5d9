"""Reduces: groups of units make pieces, pieces are merged until few are left, and these make the one unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from annotate.engine.attempts import in_time, tried
from annotate.engine.calls import Calls
from annotate.engine.datasets import Aligned, Dataset
from annotate.engine.documents import by_documents
from annotate.engine.reading import Searched
from annotate.engine.running import Running, chunks, in_order
from annotate.engine.worker import Context, frugal, made_of
from annotate.graph import Reduce, digest, first_unit
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import UnitOutput, commit, read_part

PIECES = 64  # most units in one piece, and most pieces in one merge
WHOLE = "all pieces"  # the name of the last task in messages

# In the driver.


def steps(datasets: Sequence[Dataset], running: Running) -> Iterator[Calls]:
    """A step that makes the pieces, a step for each round of merging, and a last one that makes the unit."""
    (dataset,) = datasets
    stage, aligned = dataset.stage, Aligned.of(dataset)
    context = running.put(running.context(dataset, aligned))
    running.events.started(dataset.label, 1)
    made: dict[int, Unit] = {}

    def name(work: Work) -> str:
        units = aligned.number()
        return f"piece {work.number // PIECES + 1}" + ("" if units is None else f" of {-(-units // PIECES)}")

    step = Searched(label=dataset.label, dataset=dataset, running=running, context=context, name=name)
    yield Calls(
        items=_groups(dataset, aligned),
        submit=lambda work, cpus: running.task(make_piece, cpus, context, work, stage=dataset.label, units=name(work)),
        name=name,
        take=lambda index, work, unit: made.update({index: unit}),
        narrowing=by_documents(step, try_pieces),
    )
    pieces = in_order(made)
    while len(pieces) > PIECES:
        merged: dict[int, Unit] = {}
        yield Calls(
            items=_merges(dataset, pieces),
            submit=lambda item, cpus: running.task(
                merge_pieces, cpus, context, *item[1:], stage=dataset.label, units=item[0]
            ),
            name=lambda item: item[0],
            take=lambda index, item, unit, merged=merged: merged.update({index: unit}),  # type: ignore[misc]
        )
        pieces = in_order(merged)
    key = digest([stage.recipe, "finish", [piece.identity for piece in pieces], aligned.key(stage, [])])[:24]
    collected = running.collect(datasets)
    yield Calls(
        items=iter([key]),
        submit=lambda key, cpus: running.task(finish, cpus, context, key, pieces, stage=dataset.label, units=WHOLE),
        name=lambda key: WHOLE,
        take=lambda index, key, unit: collected.take(index, [[unit]]),
    )
    collected.commit()


def _groups(dataset: Dataset, aligned: Aligned) -> Iterator[Work | None]:
    number = 0
    for units in chunks(aligned.units(), PIECES):
        if units is None:
            yield None
            continue
        key = aligned.key(dataset.stage, units, "piece")
        yield Work(key, first_unit(units[0]).shard, 0, 0, 0, tuple(units), number)
        number += len(units)


def _merges(dataset: Dataset, pieces: Sequence[Unit]) -> Iterator[tuple[str, str, list[Unit]]]:
    """Merges of pieces: the name in messages, the key, and the pieces."""
    first = 1
    for units in chunks(iter(pieces), PIECES):
        assert units is not None, "all are there"
        name = f"pieces {first} to {first + len(units) - 1} of {len(pieces)}"
        yield name, digest([dataset.stage.recipe, "merge", [unit.identity for unit in units]])[:24], units
        first += len(units)


def count(dataset: Dataset) -> tuple[int, int] | None:
    """None: the key of the unit is known only once the pieces are there."""
    del dataset
    return None


def ahead(dataset: Dataset, units: int) -> int | None:
    """One unit, whatever is read."""
    del dataset, units
    return 1


# In a worker.


@frugal
def make_piece(context: Context, work: Work) -> Unit:
    """Make one piece of some units, and commit it."""
    stage = _stage(context)
    reach("unit: started")
    entries = context.committed(work.key)
    if entries is None:
        merged = _piece(context, work)
        reach("unit: computed")
        entries = (commit(context.directory, work.key, UnitOutput(merged), schema=stage.piece_schema),)
    return made_of(*entries)


def _piece(context: Context, work: Work) -> pa.Table:
    stage = _stage(context)
    with in_time(context, len(work.units)):
        return stage.merge(stage.piece(tables) for tables in context.tables(work))


def try_pieces(context: Context, works: Sequence[Work]) -> None:
    """Try whether making a piece ends this process."""
    tried(context, works, _piece)


@frugal
def merge_pieces(context: Context, key: str, pieces: Sequence[Unit]) -> Unit:
    """Merge committed pieces, and commit the result as a piece."""
    stage = _stage(context)
    entries = context.committed(key)
    if entries is None:
        merged = stage.merge(_tables(context, pieces))
        entries = (commit(context.directory, key, UnitOutput(merged), schema=stage.piece_schema),)
    return made_of(*entries)


@frugal
def finish(context: Context, key: str, pieces: Sequence[Unit]) -> Unit:
    """Make the unit from committed pieces, and commit it."""
    stage = _stage(context)
    reach("unit: started")
    entries = context.committed(key)
    if entries is None:
        output = stage.finish(stage.merge(_tables(context, pieces)), context.shared())
        reach("unit: computed")
        entries = (commit(context.directory, key, output, schema=stage.schema),)
    return made_of(*entries)


def _tables(context: Context, pieces: Sequence[Unit]) -> Iterator[pa.Table]:
    schema = _stage(context).piece_schema
    return (read_part(context.directory, entry.part, schema=schema) for unit in pieces for entry in unit.entries)


def _stage(context: Context) -> Reduce:
    assert isinstance(context.stage, Reduce)
    return context.stage
