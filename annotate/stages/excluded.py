"""Documents that are taken out of training shards after the fact, by id: takedowns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Documents, Map, Partitions, Received, Shuffle, Stage, Tables
from annotate.stages.duplicates.documents import range_of, row_of, unit_of, with_partition
from annotate.stages.id_index import IdIndex, documents_of_ids
from annotate.stages.shared.listed_ids import ListedIds
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class ExcludedPlaces(Shuffle):
    """Where the documents are whose ids are listed, by ranges of units; only units of the index with such ids are read.

    Attributes:
        corpus: the documents; it must have an id column.
        ids: the ids of the documents to take out.
    """

    corpus: Documents
    ids: ListedIds

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

    def settings(self) -> Mapping[str, Any]:
        """The ids, by a hash of them."""
        return {"ids": self.ids.identity, "id": self.corpus.id}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send the documents of the listed ids to the ranges of their units."""
        del partitions
        found = documents_of_ids(tables, "index", self.ids)
        documents = found["document"].to_numpy()
        table = with_partition(found.select(["document"]), range_of(documents))
        yield UnitOutput(table, counts={"ids_found": pc.count_distinct(found["id"]).as_py()} if len(documents) else {})

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """The documents in corpus order."""
        yield UnitOutput(received.sent.select(["document"]).sort_by("document"))

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of ids that no document has."""
        given, found = len(self.ids), manifest.counts.get("ids_found", 0)
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
