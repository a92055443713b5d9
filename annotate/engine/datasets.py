"""The datasets of one run: which are committed, which are needed, and the work units that make the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

from annotate.corpus.column_types import ColumnTypes
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import ConfigError, InputError
from annotate.graph import RANGE_UNITS, Map, Reduce, Shuffle, Source, Stage, Work, digest, documents_of
from annotate.stages.attributes import AttributeFiles
from annotate.stages.corpus import SAID, UNREADABLE, Corpus
from annotate.stages.score import Score
from annotate.stages.shards import SHARDS, Shards
from annotate.storage import layout
from annotate.storage.latest import Latest
from annotate.storage.manifests import Manifest, ManifestWriter, Unit, missing_parts, read_manifest, read_units
from annotate.storage.parts import committed_keys
from annotate.storage.store import Directory

COUNTED = 50_000


@dataclass
class Dataset:
    """A stage's dataset in a work directory; `manifest` is None until it is committed.

    `label` tells it from the other datasets of the pipeline: the stage's own, with the output's name for named shards,
    numbered where two stages have one. `output` is the name of an output of the pipeline.
    """

    stage: Stage
    directory: Directory
    fingerprint: str
    inputs: Mapping[str, Dataset]
    label: str
    output: str | None = None
    manifest: Manifest | None = None
    damaged: bool = False

    def find(self) -> bool:
        """Look for the committed dataset; True if it is there, with all its parts."""
        manifest = read_manifest(self.directory, self.fingerprint)
        if manifest is None:
            return False
        self.damaged = not isinstance(self.stage, Source) and bool(missing_parts(self.directory, manifest))
        if not self.damaged:
            self.manifest = manifest
        return not self.damaged

    def units(self) -> Iterator[Unit]:
        """Stream the units of the committed dataset."""
        assert self.manifest is not None, f"{self.stage.name} is not committed"
        return read_units(self.directory, self.manifest)

    def writer(self) -> ManifestWriter:
        """A writer for this dataset's manifest."""
        return ManifestWriter(self.directory)

    def commit(self, writer: ManifestWriter) -> None:
        """Commit the dataset with the units that the writer was given."""
        self.manifest = writer.commit(
            stage=self.stage.name,
            recipe=self.stage.recipe,
            fingerprint=self.fingerprint,
            settings=self.stage.settings(),
            inputs={name: source.fingerprint for name, source in self.inputs.items()},
            replace=self.damaged,
        )


@dataclass(frozen=True)
class Aligned:
    """How the units of a stage's inputs go together: unit by unit, a range of units with one, or whole."""

    by_unit: Mapping[str, Dataset]
    by_range: Mapping[str, Dataset]
    whole: Mapping[str, tuple[Unit, ...]]

    @staticmethod
    def of(dataset: Dataset) -> Aligned:
        """Sort the inputs of a dataset, all committed, into the two."""
        wide = {name for name, source in dataset.inputs.items() if isinstance(source.stage, Reduce)}
        by_range = {name: source for name, source in dataset.inputs.items() if isinstance(source.stage, Shuffle)}
        by_unit = {name: source for name, source in dataset.inputs.items() if name not in wide | by_range.keys()}
        for name, source in by_unit.items():
            if not isinstance(source.stage, Map | Score | Source):
                raise ConfigError(f"{dataset.stage.name} can't read {source.stage.name} ({name}): it is regrouped")
        return Aligned(by_unit, by_range, {name: tuple(dataset.inputs[name].units()) for name in sorted(wide)})

    def units(self) -> Iterator[dict[str, Unit]]:
        """Stream the units of all inputs in step.

        Raises:
            InputError: the inputs are not cut alike.
        """
        names = list(self.by_unit)
        ranges = zip(*(source.units() for source in self.by_range.values()), strict=True)
        ranged: dict[str, Unit] = {}
        for number, units in enumerate(zip(*(self.by_unit[name].units() for name in names), strict=True)):
            if len({(unit.shard, unit.start, unit.stop) for unit in units}) > 1:
                raise InputError(
                    f"the inputs {', '.join(names)} are of different corpora: {units[0].shard}",
                    hint="Make all that a stage reads from one Corpus(...).",
                )
            if self.by_range and number % RANGE_UNITS == 0:
                ranged = dict(zip(self.by_range, next(ranges), strict=True))
            yield dict(zip(names, units, strict=True)) | ranged

    def key(self, stage: Stage, units: Sequence[Mapping[str, Unit]], purpose: str = "") -> str:
        """Name a unit of work by its recipe and what it reads."""
        read = [
            {name: stage.identity_of(name, unit) for name, unit in item.items() if stage.identifies(name, unit)}
            for item in units
        ]
        whole = {name: [unit.identity for unit in units] for name, units in self.whole.items()}
        return digest([stage.recipe, purpose, read, whole])[:24]


def works(dataset: Dataset, aligned: Aligned) -> Iterator[Work]:
    """Stream the work units of a narrow or scoring stage."""
    for number, units in enumerate(aligned.units()):
        first = next(iter(units.values()))
        # What comes from a range tells documents apart by the number of their unit.
        key = aligned.key(dataset.stage, [units], str(number) if aligned.by_range else "")
        yield Work(key, first.shard, first.start, first.stop, first.text_bytes, (units,), number)


def count_units(dataset: Dataset) -> tuple[int, int]:
    """Units of a narrow or scoring stage whose inputs are there, and how many a listing says are committed.

    For people, and no proof: parts may be gone, and a unit of scores may lack those of newly kept documents. Of over
    `COUNTED` units it says that none is, rather than hold their names.
    """
    aligned = Aligned.of(dataset)
    units = max(source.manifest.units for source in aligned.by_unit.values() if source.manifest is not None)
    if units > COUNTED:
        return units, 0
    listed = committed_keys(dataset.directory)
    if not listed:
        return units, 0
    keys = (work.key for work in works(dataset, aligned))
    if isinstance(dataset.stage, Score):
        keys = (layout.numbered(key, 0) for key in keys)
    return units, sum(key in listed for key in keys)


def read_together(work: Work) -> tuple[str, int] | None:
    """What units share that are best read by one task, in turn: shard and group; None for others.

    Where two sources are read, that of which all units of a file belong together decides.
    """
    read = work.units[0].values()
    groups = [(unit.shard, unit.source.group) for unit in read if unit.source and unit.source.group is not None]
    return min(groups, default=None)


def plan_datasets(
    stages: Sequence[Stage], workdir: Directory, corpora: Mapping[Stage, Dataset], outputs: Mapping[str, Stage]
) -> dict[Stage, Dataset]:
    """All datasets of a graph, with their fingerprints; corpora are opened before. `outputs` are those with a name."""
    datasets: dict[Stage, Dataset] = dict(corpora)
    named = {stage: name for name, stage in outputs.items()}
    seen: Counter[str] = Counter()
    for stage in stages:
        if stage not in datasets:
            inputs = {name: datasets[source] for name, source in stage.inputs.items()}
            fingerprint = stage.fingerprint({name: source.fingerprint for name, source in inputs.items()})
            datasets[stage] = Dataset(stage, workdir.child(stage.dataset), fingerprint, inputs, stage.label)
        dataset = datasets[stage]
        dataset.output = named.get(stage)
        if isinstance(stage, Shards) and dataset.output not in (None, SHARDS):
            dataset.label = f"{stage.label} ({dataset.output})"
        seen[dataset.label] += 1
        if seen[dataset.label] > 1:
            dataset.label = f"{dataset.label} #{seen[dataset.label]}"
    return datasets


def limited(outputs: Iterable[Stage]) -> set[Stage]:
    """The corpora that a limit cuts: those whose documents end in an output.

    One that is only learned from, such as labels, or filtered against is read whole.
    """
    return {documents_of(stage) for stage in outputs}


def needed(outputs: Iterable[Stage], datasets: Mapping[Stage, Dataset]) -> list[Stage]:
    """The stages that must run: those not committed that an output, or another of them, needs."""
    wanted: dict[Stage, None] = {}
    waiting = list(outputs)
    while waiting:
        stage = waiting.pop()
        if stage in wanted or datasets[stage].manifest is not None or datasets[stage].find():
            continue
        wanted[stage] = None
        waiting.extend(stage.inputs.values())
    return [stage for stage in datasets if stage in wanted]


@dataclass
class _Selection:
    """Units of a corpus, all or the first of each shard in turn until a number of documents is reached."""

    limit: int | None
    shards: list[list[Unit]] = field(default_factory=list)

    def chosen(self) -> Iterator[Unit]:
        reached, counts = 0, [0] * len(self.shards)
        for turn in range(max((len(units) for units in self.shards), default=0)):
            for i, units in enumerate(self.shards):
                if turn < len(units) and (self.limit is None or reached < self.limit):
                    reached += units[turn].stop - units[turn].start
                    counts[i] += 1
        for units, count in zip(self.shards, counts, strict=True):
            yield from units[:count]


def columns_read(stages: Iterable[Stage], corpus: Corpus) -> dict[str, str]:
    """The columns of a corpus that stages read, each with the label of one that does."""
    return {
        name: stage.label for stage in stages if stage.inputs.get("corpus") == corpus for name in stage.columns_read
    }


def open_corpus(
    corpus: Corpus,
    workdir: Directory,
    files: Sequence[SourceFile],
    limit: int | None,
    unreadable: Mapping[str, UnreadableFile] | None = None,
    readers: Mapping[str, str] | None = None,
) -> Dataset:
    """Read the footers of a corpus and commit its list of units.

    Args:
        corpus: the corpus.
        workdir: where its dataset lies.
        files: its Parquet files, sorted by shard name.
        limit: documents to reach; None for all.
        unreadable: files that are passed over, beside those of which the footer can't be read, by shard name.
        readers: what `columns_read` gives.

    Raises:
        InputError: a file can't be read, or has no column that a stage reads; or the corpus has no rows.
    """
    listing = _listed(corpus, workdir, files, limit, unreadable or {}, readers or {}, {})
    if widened := listing.types.widened:
        # Units were listed before the types of later files were known: now each is told its own.
        listing = _listed(corpus, workdir, files, limit, unreadable or {}, readers or {}, widened)
        if listing.types.widened != widened:
            raise InputError(f"files of {corpus.path} changed while they were being read", hint="Run again.")
    if listing.documents == 0:
        passed_over = listing.passed_over
        raise InputError(
            f"{corpus.path} has no rows in {len(files)} file{'s' if len(files) != 1 else ''}, "
            f"{len(passed_over)} of them unreadable"
            + "".join(f"; {shard}: {error.reason(corpus.directory, shard)}" for shard, error in _first(passed_over)),
            hint="Check the corpus path, and what is in the files.",
        )
    types = {"types": {name: str(kind) for name, kind in sorted(widened.items())}} if widened else {}
    identity = [
        corpus.recipe,
        listing.state.hexdigest(),
        listing.documents,
        sorted(listing.passed_over),
        *types.items(),
    ]
    dataset = Dataset(corpus, workdir.child(corpus.dataset), digest(identity), {}, corpus.label)
    dataset.commit(listing.writer)
    return dataset


@dataclass
class _Listing:
    """What the footers of a corpus tell: units, documents, files that are passed over, types of columns."""

    writer: ManifestWriter
    passed_over: dict[str, UnreadableFile]
    state: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    documents: int = 0
    types: ColumnTypes = field(default_factory=ColumnTypes)


def _listed(
    corpus: Corpus,
    workdir: Directory,
    files: Sequence[SourceFile],
    limit: int | None,
    unreadable: Mapping[str, UnreadableFile],
    readers: Mapping[str, str],
    widened: Mapping[str, pa.DataType],
) -> _Listing:
    """List the units of a corpus; those of files whose types are not the `widened` ones are told these."""
    listing = _Listing(ManifestWriter(workdir.child(corpus.dataset)), dict(unreadable))
    notes: dict[str, None] = {}
    selection = _Selection(limit)
    for file, footer in corpus.footers(files, listing.types, readers):
        if isinstance(footer, UnreadableFile):
            listing.passed_over[file.shard] = footer
            continue
        notes |= dict.fromkeys(corpus.notes(file, footer))
        listing.documents += footer.rows
        units = corpus.units(file, footer, widened)
        if limit is None:
            _add(listing.writer, listing.state, units)
        else:
            selection.shards.append(list(units))
    _add(listing.writer, listing.state, selection.chosen())
    for shard, error in sorted(listing.passed_over.items()):
        listing.writer.count("unreadable_files", 1)
        listing.writer.note(f"{UNREADABLE}{shard}: {error.reason(corpus.directory, shard)}")
    for note in [*notes, *(SAID + said for said in listing.types.said)]:
        listing.writer.note(note)
    listing.writer.count("documents", listing.documents)
    return listing


def open_attributes(attributes: AttributeFiles, workdir: Directory, corpus: Dataset) -> Dataset:
    """Find the attribute files of a corpus that is open, and commit the list of its units with them.

    Raises:
        InputError: a shard has none.
    """
    directory = workdir.child(attributes.dataset)
    writer = ManifestWriter(directory)
    state = xxhash.xxh3_128()
    _add(writer, state, attributes.units(corpus.units()))
    identity = [attributes.fingerprint({"corpus": corpus.fingerprint}), state.hexdigest()]
    dataset = Dataset(attributes, directory, digest(identity), {"corpus": corpus}, attributes.label)
    dataset.commit(writer)
    return dataset


def _first(passed_over: Mapping[str, UnreadableFile]) -> list[tuple[str, UnreadableFile]]:
    """Three files that were passed over."""
    return sorted(passed_over.items())[:3]


def _add(writer: ManifestWriter, state: Any, units: Iterator[Unit]) -> None:
    for unit in units:
        writer.add(unit)
        state.update(unit.identity.encode())


def latest(dataset: Dataset) -> Latest:
    """What `latest.json` keeps of a dataset."""
    stage = dataset.stage
    return Latest(
        label=dataset.label,
        stage=stage.name,
        schema=stage.schema,
        role=stage.role,
        dataset=stage.dataset,
        recipe=stage.recipe,
        fingerprint=dataset.fingerprint,
        settings=stage.settings(),
        inputs={name: source.fingerprint for name, source in dataset.inputs.items()},
        location=str(stage.path) if isinstance(stage, Corpus) else None,
        output=dataset.output,
        subset=stage.subset if isinstance(stage, Shards) and stage.selection.subsets is not None else None,
        control=stage.control if isinstance(stage, Shards) else None,
    )
