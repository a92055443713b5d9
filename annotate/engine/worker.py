"""What runs in a Ray worker: read the inputs of a unit, call the stage, commit the result.

Everything here is a plain function or class; `annotate.engine.run` makes remote ones of them. Each unit is looked up
before it is computed, so whatever is tried again costs only what was not committed.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import Map, Received, Reduce, Regroup, Shuffle, Stage, Tables, Work, digest
from annotate.models.base import Forward, Scores
from annotate.scorers.anchors import check_anchors
from annotate.stages.score import Batch, Score, finish, missing_rows, prepare
from annotate.storage import layout
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import (
    Entry,
    Output,
    Part,
    chain,
    commit,
    commit_all,
    find_all,
    heal,
    intact,
    joined,
    put_output,
    read_entry,
    read_part,
)
from annotate.storage.slices import (
    by_partition,
    commit_slices,
    put_slices,
    read_slice,
    slice_bytes,
    slice_checksum,
    slice_index,
)
from annotate.storage.store import Directory
from annotate.text.arrays import held_bytes

P = ParamSpec("P")
R = TypeVar("R")


def frugal(work: Callable[P, R]) -> Callable[P, R]:
    """Give back what allocators keep of the memory of a unit when it is done: else it adds up from unit to unit."""

    @functools.wraps(work)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        result = work(*args, **kwargs)
        _give_back()
        return result

    return wrapped


def _give_back() -> None:
    pa.default_memory_pool().release_unused()
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The function of glibc that gives freed pages back, which NumPy's arrays leave; None with another library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows takes no None
        return None


@dataclass(frozen=True)
class Context:
    """What all units of a stage share; it travels once to each worker.

    `whole` has the units of wide inputs, which every unit reads whole.
    """

    stage: Stage
    workdir: Directory
    whole: Mapping[str, tuple[Unit, ...]]

    @property
    def directory(self) -> Directory:
        """Where the stage's dataset lies."""
        return self.workdir.child(self.stage.dataset)

    def shared(self) -> dict[str, pa.Table]:
        """Whole tables of wide inputs."""
        tables = {}
        for name, units in self.whole.items():
            source = self.stage.inputs[name]
            parts = tuple(entry.part for unit in units for entry in unit.entries)
            tables[name] = _whole(self.workdir.child(source.dataset), parts, source.schema)
        return tables

    def tables(self, work: Work) -> Iterator[Tables]:
        """The tables of each group of input units, in order."""
        shared = self.shared()
        return (Tables(self.stage, self.workdir, units, shared, work.number + i) for i, units in enumerate(work.units))


@functools.lru_cache(maxsize=8)
def _whole(directory: Directory, parts: tuple[Part, ...], schema: str) -> pa.Table:
    return pa.concat_tables([read_part(directory, part, schema=schema) for part in parts])


def find(directory: Directory, key: str) -> Entry | None:
    """The entry of a committed unit whose parts are there; None if it is to be computed."""
    entry = read_entry(directory, key)
    return entry if entry is not None and intact(directory, entry) else None


def run_units(context: Context, works: Sequence[Work]) -> list[Unit]:
    """Make and commit units of a narrow or regroup stage, in turn."""
    return [_run_unit(context, work) for work in works]


@frugal
def _run_unit(context: Context, work: Work) -> Unit:
    reach("unit: started")
    entries = find_all(context.directory, work.key)
    if entries is None:
        entries = _commit_parts(context, work.key, _make(context, work))
    return Unit(work.shard, work.start, work.stop, work.text_bytes, entries)


def _make(context: Context, work: Work) -> Iterator[Output]:
    tables = context.tables(work)
    if isinstance(context.stage, Regroup):
        return context.stage.regrouped(tables)
    assert isinstance(context.stage, Map)
    return iter([context.stage.unit(next(tables))])


def _commit_parts(context: Context, key: str, outputs: Iterator[Output]) -> tuple[Entry, ...]:
    """Commit the parts of a unit as they come, of which one at a time is in memory."""

    def put(output: Output) -> Entry:
        reach("unit: computed")
        entry = put_output(context.directory, key, output, schema=context.stage.schema)
        _give_back()
        return entry

    return commit_all(context.directory, key, map(put, outputs))


@frugal
def run_pieces(context: Context, work: Work, schema: str) -> Unit:
    """Merge the pieces of some units of a wide stage and commit them as one piece."""
    stage = context.stage
    assert isinstance(stage, Reduce)
    reach("unit: started")
    entry = find(context.directory, work.key)
    if entry is None:
        merged = stage.merge(stage.piece(tables) for tables in context.tables(work))
        reach("unit: computed")
        entry = commit(context.directory, work.key, Output(merged), schema=schema)
    return Unit("", 0, 0, 0, (entry,))


@frugal
def merge_pieces(context: Context, key: str, pieces: Sequence[Unit], schema: str) -> Unit:
    """Merge committed pieces of a wide stage and commit the merged piece."""
    entry = find(context.directory, key)
    if entry is None:
        assert isinstance(context.stage, Reduce)
        merged = context.stage.merge(_pieces(context, pieces, schema))
        entry = commit(context.directory, key, Output(merged), schema=schema)
    return Unit("", 0, 0, 0, (entry,))


@frugal
def finish_wide(context: Context, key: str, pieces: Sequence[Unit], work: Work | None) -> Unit:
    """Commit the dataset of a wide stage, from committed pieces, or from all units of its inputs at once."""
    stage = context.stage
    assert isinstance(stage, Reduce)
    reach("unit: started")
    entry = find(context.directory, key)
    if entry is None:
        if work is not None:
            merged = stage.merge(stage.piece(tables) for tables in context.tables(work))
        else:
            assert stage.piece_schema is not None
            merged = stage.merge(_pieces(context, pieces, stage.piece_schema))
        output = stage.finish(merged, context.shared())
        reach("unit: computed")
        entry = commit(context.directory, key, output, schema=stage.schema)
    return Unit("", 0, 0, 0, (entry,))


def _pieces(context: Context, pieces: Sequence[Unit], schema: str) -> Iterator[pa.Table]:
    return (read_part(context.directory, entry.part, schema=schema) for unit in pieces for entry in unit.entries)


@frugal
def send(context: Context, work: Work, senders: Sequence[Stage], partitions: int) -> Unit:
    """Commit what some units send, each of a dataset of the stage beside it, in slices by partition."""
    stage = context.stage
    assert isinstance(stage, Shuffle)
    reach("unit: started")
    entry = find(context.directory, work.key)
    if entry is None:
        sent = []
        for number, (sender, units) in enumerate(zip(senders, work.units, strict=True), work.number):
            table = sender.read(context.workdir.child(sender.dataset), next(iter(units.values())))
            sent.append(by_partition(stage.send(table, number, partitions)))
        reach("unit: computed")
        entry = commit_slices(context.directory, work.key, sent, schema=stage.sent_schema)
    return Unit("", 0, 0, 0, (entry,))


@frugal
def receive(context: Context, work: Work, pieces: Sequence[Unit], units: int, rows: int) -> Unit:
    """Commit the unit of a partition of an exchange, from the slices that were sent to it."""
    stage = context.stage
    assert isinstance(stage, Shuffle)
    reach("unit: started")
    entry = find(context.directory, work.key)
    if entry is None:
        slices = (
            read_slice(context.directory, entry.part, work.start, schema=stage.sent_schema)
            for unit in pieces
            for entry in unit.entries
        )
        sent = pa.concat_tables(slices)
        output = stage.receive(Received(work.start, units, rows, sent, context.tables(work)))
        reach("unit: computed")
        entry = commit(context.directory, work.key, output, schema=stage.schema)
    return Unit("", 0, 0, 0, (entry,))


@frugal
def send_rows(context: Context, work: Work, partitions: tuple[int, ...], most: int) -> Unit:
    """Commit what some units send to the parts of a regroup stage, in slices by part, of about `most` bytes a piece."""
    stage = context.stage
    assert isinstance(stage, Regroup)
    reach("unit: started")
    entries = find_all(context.directory, work.key)
    if entries is None:
        outputs = (output for tables in context.tables(work) for output in stage.send(tables, partitions, most))
        entries = commit_all(context.directory, work.key, _sent_pieces(context, work.key, outputs, most))
    return Unit("", 0, 0, 0, entries)


def _sent_pieces(context: Context, key: str, outputs: Iterator[Output], most: int) -> Iterator[Entry]:
    """Put what is sent, in pieces of about `most` bytes."""
    stage = context.stage
    assert isinstance(stage, Regroup)
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
        _give_back()
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


def make_parts(context: Context, some: range, partitions: int, pieces: Sequence[Unit]) -> list[Unit]:
    """Commit some parts of a regroup stage, of all `partitions`, from what was sent to them."""
    sent = [entry for unit in pieces for entry in unit.entries]
    # Read once: the index of a piece can be larger than the slice that a part has in it.
    indices = [slice_index(context.directory, entry.part, some) for entry in sent]
    return [_make_part(context, partition, partitions, sent, indices) for partition in some]


@frugal
def _make_part(
    context: Context, partition: int, partitions: int, sent: Sequence[Entry], indices: Sequence[pa.Table]
) -> Unit:
    """Commit a part from the pieces that were sent.

    It is named by what it is made of, so that one whose rows are the same stays as it is. What the pieces have counted
    and put in quarantine is shared out among the parts.
    """
    stage, directory = context.stage, context.directory
    assert isinstance(stage, Regroup)
    reach("unit: started")
    sums = [slice_checksum(index, partition) for index in indices]
    key = digest([stage.recipe, "part", partition, sums])[:24]
    made = find_all(directory, key)
    if made is None:

        def slices() -> Iterator[pa.Table]:
            for entry, index in zip(sent, indices, strict=True):
                yield read_slice(directory, entry.part, partition, schema=stage.sent_schema, index=index)

        size = sum(slice_bytes(index, partition) for index in indices)
        made = _commit_parts(context, key, stage.receive(slices, size))
    own = sent[partition::partitions]
    told = [[dict(sorted(e.counts.items())), e.quarantine.checksum if e.quarantine else ""] for e in own]
    key = digest([key, told])[:24]
    entry = find(directory, key) or joined(directory, key, made[-1], own)
    return Unit("", 0, 0, 0, (*made[:-1], entry))


# Scoring: prepare (CPU) -> Model.score (holds the model) -> finish (CPU), for a group of stages on one backbone.


@frugal
def prepare_unit(contexts: Sequence[Context], works: Sequence[Work]) -> list[Batch]:
    """Prepare what a unit still lacks: one batch for each set of documents that some stages have not scored."""
    reach("unit: started")
    lacking: dict[bytes, tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[int]]] = {}
    for i, (context, work) in enumerate(zip(contexts, works, strict=True)):
        tables = next(context.tables(work))
        stage = context.stage
        assert isinstance(stage, Score)
        rows = missing_rows(tables, _scored(context, work), verdicts=stage.skip is not None)
        if len(rows) or not _entries(context, work):
            lacking.setdefault(rows.tobytes(), (rows, []))[1].append(i)
    first = contexts[0].stage
    assert isinstance(first, Score)
    tables = next(contexts[0].tables(works[0]))
    return [prepare(first, tables, rows, wanted) for rows, wanted in lacking.values()]


def _entries(context: Context, work: Work) -> list[Entry]:
    """The entries of a scored unit whose parts are there."""
    return [entry for entry in chain(context.directory, work.key) if intact(context.directory, entry)]


def _scored(context: Context, work: Work) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rows = [
        read_part(context.directory, entry.part, schema=context.stage.schema, columns=["row"])["row"].to_numpy()
        for entry in _entries(context, work)
    ]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)


@dataclass(frozen=True)
class Scored:
    """Scores of the batches of one unit, and the kind of device that made them."""

    device: str
    scores: Sequence[Sequence[Scores]]


@frugal
def finish_unit(
    contexts: Sequence[Context], works: Sequence[Work], batches: Sequence[Batch], scored: Scored
) -> list[Unit]:
    """Commit the scores of a unit, for each stage of the group."""
    for batch, scores in zip(batches, scored.scores, strict=True):
        for i, values in zip(batch.wanted, scores, strict=True):
            _append(contexts[i], works[i], batch, values, scored.device)
    return [
        Unit(work.shard, work.start, work.stop, work.text_bytes, tuple(_entries(context, work)))
        for context, work in zip(contexts, works, strict=True)
    ]


def _append(context: Context, work: Work, batch: Batch, scores: Scores, device: str) -> None:
    """Append an entry with the scores of the documents that no entry has yet.

    An entry whose part is gone is healed if these are its scores; else it stays, and counts for nothing. Another run
    may append at the same time: then its entry stands, and what it lacks goes into the next.
    """
    stage = context.stage
    assert isinstance(stage, Score)
    while True:
        entries = list(chain(context.directory, work.key))
        covered = _scored(context, work)
        if _entries(context, work) and np.isin(batch.row, covered).all():
            return
        output = finish(stage, work.shard, batch, scores, device, covered=covered)
        reach("unit: computed")
        if not heal(context.directory, entries, output, schema=stage.schema):
            commit(context.directory, layout.numbered(work.key, len(entries)), output, schema=stage.schema)


class Model:
    """Holds the models of a group of scoring stages; one a GPU, or CPU share."""

    def __init__(self, stages: Sequence[Score], device: str, threads: int) -> None:
        self._stages = list(stages)
        self._threads = threads
        if any(stage.scorer.backbone.gpu for stage in stages):
            # What a model needs is slow to import: meanwhile the first unit is being prepared elsewhere.
            importlib.import_module("torch")
            importlib.import_module("transformers")
        self._device = device
        self._forward: Forward | None = None

    def score(self, batches: Sequence[Batch]) -> Scored:
        """Score batches, each for the stages it is wanted for; the model is loaded when there is the first to score."""
        scored = []
        for batch in batches:
            stages = [self._stages[i] for i in batch.wanted]
            if batch.prepared.distinct == 0:
                scored.append([Scores(values=np.empty((0, len(stage.axes)), np.float32)) for stage in stages])
                continue
            if self._forward is None:
                self._forward = self._load()
                reach("actor: loaded")
            scores = self._forward(batch.prepared, batch.wanted)
            for stage, values in zip(stages, scores, strict=True):
                _check(stage, batch, values)
            scored.append(scores)
        reach("actor: scored")
        return Scored(_kind(self._forward) if any(batch.prepared.distinct for batch in batches) else "", scored)

    def _load(self) -> Forward:
        scorers = [stage.scorer for stage in self._stages]
        forward = scorers[0].backbone.load(scorers, self._device)
        if _device(forward) is not None:
            from annotate.models.device import use_threads

            use_threads(self._threads)
        check_anchors(scorers, scorers[0].backbone, forward)
        return forward


def _device(forward: Forward | None) -> Any:
    """The torch device of a model; None for what runs without torch, which is then not even imported."""
    return None if forward is None else forward.device


def _kind(forward: Forward | None) -> str:
    device = _device(forward)
    if device is None:
        return "python"
    from annotate.models.device import device_kind

    return device_kind(device)


def _check(stage: Score, batch: Batch, scores: Scores) -> None:
    expected = (batch.prepared.distinct, len(stage.axes))
    if scores.values.shape != expected or scores.values.dtype != np.float32:
        raise ConfigError(
            f"the scorer of {', '.join(stage.axes)} gave {scores.values.dtype} scores of shape {scores.values.shape}; "
            f"expected float32 {expected}: one row an input, one column an axis"
        )
