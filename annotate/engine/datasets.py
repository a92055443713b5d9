"""The datasets of one run: which are committed, which must be made, and how their units go together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from annotate.credentials import redacted
from annotate.errors import ConfigError, InputError
from annotate.graph import RANGE_UNITS, EndsDocuments, Stage, digest
from annotate.storage.latest import Latest
from annotate.storage.manifests import Manifest, ManifestWriter, Unit, missing_parts, read_manifest, read_units
from annotate.storage.store import Directory


@dataclass
class Dataset:
    """A stage's dataset in a work directory; `manifest` is None until it is committed.

    `label` tells it from the other datasets of the pipeline: the stage's label, with the name of a named output, and
    with a number if two stages have the same label. `output` is its name as an output of the pipeline. `writing` is set
    from the time when its units begin to come.
    """

    stage: Stage
    directory: Directory
    fingerprint: str
    inputs: Mapping[str, Dataset]
    label: str
    output: str | None = None
    manifest: Manifest | None = None
    damaged: bool = False
    writing: ManifestWriter | None = None

    def find(self) -> bool:
        """Look for the committed dataset. True if it is there with all its parts."""
        manifest = read_manifest(self.directory, self.fingerprint)
        if manifest is None:
            return False
        self.damaged = self.stage.made_as != "source" and bool(missing_parts(self.directory, manifest))
        if not self.damaged:
            self.manifest = manifest
        return not self.damaged

    def units(self) -> Iterator[Unit]:
        """Stream the units of the committed dataset."""
        assert self.manifest is not None, f"{self.stage.name} is not committed"
        return read_units(self.directory, self.manifest)

    @property
    def begun(self) -> bool:
        """Whether units are there, or are being made."""
        return self.manifest is not None or self.writing is not None

    def stream(self) -> Iterator[Unit | None]:
        """Stream the units, also while they are being made; None while the next one is not there yet."""
        while not self.begun:
            yield None
        yield from self.writing.stream() if self.writing is not None else self.units()

    def begin(self) -> ManifestWriter:
        """Begin to make the dataset: returns the writer of its manifest, which readers can follow."""
        self.writing = ManifestWriter(self.directory)
        return self.writing

    def commit(self, writer: ManifestWriter) -> None:
        """Commit the dataset, with the units that the writer has."""
        self.manifest = writer.commit(
            stage=self.stage.name,
            recipe=self.stage.recipe,
            fingerprint=self.fingerprint,
            settings=redacted(self.stage.settings()),
            inputs={name: source.fingerprint for name, source in self.inputs.items()},
            replace=self.damaged,
        )


class _Ended(Enum):
    YES = True


@dataclass(frozen=True)
class Aligned:
    """How the inputs of a stage are read together.

    Attributes:
        by_unit: inputs that are read unit by unit, in step.
        by_range: inputs with one unit for `RANGE_UNITS` units of the others.
        whole: the units of inputs that are read whole.
    """

    by_unit: Mapping[str, Dataset]
    by_range: Mapping[str, Dataset]
    whole: Mapping[str, tuple[Unit, ...]]

    @staticmethod
    def of(dataset: Dataset, names: Iterable[str] | None = None) -> Aligned:
        """Sort the inputs of a dataset, or some of them, by how they are read. Those read whole must be committed.

        Raises:
            ConfigError: one is cut in its stage's own way, and there are others that are not read whole.
        """
        inputs = {name: dataset.inputs[name] for name in (dataset.inputs if names is None else names)}
        cut = {name: source.stage.cut for name, source in inputs.items()}
        by_unit = {name: source for name, source in inputs.items() if cut[name] in ("documents", "own")}
        own = next((name for name in by_unit if cut[name] == "own"), None)
        if own is not None and len(by_unit) + list(cut.values()).count("ranges") > 1:
            raise ConfigError(
                f"{dataset.stage.name} can't read the input {own!r} unit by unit with other inputs: the units of "
                f"{inputs[own].stage.name} are not those of documents",
                hint='An input with `cut` "own" can stand beside inputs with `cut` "whole" only.',
            )
        return Aligned(
            by_unit,
            {name: source for name, source in inputs.items() if cut[name] == "ranges"},
            {name: tuple(inputs[name].units()) for name in sorted(inputs) if cut[name] == "whole"},
        )

    def units(self) -> Iterator[dict[str, Unit] | None]:
        """Stream the units of all inputs in step; None while the next ones are not there yet.

        If all inputs are read whole, there is one item, and it is empty.

        Raises:
            InputError: the inputs are not cut alike.
        """
        streams = {name: source.stream() for name, source in self.by_unit.items()}
        ranges = {name: source.stream() for name, source in self.by_range.items()}
        ranged: dict[str, Unit] = {}
        if not streams:
            streams, ranges = ranges, {}
        if not streams:
            yield {}
            return
        for number in itertools.count():
            units = yield from _step(streams)
            if units is None:
                return
            if len({(unit.shard, unit.start, unit.stop) for unit in units.values()}) > 1:
                at = "; ".join(f"{name}: {u.shard}, rows {u.start} to {u.stop}" for name, u in units.items())
                raise InputError(
                    f"the inputs {', '.join(units)} are of different corpora: unit {number} of each is {at}",
                    hint="Make all that a stage reads from one Corpus(...).",
                )
            if ranges and number % RANGE_UNITS == 0:
                found = yield from _step(ranges)
                if found is None:
                    raise InputError(
                        f"{', '.join(self.by_range)} and {', '.join(units)} are of different corpora: one has ranges "
                        f"for {number} units only",
                        hint="Make all that a stage reads from one Corpus(...).",
                    )
                ranged = found
            yield units | ranged

    def number(self) -> int | None:
        """How many items `units` gives; None while the inputs are being made."""
        read = next(iter((self.by_unit or self.by_range).values()), None)
        if read is None:
            return 1
        return None if read.manifest is None else read.manifest.units

    def key(self, stage: Stage, units: Sequence[Mapping[str, Unit]], purpose: str = "") -> str:
        """The key of a unit of work: a hash of its recipe and of what it reads."""
        read = [
            {name: unit.identity_for(stage.types_read) for name, unit in item.items() if stage.identifies(name, unit)}
            for item in units
        ]
        whole = {name: [unit.identity for unit in units] for name, units in self.whole.items()}
        return digest([stage.recipe, purpose, read, whole])[:24]


def _step(streams: Mapping[str, Iterator[Unit | None]]) -> Generator[None, None, dict[str, Unit] | None]:
    """Wait for the next unit of each stream; None if all streams have ended."""
    units: dict[str, Unit] = {}
    for name, stream in streams.items():
        while (unit := next(stream, _Ended.YES)) is None:
            yield None
        if not isinstance(unit, _Ended):
            units[name] = unit
    if units and len(units) < len(streams):
        raise InputError(
            f"the inputs {', '.join(streams)} are of different corpora: one has more units than another",
            hint="Make all that a stage reads from one Corpus(...).",
        )
    return units or None


def plan_datasets(
    stages: Sequence[Stage], workdir: Directory, sources: Mapping[Stage, Dataset], outputs: Mapping[str, Stage]
) -> dict[Stage, Dataset]:
    """All datasets of a graph, with their fingerprints. `sources` are open already, `outputs` are by name."""
    datasets: dict[Stage, Dataset] = dict(sources)
    named = {stage: name for name, stage in outputs.items()}
    seen: Counter[str] = Counter()
    for stage in stages:
        if stage not in datasets:
            inputs = {name: datasets[source] for name, source in stage.inputs.items()}
            fingerprint = stage.fingerprint({name: source.fingerprint for name, source in inputs.items()})
            datasets[stage] = Dataset(stage, workdir.child(stage.dataset), fingerprint, inputs, stage.label)
        dataset = datasets[stage]
        dataset.output = named.get(stage)
        if isinstance(stage, EndsDocuments) and dataset.output not in (None, stage.unnamed):
            dataset.label = f"{stage.label} ({dataset.output})"
        seen[dataset.label] += 1
        if seen[dataset.label] > 1:
            dataset.label = f"{dataset.label} #{seen[dataset.label]}"
    return datasets


def needed(outputs: Iterable[Stage], datasets: Mapping[Stage, Dataset]) -> list[Stage]:
    """The stages that must run: they are not committed, and an output or another such stage reads them."""
    wanted: dict[Stage, None] = {}
    waiting = list(outputs)
    while waiting:
        stage = waiting.pop()
        if stage in wanted or datasets[stage].manifest is not None or datasets[stage].find():
            continue
        wanted[stage] = None
        waiting.extend(stage.inputs.values())
    return [stage for stage in datasets if stage in wanted]


def latest(dataset: Dataset) -> Latest:
    """The record of a dataset in `latest.json`."""
    stage = dataset.stage
    return Latest(
        label=dataset.label,
        stage=stage.name,
        schema=stage.schema,
        role=stage.role,
        dataset=stage.dataset,
        recipe=stage.recipe,
        fingerprint=dataset.fingerprint,
        settings=redacted(stage.settings()),
        inputs={name: source.fingerprint for name, source in dataset.inputs.items()},
        output=dataset.output,
        **stage.about(),
    )
