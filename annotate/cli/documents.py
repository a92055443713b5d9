"""Documents for people to look at: tagged, as training shards have them, or span by span with scores and tags.

Everything is read unit by unit, and no further than to the last document that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotate.errors import ConfigError, StorageError
from annotate.stages.corpus import Corpus
from annotate.stages.tables import check_hashes
from annotate.storage.contracts import contract
from annotate.storage.latest import LATEST, Latest, read_latest
from annotate.storage.manifests import Unit, read_units
from annotate.storage.parts import read_part
from annotate.storage.store import Directory

BATCH = 64  # documents of a lone file that are held at a time
SHARDS, ANNOTATIONS = "training-shards", "annotations"


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A document as it stands in a training shard."""

    id: str
    text: str
    placements: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A document span by span.

    Attributes:
        id: what people call it.
        place: `<shard>:<row>` in the corpus.
        spans: the text of each span.
        scores: by axis a score for each span, None where scoring failed; empty for a document that is not scored.
        tags: for each span the names of the tags before it.
        note: why there are no scores; empty where there are.
    """

    id: str
    place: str
    spans: list[str]
    scores: Mapping[str, list[float | None]]
    tags: list[list[str]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a path names: a lone shard file, or a work directory with, perhaps, one of its datasets."""

    path: str
    file: tuple[Directory, str] | None = None
    workdir: Directory | None = None
    latest: list[Latest] = field(default_factory=list)
    dataset: Latest | None = None

    @staticmethod
    def of(path: str) -> Target:
        """Find out what a path names.

        Raises:
            StorageError: nothing that can be shown; says what can.
        """
        place = Directory.at(path.rstrip("/").removesuffix("/parts"))
        parent, _, name = place.url.rpartition("/")
        above = Directory(parent)
        if name.endswith(".parquet"):
            if above.size(name) is None:
                raise StorageError(f"there is no file {place.url}")
            return Target(path=path, file=(above, name))
        if place.size(LATEST) is not None:
            return Target(path=path, workdir=place, latest=read_latest(place))
        if above.size(LATEST) is not None:
            latest = read_latest(above)
            chosen = [item for item in latest if item.dataset == name]
            if chosen:
                return Target(path=path, workdir=above, latest=latest, dataset=chosen[0])
            shown = [item.dataset for item in latest if item.stage in (SHARDS, ANNOTATIONS)]
            raise StorageError(
                f"{place.url} is no dataset of the last run in {parent}",
                hint=f"Those that can be shown: {', '.join(shown) or 'none'}. Of an older one, name a .parquet file.",
            )
        raise StorageError(
            f"{place.url} is neither a work directory with a finished run, nor a dataset in one, nor a .parquet file",
            hint="Name the work directory of a run that went to its end, a dataset in it (training-shards-..., "
            "annotations-...), or a training shard.",
        )

    def of_stage(self, stage: str) -> list[Latest]:
        """The last run's datasets of a stage."""
        return [item for item in self.latest if item.stage == stage]

    def input(self, item: Latest, name: str) -> Latest | None:
        """The dataset that another was made from, by the name it read it under."""
        wanted = item.inputs.get(name)
        return next((source for source in self.latest if source.fingerprint == wanted), None)

    def tag_axes(self) -> dict[str, tuple[str, ...]]:
        """The axes that the rule of each tag reads, in the order of the scheme."""
        from annotate.tags.rules import parse_rule

        tags = [tag for item in self.of_stage("placements") for tag in item.settings["tags"]]
        return {tag["name"]: parse_rule(tag["rule"]).axes for tag in tags}

    def axes(self) -> list[str]:
        """All axes that are scored, in the order of the pipeline where a calibration tells it."""
        groups = [group for item in self.of_stage("calibration") for group in item.settings["axes"]]
        groups += [item.settings["axes"] for item in self.of_stage(ANNOTATIONS)]
        return list(dict.fromkeys(axis for group in groups for axis in group))


def tagged_documents(target: Target, doc: str | None) -> Iterator[Tagged]:
    """Stream the documents of training shards; with `doc` the one of that id, or at that `<shard>:<row>`.

    Raises:
        ConfigError: there is no such document; says how many were looked through.
        StorageError: there are no training shards, or a file is none.
    """
    wanted = _id_at(target, doc) if doc is not None and target.workdir is not None else doc
    looked = 0
    for table in _lone_file(*target.file) if target.file else _shard_parts(target):
        looked += table.num_rows
        ids = table["id"].cast(pa.string())
        found = range(table.num_rows) if wanted is None else np.flatnonzero(pc.equal(ids, wanted).to_numpy())[:1]
        for i in map(int, found):
            text, placements = table["text"][i].as_py(), table["placements"][i].as_py()
            yield Tagged(id=ids[i].as_py(), text=text, placements=placements)
        if wanted is not None and len(found):
            return
    if doc is not None:
        hint = "Near-duplicates and documents in quarantine are not written."
        if target.workdir is not None:
            hint += f" `annotate show {target.workdir.url} --scores --doc ...` also finds those, and says why."
        raise ConfigError(f"no document {doc!r} in {target.path}: looked through {looked:,}", hint=hint)


def _shard_parts(target: Target) -> Iterator[pa.Table]:
    assert target.workdir is not None
    items = [target.dataset] if target.dataset else target.of_stage(SHARDS)
    if not items:
        tokens = bool(target.of_stage("token-shards"))
        raise StorageError(
            f"the last run in {target.workdir.url} left no text shards" + (": its shards are tokens" if tokens else ""),
            hint="Try --scores, which shows the tags of documents too.",
        )
    for item in items:
        directory = target.workdir.child(item.dataset)
        for unit in read_units(directory, item.manifest(target.workdir)):
            for entry in unit.entries:
                yield read_part(directory, entry.part, schema=SHARDS)


def _lone_file(directory: Directory, name: str) -> Iterator[pa.Table]:
    """Batches of a file that may lie anywhere."""
    where = f"{directory.url}/{name}"
    columns = contract(SHARDS).schema.names
    try:
        with pq.ParquetFile(directory.open(name)) as file:
            missing = [column for column in columns if column not in file.schema_arrow.names]
            if missing:
                raise StorageError(
                    f"{where} is not a training shard: it has no column {missing[0]!r}",
                    hint=f"It has: {', '.join(file.schema_arrow.names)}. For annotations, name their dataset's folder.",
                )
            for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
                yield contract(SHARDS).check(pa.Table.from_batches([batch]), where)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise StorageError(f"{where} is not Parquet, or damaged: {error}") from error


def _id_at(target: Target, doc: str) -> str:
    """The id of the document at `<shard>:<row>`; `doc` itself where that is not meant."""
    corpora = target.of_stage("corpus")
    assert target.workdir is not None
    for item in corpora:
        directory = target.workdir.child(item.dataset)
        for unit in read_units(directory, item.manifest(target.workdir)) if _place(doc) else ():
            if (row := _row_in(unit, doc)) is not None and item.location is not None:
                return str(_corpus(item).read(directory, unit)["id"][row - unit.start].as_py())
    return doc


def _place(doc: str) -> tuple[str, int] | None:
    shard, _, row = doc.rpartition(":")
    return (shard, int(row)) if shard and row.isascii() and row.isdecimal() else None


def _row_in(unit: Unit, doc: str) -> int | None:
    """The row that `doc` names as `<shard>:<row>`, if it is one of this unit's."""
    place = _place(doc)
    return place[1] if place and place[0] == unit.shard and unit.start <= place[1] < unit.stop else None


def _corpus(item: Latest) -> Corpus:
    """The corpus of the last run, for reading ids and texts."""
    if item.location is None:
        raise StorageError(
            "the last run did not note where its corpus is", hint="Run the pipeline again: it notes that."
        )
    return Corpus(item.location, text=item.settings["text"], id=item.settings["id"], columns=())


def scored_documents(target: Target, doc: str | None) -> Iterator[Scored]:
    """Stream the documents that are scored, with all the last run's scores, or those of one annotation dataset.

    With `doc`, the one of that id or at that `<shard>:<row>`, scored or not.

    Raises:
        ConfigError: there is no such document; says how many were looked through.
        InputError: the corpus is gone, or changed.
        StorageError: there are no annotations.
    """
    view = _View.of(target)
    looked = 0
    jump = doc is not None and any(_row_in(units["corpus"], doc) is not None for units in view.units())
    for units in view.units():
        unit = units["corpus"]
        looked += unit.stop - unit.start
        if doc is None:
            rows = np.unique(np.concatenate([view.read(name, units)["row"].to_numpy() for name in view.annotations]))
        elif jump:
            row = _row_in(unit, doc)
            rows = np.array([] if row is None else [row], np.int64)
        else:
            ids = view.documents(unit)["id"].cast(pa.string())
            rows = unit.start + np.flatnonzero(pc.equal(ids, doc).to_numpy())[:1]
        if len(rows):
            yield from view.scored(units, rows)
            if doc is not None:
                return
    if doc is not None:
        raise ConfigError(f"no document {doc!r} in {target.path}: looked through {looked:,}")


@dataclass(frozen=True, kw_only=True)
class _View:
    """The datasets of one run that go together unit by unit."""

    workdir: Directory
    corpus: Corpus
    items: Mapping[str, Latest]  # "corpus", "spans", annotations by label, and "verdicts", "placements" if any
    annotations: Sequence[str]

    @staticmethod
    def of(target: Target) -> _View:
        assert target.workdir is not None
        scores = [target.dataset] if target.dataset else target.of_stage(ANNOTATIONS)
        corpus, spans = (target.input(scores[0], name) if scores else None for name in ("corpus", "spans"))
        if corpus is None or spans is None:
            raise StorageError(f"the last run in {target.workdir.url} left no annotations that can be shown")
        scores = [item for item in scores if item.inputs.get("spans") == spans.fingerprint]
        fingerprints = {item.fingerprint for item in scores}
        placed = [item for item in target.of_stage("placements") if fingerprints & set(item.inputs.values())]
        items = {"corpus": corpus, "spans": spans, **{item.label: item for item in scores}}
        if (verdicts := target.input(scores[0], "verdicts")) is not None:
            items["verdicts"] = verdicts
        if placed:
            items["placements"] = placed[0]
        return _View(
            workdir=target.workdir,
            corpus=_corpus(corpus),
            items=items,
            annotations=[item.label for item in scores],
        )

    def units(self) -> Iterator[dict[str, Unit]]:
        """The units of all datasets, in step."""
        streams = [read_units(self._directory(name), item.manifest(self.workdir)) for name, item in self.items.items()]
        return (dict(zip(self.items, units, strict=True)) for units in zip(*streams, strict=True))

    def _directory(self, name: str) -> Directory:
        return self.workdir.child(self.items[name].dataset)

    def documents(self, unit: Unit) -> pa.Table:
        """The documents of a unit."""
        return self.corpus.read(self._directory("corpus"), unit)

    def read(self, name: str, units: Mapping[str, Unit]) -> pa.Table:
        """A unit of one dataset."""
        directory, schema = self._directory(name), self.items[name].stage
        return pa.concat_tables(read_part(directory, entry.part, schema=schema) for entry in units[name].entries)

    def scored(self, units: Mapping[str, Unit], rows: npt.NDArray[np.int64]) -> Iterator[Scored]:
        """The documents at `rows` of a unit."""
        unit = units["corpus"]
        documents = self.documents(unit)
        tables = {name: self.read(name, units) for name in self.items if name != "corpus"}
        check_hashes(documents, tables["spans"], range(unit.start, unit.stop), unit.shard)
        for row in rows.tolist():
            here = {name: table.filter(pc.equal(table["row"], row)) for name, table in tables.items()}
            document = documents.slice(row - unit.start, 1).to_pylist()[0]
            yield self._document(f"{unit.shard}:{row}", document, here)

    def _document(self, place: str, document: Mapping[str, Any], here: Mapping[str, pa.Table]) -> Scored:
        starts, ends = (here["spans"][name].to_pylist() for name in ("start", "end"))
        scores = {
            axis: table[axis].to_pylist()
            for table in (here[name].sort_by("span") for name in self.annotations)
            for axis in table.column_names
            if axis not in ("row", "span", "truncated") and table.num_rows
        }
        placed = here["placements"].to_pylist() if "placements" in here else []
        return Scored(
            id=str(document["id"]),
            place=place,
            spans=[document["text"][start:end] for start, end in zip(starts, ends, strict=True)],
            scores=scores,
            tags=[[p["tag"] for p in placed if p["offset"] == start and p["kind"] == "open"] for start in starts],
            note="" if scores else _why(document, here),
        )


def _why(document: Mapping[str, Any], here: Mapping[str, pa.Table]) -> str:
    """Why a document has no scores."""
    if document["problem"] is not None:
        return f"in quarantine: {document['problem']}"
    verdict = here["verdicts"].to_pylist()[0] if "verdicts" in here else {"kept": True}
    if not verdict["kept"]:
        keeper = f"{verdict['keeper_shard']}:{verdict['keeper_row']}"
        return f"a near-duplicate of {keeper}, similarity {verdict['similarity']:.2f}"
    return "not scored"


def score_samples(target: Target) -> dict[str, npt.NDArray[np.float32]]:
    """Sorted scores of a sample of kept spans by axis, from the last run's calibration; empty where there is none."""
    samples: dict[str, npt.NDArray[np.float32]] = {}
    for item in target.of_stage("calibration"):
        assert target.workdir is not None
        directory = target.workdir.child(item.dataset)
        for unit in read_units(directory, item.manifest(target.workdir)):
            for entry in unit.entries:
                table = read_part(directory, entry.part, schema="calibration")
                for axis, values in zip(table["axis"].to_pylist(), table["sample"], strict=True):
                    found = values.values.to_numpy()
                    samples[axis] = np.sort(found[~np.isnan(found)])
    return samples
