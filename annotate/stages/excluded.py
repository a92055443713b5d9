"""Documents that are taken out of training shards after the fact, by id: takedowns."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.graph import Documents, Map, Partitions, Received, Shuffle, Stage, Tables, digest
from annotate.stages.duplicates.documents import range_of, row_of, unit_of, with_partition
from annotate.stages.id_index import IdIndex, documents_of_ids
from annotate.storage.contracts import contract
from annotate.storage.local_copies import local_copy
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class ExcludedPlaces(Shuffle):
    """Where the documents are whose ids are listed, by ranges of units; only units of the index with such ids are read.

    Attributes:
        corpus: the documents; it must have an id column.
        ids: the ids of the documents to take out, as text.
    """

    corpus: Documents
    ids: tuple[str, ...]

    name: ClassVar[str] = "excluded-places"
    schema: ClassVar[str] = "excluded-places"
    sent_schema: ClassVar[str] = "sent-excluded-places"

    def __post_init__(self) -> None:
        if self.corpus.id is None:
            raise ConfigError(
                f"documents are excluded by id, but the corpus {self.corpus.place} has no id column",
                hint="Give Corpus(id=...).",
            )

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The index of ids, and the corpus, for its ranges of units."""
        return {"index": IdIndex(self.corpus), "corpus": self.corpus}

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The corpus, whose units are cut in ranges."""
        return (("corpus",),)

    @functools.cached_property
    def wanted(self) -> pa.ChunkedArray:
        """The ids, each once."""
        return pa.chunked_array([pa.array(sorted(set(self.ids)), pa.string())])

    def settings(self) -> Mapping[str, Any]:
        """The ids, by a hash of them."""
        return {"ids": digest(sorted(set(self.ids))), "id": self.corpus.id}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send the documents of the listed ids to the ranges of their units."""
        del partitions
        found = documents_of_ids(tables, "index", self.wanted)
        documents = found["document"].to_numpy()
        table = with_partition(found.select(["document"]), range_of(documents))
        yield UnitOutput(table, counts={"ids_found": pc.count_distinct(found["id"]).as_py()} if len(documents) else {})

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """The documents in corpus order."""
        yield UnitOutput(received.sent.select(["document"]).sort_by("document"))

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of ids that no document has."""
        given, found = len(self.wanted), manifest.counts.get("ids_found", 0)
        return [f"{given - found:,} of {given:,} ids to exclude are those of no document"] if found < given else []


@dataclass(frozen=True)
class Excluded(Map):
    """Rows of the documents whose ids are listed.

    Only shards read this dataset: verdicts, thresholds and phases stay those of the whole corpus.

    Attributes:
        places: where they are.
    """

    places: ExcludedPlaces

    name: ClassVar[str] = "excluded"
    schema: ClassVar[str] = "excluded"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, for its units, and the places."""
        return {"corpus": self.places.corpus, "places": self.places}

    def settings(self) -> Mapping[str, Any]:
        """Those of the places. So other ids are another dataset, where nothing is looked up before it is made."""
        return self.places.settings()

    def unit(self, tables: Tables) -> UnitOutput:
        """The documents of a unit."""
        documents = tables["places"]["document"].to_numpy()
        rows = row_of(documents[unit_of(documents) == tables.number]) + tables.rows.start
        return UnitOutput(pa.table([rows], schema=contract(self.schema).schema))


def read_ids(ids: str | PathLike[str] | Iterable[str | int]) -> tuple[str, ...]:
    """Ids as text: as they are given, or from a file with one a line.

    Raises:
        InputError: the file can't be read.
    """
    if not isinstance(ids, str | PathLike):
        return tuple(str(each) for each in ids)
    try:
        lines = (
            local_copy(str(ids)).read_text("utf-8-sig").splitlines()
        )  # some editors put a mark before the first line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the ids to exclude can't be read from {ids}: {error}", hint="Give a text file with one id a line."
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
