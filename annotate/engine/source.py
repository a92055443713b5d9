"""Sources: Ray imports files if that is necessary; then the driver lists the units, and commits the list."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from annotate import tally
from annotate.engine.calls import Calls, Job, Narrowing
from annotate.engine.datasets import Dataset
from annotate.engine.running import Running, in_order
from annotate.errors import StorageError
from annotate.graph import ImportStep, Listing, Source, Stage, digest, every, graph, lineages, source_of
from annotate.storage.layout import UNIT_SIZE
from annotate.storage.refusals import read_refusals
from annotate.storage.store import Directory

UNITS = 4096
"""Number of units that a source is cut into, within these limits of the bytes of text in a unit."""
LEAST_UNIT_BYTES, MOST_UNIT_BYTES = 1 << 18, 64 << 20
BATCH_FILES = 32
BATCH_BYTES = 64 << 20


def open_source(
    source: Source,
    workdir: Directory,
    *,
    found: Any = None,
    inputs: Mapping[str, Dataset] | None = None,
    limit: int | None = None,
    readers: Mapping[str, str] | None = None,
    refused_by: Collection[str] = (),
    notes: Directory | None = None,
) -> Dataset:
    """List the units of a source and commit the list.

    Args:
        source: the stage.
        workdir: where its dataset lies.
        found: what the import of its files returned; None to ask the source for it.
        inputs: the datasets of the sources that it reads, opened before.
        limit: documents to reach; None for all.
        readers: the columns that stages read, each with the label of one that does.
        refused_by: fingerprints of the stages whose refusals of documents hold, as `lineages` gives them.
        notes: the work directory that has the refusals, if it is another one.

    Raises:
        ConfigError: files must be imported first.
        InputError: something can't be read, or is not there.
    """
    directory = workdir.child(source.dataset)
    inputs = inputs or {}
    refused = list(read_refusals((notes or workdir).child(source.dataset), refused_by)) if refused_by else []
    own = lineages(graph([source]))[source]
    unreadable = [refusal for refusal in refused if refusal.stage == own]
    refused = [refusal for refusal in refused if refusal.stage != own]
    listing = source.listing(
        lambda: Listing(directory, refused, unreadable),
        source.imported(directory) if found is None else found,
        {name: dataset.units() for name, dataset in inputs.items()},
        limit=limit,
        readers=readers or {},
    )
    known = source.fingerprint({name: dataset.fingerprint for name, dataset in inputs.items()})
    dataset = Dataset(source, directory, digest([known, *listing.identity]), inputs, source.label)
    dataset.commit(listing.writer)
    return dataset


def choose_unit_sizes(
    stages: Iterable[Stage], wanted: Iterable[Stage], workdir: Directory, found: Mapping[Stage, Any], *, keep: bool
) -> None:
    """Choose the size of units of sources that leave it to the run.

    The first run chooses it, by the size of the source, and keeps it in the work directory. So it stays as it is when
    the source grows, and with it all units that are committed. Sources with one dataset have one size.

    Args:
        stages: the stages, equal ones once.
        wanted: those that the others are made for.
        workdir: the work directory.
        found: what the import of each source returned.
        keep: whether to write the size into the work directory; a plan does not.
    """
    measured: dict[str, int] = {}
    for stage in stages:
        if isinstance(stage, Source) and (size := stage.measured(found[stage])) is not None:
            measured[stage.dataset] = measured.get(stage.dataset, 0) + size
    chosen = {name: kept_unit_size(workdir.child(name), unit_size(size), keep=keep) for name, size in measured.items()}
    for stage in every(wanted):  # also equal ones: each is sent to workers by itself
        if isinstance(stage, Source) and stage.dataset in chosen:
            stage.choose_unit_size(chosen[stage.dataset])


def unit_size(size: int) -> int:
    """The size of units of a source of this size: about `UNITS` of them, within limits, a power of 2."""
    return min(MOST_UNIT_BYTES, max(LEAST_UNIT_BYTES, 1 << max(0, -(-size // UNITS) - 1).bit_length()))


def kept_unit_size(directory: Directory, size: int, *, keep: bool) -> int:
    """The size of units that the folder of a dataset keeps; if there is none, `size`, which is then kept.

    Raises:
        StorageError: the file that keeps it is damaged.
    """
    if keep and directory.put_new(UNIT_SIZE, json.dumps({"unit_bytes": size}).encode()):
        return size
    try:
        kept = json.loads(directory.get(UNIT_SIZE))["unit_bytes"]
    except FileNotFoundError:
        return size
    except (ValueError, KeyError, TypeError):
        kept = None
    if not isinstance(kept, int) or kept < 1:
        raise StorageError(
            f"{directory.url}/{UNIT_SIZE} is damaged: it should say how many bytes of text a work unit has",
            hint='Write {"unit_bytes": N} into it, with the size that units had, or delete it: then a run chooses '
            "the size again, and may make all units again.",
        )
    return kept


def open_all(
    stages: Sequence[Stage],
    workdir: Directory,
    outputs: Iterable[Stage],
    limit: int | None,
    found: Mapping[Stage, Any],
    notes: Directory | None = None,
) -> dict[Stage, Dataset]:
    """Open the sources among stages, in order.

    `found` has what the import of each returned; `notes` is the work directory that has refusals, if it is another one.
    """
    cut = limited(outputs)
    refused_by = set(lineages(stages).values())
    opened: dict[Stage, Dataset] = {}
    for stage in stages:
        if isinstance(stage, Source):
            opened[stage] = open_source(
                stage,
                workdir,
                found=found.get(stage),
                inputs={name: opened[source] for name, source in stage.inputs.items()},
                limit=limit if stage in cut else None,
                readers=columns_read(stages, stage),
                refused_by=refused_by,
                notes=notes,
            )
    return opened


def limited(outputs: Iterable[Stage]) -> set[Stage]:
    """The sources whose documents end in an output. Only these are cut by a limit.

    Other sources are read whole: labels, and a corpus that another is filtered against.
    """
    return {source_of(stage) for stage in outputs}


def columns_read(stages: Iterable[Stage], documents: Stage) -> dict[str, str]:
    """The columns of documents that stages read, each with the label of one that does."""
    readers = (stage for stage in stages if documents in stage.inputs.values())
    return {name: stage.label for stage in readers for name in stage.columns_read}


class ImportJob:
    """The import of a source, as a job.

    Attributes:
        found: what the import returned, when the job is done.
    """

    def __init__(self, source: Source, running: Running) -> None:
        self._source, self._running = source, running
        self.found: Any = None

    def job(self) -> Job:
        """The job."""
        return Job(self._source.label, lambda: True, self._steps())

    def _steps(self) -> Iterator[Calls]:
        imports = self._source.imports(self._running.workdir.child(self._source.dataset))
        made: list[Any] | None = None
        while True:
            try:
                step = next(imports) if made is None else imports.send(made)
            except StopIteration as end:
                self.found = end.value
                return
            results: dict[int, list[Any]] = {}
            yield self._calls(step, results)
            self._running.events.finished(step.label)
            made = [result for some in in_order(results) for result in some]

    def _calls(self, step: ImportStep, results: dict[int, list[Any]]) -> Calls:
        self._running.events.started(step.label, len(step.items), of=[])

        def take(index: int, batch: Batch, made: list[Any]) -> None:
            found = dict(zip(batch.left, made, strict=True)) | {i: step.crashed(batch.items[i]) for i in batch.left_out}
            results[index] = in_order(found)
            self._running.events.advanced(step.label, len(batch.items), 0)

        def submit(batch: Batch, cpus: float) -> Any:
            return self._task(step, cpus, batch, batch.left)

        def attempt(batch: Batch, part: range, left_out: Sequence[int], cpus: float) -> Any:
            return self._task(step, cpus, batch, [i for i in part if i not in left_out])

        return Calls(
            items=map(Batch, _batches(step.items)),
            submit=submit,
            name=str,
            take=take,
            narrowing=Narrowing(
                count=lambda batch, cpus: len(batch.items),
                attempt=attempt,
                without=lambda batch, found: replace(batch, left_out=tuple(found)),
                inputs="files",
            ),
        )

    def _task(self, step: ImportStep, cpus: float, batch: Batch, some: Sequence[int]) -> Any:
        items = [batch.items[i] for i in some]
        return self._running.task(import_files, cpus, step.work, items, stage=step.label, units=str(batch))


@dataclass(frozen=True)
class Batch:
    """Items that one task imports, without those that end its worker, which are given by number."""

    items: Sequence[Any]
    left_out: tuple[int, ...] = ()

    @property
    def left(self) -> list[int]:
        """The numbers of the items that are imported."""
        return [i for i in range(len(self.items)) if i not in self.left_out]

    def __str__(self) -> str:
        return _names(self.items)


def import_files(work: Any, batch: Sequence[Any]) -> Any:
    """Do a step of an import on some items, in a worker. What it does not write it reads."""
    with tally.phase("read"):
        return work(batch)


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    """Put small files into one task."""
    batch: list[Any] = []
    for item in items:
        if batch and (len(batch) == BATCH_FILES or sum(i.size for i in batch) + item.size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _names(batch: Sequence[Any]) -> str:
    more = f" and {len(batch) - 3} more" if len(batch) > 3 else ""
    return ", ".join(str(item) for item in itertools.islice(batch, 3)) + more
