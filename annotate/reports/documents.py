"""Documents for people to look at: as training shards have them, with tags, or span by span with scores and tags.

Datasets are read unit by unit, and only up to the last document that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotate.arguments import as_path
from annotate.errors import StorageError
from annotate.reports.target import ANNOTATIONS, SHARDS, Target
from annotate.stages.corpus import Corpus
from annotate.stages.shared.tables import check_hashes
from annotate.storage.contracts import contract
from annotate.storage.latest import Latest
from annotate.storage.manifests import Unit, read_units
from annotate.storage.parts import read_part
from annotate.storage.store import Directory

BATCH = 64  # documents that are held at a time when a single file is read


@dataclass(frozen=True, kw_only=True)
class TaggedDocument:
    """A document as it stands in a training shard.

    Attributes:
        id: what people call it.
        text: with its tags.
        placements: where the tags are, in the order of the text; the fields are those of training shards in `schemas/`.
    """

    id: str
    text: str
    placements: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ScoredDocument:
    """A document span by span.

    Attributes:
        id: what people call it.
        place: `<shard>:<row>` in the corpus.
        spans: the text of each span.
        scores: by axis, a score for each span, None where scoring failed; empty for a document that is not scored.
        tags: for each span, the names of the tags before it.
        note: why there are no scores; empty if there are scores.
    """

    id: str
    place: str
    spans: list[str]
    scores: Mapping[str, list[float | None]]
    tags: list[list[str]]
    note: str = ""


def tagged_documents(
    path: str | PathLike[str], *, doc: str | None = None, output: str | None = None
) -> Iterator[TaggedDocument]:
    """Documents as they stand in text shards, with where their tags are.

        next(tagged_documents("out")).text

    Args:
        path: a work directory, a dataset of training shards in one, or one shard.
        doc: only the document with this id, or at this `<shard>:<row>` of the corpus; nothing if there is none.
        output: only documents of this output, if a pipeline has several.

    Raises:
        ConfigError: the output was not made from the datasets that the path names.
        StorageError: there are no text shards at the path; or a part is damaged.
    """
    for view in tagged_views(_target(path, output)):
        yield from view.documents(doc)


def scored_documents(
    path: str | PathLike[str], *, doc: str | None = None, output: str | None = None
) -> Iterator[ScoredDocument]:
    """Documents span by span, with scores and tags.

        next(scored_documents("out")).scores["niceness"]

    Args:
        path: a work directory, or a dataset of annotations or training shards in one.
        doc: only the document with this id, or at this `<shard>:<row>` of the corpus, scored or not; nothing if there
            is none.
        output: only documents of this output, if a pipeline has several.

    Raises:
        ConfigError: the output was not made from the datasets that the path names, or the path is one file.
        InputError: the corpus is gone, or changed.
        StorageError: there are no annotations at the path; or a part is damaged.
    """
    for view in scored_views(_target(path, output).of_scores()):
        yield from view.documents(doc)


def _target(path: str | PathLike[str], output: str | None) -> Target:
    target = Target.of(as_path(path, "path"))
    return target if output is None else target.of_output(output)


@dataclass(kw_only=True)
class TaggedView:
    """The documents of one output, or of a single file; `looked` and `shown` count documents."""

    target: Target
    shards: Latest | None
    looked: int = 0
    shown: int = 0

    @property
    def heading(self) -> str:
        """The name of the output, for a heading."""
        return "" if self.shards is None else self.shards.described

    def documents(self, doc: str | None) -> Iterator[TaggedDocument]:
        """Stream the documents; with `doc` only the one with that id, or at that `<shard>:<row>`.

        Raises:
            StorageError: a file is no training shard, or damaged.
        """
        wanted = doc if doc is None or self.shards is None else _id_at(self.target, self.shards, doc)
        for table in self._parts():
            self.looked += table.num_rows
            ids = table["id"].cast(pa.string())
            found = range(table.num_rows) if wanted is None else np.flatnonzero(pc.equal(ids, wanted).to_numpy())[:1]
            for i in map(int, found):
                yield self._tagged(table, i)
            if wanted is not None and len(found):
                return

    def _tagged(self, table: pa.Table, i: int) -> TaggedDocument:
        """Row `i` of a table, the last of those looked at."""
        try:
            text, placements = table["text"][i].as_py(), table["placements"][i].as_py()
            return TaggedDocument(id=str(table["id"][i].as_py()), text=text, placements=placements)
        except UnicodeDecodeError as error:
            raise StorageError(
                f"{self.target.path}: document {self.looked - table.num_rows + i} has bytes that are not valid UTF-8",
                hint="An earlier version of this project wrote it, or another program: run the pipeline again.",
            ) from error

    def _parts(self) -> Iterator[pa.Table]:
        if self.target.file is not None:
            yield from _lone_file(*self.target.file)
            return
        assert self.shards is not None and self.target.workdir is not None, "else it is a lone file"
        directory = self.target.workdir.child(self.shards.dataset)
        for unit in read_units(directory, self.shards.manifest(self.target.workdir)):
            for entry in unit.entries:
                yield read_part(directory, entry.part, schema=SHARDS)


def tagged_views(target: Target) -> list[TaggedView]:
    """The text shards that a path names, one view for each output.

    Raises:
        StorageError: there are none.
    """
    if target.file is not None:
        return [TaggedView(target=target, shards=None)]
    items = target.datasets or target.of_stage(SHARDS)
    if not items:
        assert target.workdir is not None, "it is no file"
        tokens = bool(target.of_stage("token-shards"))
        raise StorageError(
            f"the last run in {target.workdir.url} left no text shards" + (": its shards are tokens" if tokens else ""),
            hint="Try --scores, or `scored_documents` in Python: it shows the tags of documents too.",
        )
    return [TaggedView(target=target, shards=item) for item in items]


def _lone_file(directory: Directory, name: str) -> Iterator[pa.Table]:
    """Read a training shard, which may lie anywhere, in batches."""
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
        raise StorageError(
            f"{where} is not Parquet, is damaged, or uses what can't be read here: {error}",
            hint="Name a training shard: `annotate.shards(WORKDIR)` lists them.",
        ) from error


def _id_at(target: Target, shards: Latest, doc: str) -> str:
    """The id of the document at `<shard>:<row>` of the corpus of some shards; `doc` itself if it is no such place."""
    corpus = target.input(shards, "corpus")
    if corpus is None or corpus.location is None or _place(doc) is None:
        return doc
    assert target.workdir is not None, "it is no file"
    directory = target.workdir.child(corpus.dataset)
    for unit in read_units(directory, corpus.manifest(target.workdir)):
        if (row := _row_in(unit, doc)) is not None:
            return str(_corpus(corpus).read(directory, unit)["id"][row - unit.start].as_py())
    return doc


def _place(doc: str) -> tuple[str, int] | None:
    shard, _, row = doc.rpartition(":")
    return (shard, int(row)) if shard and row.isascii() and row.isdecimal() else None


def _row_in(unit: Unit, doc: str) -> int | None:
    """The row that `doc` names as `<shard>:<row>`, if it is in this unit."""
    place = _place(doc)
    return place[1] if place and place[0] == unit.shard and unit.start <= place[1] < unit.stop else None


def _corpus(item: Latest) -> Corpus:
    """The corpus of the last run, for reading ids and texts."""
    if item.location is None:
        raise StorageError(
            "the last run did not write down where its corpus is", hint="Run the pipeline again: it writes that down."
        )
    return Corpus(item.location, text=item.settings["text"], id=item.settings["id"], columns=())


def scored_views(target: Target) -> list[ScoredView]:
    """The scores of the last run, or of the annotation datasets that a path names, one view for each split.

    Raises:
        StorageError: there are none.
    """
    by_spans: dict[str, list[Latest]] = {}
    for item in target.datasets or target.of_stage(ANNOTATIONS):
        corpus = target.input(item, "corpus")
        if corpus is not None and corpus.stage == "corpus" and target.input(item, "spans") is not None:  # no labels
            by_spans.setdefault(item.inputs["spans"], []).append(item)
    if not by_spans:
        assert target.workdir is not None, "it is no file"
        raise StorageError(
            f"the last run in {target.workdir.url} left no annotations that can be shown",
            hint="Name the work directory of a pipeline that has score(...) or AttributeScores(...).",
        )
    return [ScoredView.of(target, scores) for scores in by_spans.values()]


@dataclass(kw_only=True)
class ScoredView:
    """Datasets of one run that have the same units; `looked` and `shown` count documents.

    `placed_too` are the labels of other placements of these scores, whose tags are not shown.
    """

    workdir: Directory
    corpus: Corpus
    items: Mapping[str, Latest]  # "corpus", "spans", annotations by label, and "verdicts", "placements" if any
    annotations: Sequence[str]
    calibrations: Sequence[Latest]
    placed_too: Sequence[str]
    looked: int = 0
    shown: int = 0

    @staticmethod
    def of(target: Target, scores: Sequence[Latest]) -> ScoredView:
        """The view of the scores of one split, with their corpus, spans, verdicts and placements."""
        corpus, spans = (target.input(scores[0], name) for name in ("corpus", "spans"))
        assert target.workdir is not None and corpus is not None and spans is not None, "they were looked for"
        read = {item.fingerprint for item in scores}
        placed = [item for item in target.of_stage("placements") if read & set(item.inputs.values())]
        items = {"corpus": corpus, "spans": spans, **{item.label: item for item in scores}}
        if (verdicts := target.input(scores[0], "verdicts")) is not None:
            items["verdicts"] = verdicts
        if placed:
            items["placements"] = placed[0]
        return ScoredView(
            workdir=target.workdir,
            corpus=_corpus(corpus),
            items=items,
            annotations=[item.label for item in scores],
            calibrations=[item for item in target.of_stage("calibration") if read & set(item.inputs.values())],
            placed_too=[item.label for item in placed[1:]],
        )

    @property
    def heading(self) -> str:
        """The spans and the corpus of the scores, for a heading."""
        return f"{self.items['spans'].label} of {self.items['corpus'].location}"

    def documents(self, doc: str | None) -> Iterator[ScoredDocument]:
        """Stream the scored documents; with `doc` only the one with that id, or at that `<shard>:<row>`, scored or not.

        Raises:
            InputError: the corpus is gone, or changed.
        """
        jump = doc is not None and any(_row_in(units["corpus"], doc) is not None for units in self.units())
        for units in self.units():
            unit = units["corpus"]
            self.looked += unit.stop - unit.start
            if doc is None:
                read = [self.read(name, units)["row"].to_numpy() for name in self.annotations]
                rows = np.unique(np.concatenate(read))
            elif jump:
                row = _row_in(unit, doc)
                rows = np.array([] if row is None else [row], np.int64)
            else:
                ids = self.texts(unit)["id"].cast(pa.string())
                rows = unit.start + np.flatnonzero(pc.equal(ids, doc).to_numpy())[:1]
            if len(rows):
                yield from self.scored(units, rows)
                if doc is not None:
                    return

    def units(self) -> Iterator[dict[str, Unit]]:
        """The units of all datasets, in the order of the corpus; each item has one unit of each dataset."""
        streams = [read_units(self._directory(name), item.manifest(self.workdir)) for name, item in self.items.items()]
        return (dict(zip(self.items, units, strict=True)) for units in zip(*streams, strict=True))

    def _directory(self, name: str) -> Directory:
        return self.workdir.child(self.items[name].dataset)

    def texts(self, unit: Unit) -> pa.Table:
        """The documents of a unit of the corpus."""
        return self.corpus.read(self._directory("corpus"), unit)

    def read(self, name: str, units: Mapping[str, Unit]) -> pa.Table:
        """A unit of one dataset."""
        directory, schema = self._directory(name), self.items[name].stage
        return pa.concat_tables(read_part(directory, entry.part, schema=schema) for entry in units[name].entries)

    def scored(self, units: Mapping[str, Unit], rows: npt.NDArray[np.int64]) -> Iterator[ScoredDocument]:
        """The documents at `rows` of a unit."""
        unit = units["corpus"]
        documents = self.texts(unit)
        tables = {name: self.read(name, units) for name in self.items if name != "corpus"}
        check_hashes(documents, tables["spans"], range(unit.start, unit.stop), unit.shard)
        for row in rows.tolist():
            here = {name: table.filter(pc.equal(table["row"], row)) for name, table in tables.items()}
            document = documents.slice(row - unit.start, 1).to_pylist()[0]
            yield self._document(f"{unit.shard}:{row}", document, here)

    def _document(self, place: str, document: Mapping[str, Any], here: Mapping[str, pa.Table]) -> ScoredDocument:
        starts, ends = (here["spans"][name].to_pylist() for name in ("start", "end"))
        scores = {
            axis: table[axis].to_pylist()
            for table in (here[name].sort_by("span") for name in self.annotations)
            for axis in table.column_names
            if axis not in ("row", "span", "truncated") and table.num_rows
        }
        placed = here["placements"].to_pylist() if "placements" in here else []
        return ScoredDocument(
            id=str(document["id"]),
            place=place,
            spans=[document["text"][start:end] for start, end in zip(starts, ends, strict=True)],
            scores=scores,
            tags=[[p["tag"] for p in placed if p["offset"] == start and p["kind"] == "open"] for start in starts],
            note="" if scores else _why(document, here),
        )

    def samples(self) -> dict[str, npt.NDArray[np.float32]]:
        """Sorted scores of a sample of kept spans, by axis, from the calibration; empty if there is none."""
        samples: dict[str, npt.NDArray[np.float32]] = {}
        for item in self.calibrations:
            directory = self.workdir.child(item.dataset)
            for unit in read_units(directory, item.manifest(self.workdir)):
                for entry in unit.entries:
                    table = read_part(directory, entry.part, schema="calibration")
                    for axis, values in zip(table["axis"].to_pylist(), table["sample"], strict=True):
                        found = values.values.to_numpy()
                        samples.setdefault(axis, np.sort(found[~np.isnan(found)]))
        return samples


def _why(document: Mapping[str, Any], here: Mapping[str, pa.Table]) -> str:
    """Why a document has no scores."""
    if document["problem"] is not None:
        return f"in quarantine: {document['problem']}"
    verdict = here["verdicts"].to_pylist()[0] if "verdicts" in here else {"kept": True}
    if not verdict["kept"]:
        keeper = f"{verdict['keeper_shard']}:{verdict['keeper_row']}"
        return f"a near-duplicate of {keeper}, similarity {verdict['similarity']:.2f}"
    return "not scored"
