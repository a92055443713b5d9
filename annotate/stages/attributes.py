"""Scores that were computed elsewhere: Dolma's attribute files beside a corpus, as annotations."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, replace
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.arguments import as_location, as_path
from annotate.corpus.attributes import AttributeReader, content_of, find_attributes, stem
from annotate.corpus.footers import MAX_ROWS_PER_UNIT
from annotate.corpus.source_files import SourceFile
from annotate.errors import ConfigError, InputError
from annotate.graph import Listing, Map, Source, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.shared.annotations import Annotations, check_axis_columns, check_skip
from annotate.stages.shared.joined_scores import kept_spans
from annotate.stages.split import Split
from annotate.storage.manifests import WHOLE_FILE, FileRows, Manifest, Unit, file_rows
from annotate.storage.parts import UnitOutput
from annotate.storage.store import Directory
from annotate.text.overlaps import overlap_means

SHARDS_AT_ONCE = 64  # whose files are looked at together
THREADS = 16  # that look at them


@dataclass(frozen=True)
class AttributeFiles(Source):
    """A file of attributes for each shard of a corpus, cut in the units of the corpus.

    Attributes:
        corpus: the documents.
        location: the folder of the files. Each has the path of its shard; only the endings may differ.
    """

    corpus: Corpus
    location: str

    name: ClassVar[str] = "attributes"
    schema: ClassVar[str] = "annotations"  # of what is made from the files, which are no Parquet themselves

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", as_location(self.location, "location"))  # not in the recipe

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, which is cut in the same units."""
        return {"corpus": self.corpus}

    @property
    def label(self) -> str:
        """With the name of the folder."""
        return f"{self.name} ({self.location.rstrip('/').rpartition('/')[2]})"

    def settings(self) -> Mapping[str, Any]:
        """It has none: a file is known by its content."""
        return {}

    def read_all(self, directory: Directory, unit: Unit) -> None:
        """A file is read from its start, with the ids of all documents: one unit alone can't be."""

    @functools.cached_property
    def directory(self) -> Directory:
        """Where the files lie."""
        return Directory.at(self.location)

    def listing(
        self,
        new: Callable[[], Listing],
        found: None,
        inputs: Mapping[str, Iterator[Unit]],
        *,
        limit: int | None,
        readers: Mapping[str, str],
    ) -> Listing:
        """The units of the corpus, each with the attribute file of its shard.

        Raises:
            InputError: a shard has no attribute file.
        """
        del found, limit, readers
        listing = new()
        listing.add(self._units(inputs["corpus"]))
        return listing

    def _units(self, units: Iterator[Unit]) -> Iterator[Unit]:
        found = find_attributes(self.directory)

        def look(shard: str) -> tuple[SourceFile, str]:
            if stem(shard) not in found:
                raise InputError(
                    f"the shard {shard} has no attribute file: there is no "
                    f"{self.directory.url}/{stem(shard)}.jsonl.gz, nor one with another ending of JSON lines",
                    hint="The folder must have a file for each shard of the corpus, at its path below the fixed part "
                    "of the corpus's glob.",
                )
            return found[stem(shard)], content_of(found[stem(shard)])

        shards = ((shard, list(group)) for shard, group in itertools.groupby(units, key=lambda unit: unit.shard))
        with ThreadPoolExecutor(THREADS) as pool:
            while some := list(itertools.islice(shards, SHARDS_AT_ONCE)):
                for (shard, own), (file, content) in zip(some, pool.map(look, [each[0] for each in some]), strict=True):
                    source = FileRows(path=file.path, size=file.size, checksum=content, group=WHOLE_FILE)
                    yield from (Unit(shard, unit.start, unit.stop, 0, source=source) for unit in own)


@dataclass(frozen=True)
class AttributeScores(Annotations, Map):
    """Scores that Dolma's taggers gave to ranges of documents, as scores of spans.

    A span has the mean score of the ranges that overlap it, weighted by the code points that they share with it. So a
    range of the whole document gives its score to each span. A span that no range overlaps has no score. Documents and
    lines are matched by id, in order. If a document has no line, none of its spans has a score.

        AttributeScores(spans, "data/attributes/tox", attributes={"toxicity": "tox__jigsaw__toxic"}, skip=verdicts)

    Attributes:
        spans: the spans that get the scores; their corpus must have ids.
        location: the folder of the attribute files. Each has the path of its shard; endings may differ, so the corpus
            may be Parquet that was made from the documents.
        attributes: by axis, the name of the attribute.
        skip: verdicts; documents that are not kept get no scores.
        unmarked: the score of text that no range covers, such as 0.0, for taggers that mark only what they find; None
            if it is unknown. It is not used for documents without a line.
    """

    spans: Split
    location: str | PathLike[str]
    _: KW_ONLY
    attributes: Mapping[str, str] = field(hash=False)
    skip: NearDuplicates | None = None
    unmarked: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", as_path(self.location, "location"))
        check_axis_columns(self.axes)
        check_skip(self.spans, self.skip)
        if not isinstance(self.corpus, Corpus):
            raise ConfigError(
                f"attributes lie beside the files of a corpus, and {self.corpus.place} has none",
                hint="Give spans of a Corpus.",
            )
        if self.corpus.id is None:
            raise ConfigError(
                f"attributes go with documents by id, but the corpus {self.corpus.place} has no id column",
                hint="Give Corpus(id=...).",
            )
        if self.unmarked is not None and not np.isfinite(self.unmarked):
            raise ConfigError(f"unmarked must be a finite number or None, got {self.unmarked}")

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes on which spans get scores."""
        return tuple(self.attributes)

    @functools.cached_property
    def files(self) -> AttributeFiles:
        """The attribute files."""
        assert isinstance(self.corpus, Corpus), "it was checked"
        return AttributeFiles(self.corpus, str(self.location))

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, the corpus for its ids, the attribute files, and verdicts if any."""
        return {**super().inputs, "attributes": self.files}

    def settings(self) -> Mapping[str, Any]:
        """The axes and their attributes, the score of unmarked text, and the column of the ids."""
        return {
            "axes": list(self.axes),
            "attributes": dict(self.attributes),
            "unmarked": self.unmarked,
            "id": self.corpus.id,
        }

    def unit(self, tables: Tables) -> UnitOutput:
        """Score the spans of a unit.

        Raises:
            InputError: the file changed or is damaged, or a line of it is of no document; names file and line.
        """
        ids = self._ids(tables, tables.rows)
        reader = self._reader(tables)
        lines = reader.take(ids)
        if tables.rows.stop == self.files.corpus.reader.rows(tables.directory("corpus"), tables.unit("corpus")):
            reader.finish()
        spans = kept_spans(tables, verdicts=self.skip is not None)
        document = spans["row"].to_numpy() - tables.rows.start
        start, end = (spans[name].to_numpy() for name in ("start", "end"))
        known = np.isin(document, lines.documents)
        scores = {}
        for axis, name in self.attributes.items():
            values = overlap_means(document, start, end, lines.ranges[name], unmarked=self.unmarked)
            scores[axis] = pa.array(values, mask=np.isnan(values) | ~known)
        with_line = len(np.unique(document[known]))
        return UnitOutput(
            pa.table(
                {"row": spans["row"], "span": spans["span"], "truncated": np.zeros(len(document), bool), **scores}
            ),
            counts={
                "spans": len(document),
                "documents_with_spans": len(np.unique(document)),
                "documents_with_attributes": with_line,
                **{f"scores of {axis}": len(values) - values.null_count for axis, values in scores.items()},
            },
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when documents are without a line, or an attribute is nowhere."""
        counts = manifest.counts
        documents, known = counts.get("documents_with_spans", 0), counts.get("documents_with_attributes", 0)
        said = []
        if known < documents:
            said.append(
                f"{documents - known:,} of {documents:,} documents are not in the attribute files: they have no scores"
            )
        return said + [
            f"no span has a score on {axis}: no document that is in the attribute files has ranges of {name!r}"
            for axis, name in self.attributes.items()
            if known and not counts.get(f"scores of {axis}", 0)
        ]

    def _ids(self, tables: Tables, rows: range) -> pa.ChunkedArray:
        """Ids of some rows of the shard of a unit."""
        assert self.corpus.id is not None
        unit = replace(tables.unit("corpus"), start=rows.start, stop=rows.stop)
        return self.corpus.reader.columns_of(tables.directory("corpus"), unit, [self.corpus.id])[self.corpus.id]

    def _reader(self, tables: Tables) -> AttributeReader:
        """The reader of the shard's file, where the documents of the unit come next.

        Units of a shard are read in order. Lines of units that were committed before are passed over.
        """
        source = file_rows(tables.unit("attributes"))
        file = SourceFile(self.files.directory, source.path, source.path, source.size)
        names = tuple(self.attributes.values())
        if _reader(file, source.checksum, names).documents > tables.rows.start:
            _reader.cache_clear()
        reader = _reader(file, source.checksum, names)
        while reader.documents < tables.rows.start:
            stop = min(reader.documents + MAX_ROWS_PER_UNIT, tables.rows.start)
            reader.take(self._ids(tables, range(reader.documents, stop)))
        return reader


@functools.lru_cache(maxsize=1)
def _reader(file: SourceFile, content: str, names: tuple[str, ...]) -> AttributeReader:
    """Keep the reader of the last file, so that the units of one shard read it once."""
    if file.directory.size(file.path) != file.size or content_of(file) != content:
        raise InputError(f"{file} changed while it was being read", hint="Run again: what was made from it is redone.")
    return AttributeReader(file, names)
