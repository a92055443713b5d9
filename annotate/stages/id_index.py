"""Where the documents of each id are, so that an id is found without reading the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import Partitions, Received, Tables
from annotate.stages.duplicates.documents import numbered
from annotate.stages.repeated_ids import ByIds
from annotate.stages.shared.listed_ids import ListedIds, hashes_of_ids, partitions_of_ids
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput

PARTITIONS = "partitions"
"""The name of a note: the number of partitions that hashes of ids are sent to. A unit without ids has none."""


@dataclass(frozen=True)
class IdIndex(ByIds):
    """The documents of a corpus by id: each unit has those whose ids have some hashes."""

    name: ClassVar[str] = "id-index"
    schema: ClassVar[str] = "id-index"
    sent_schema: ClassVar[str] = "sent-id-index"

    def settings(self) -> Mapping[str, Any]:
        """The name of the id column."""
        return {"id": self.corpus.id}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each id, and the number of its document, to the partition of its hash."""
        named = self.corpus.reader.named(tables.directory("corpus"), tables.unit("corpus"))
        ids = named["id"].cast(pa.string())
        columns = [
            pa.array(partitions_of_ids(hashes_of_ids(ids), partitions.number)),
            pa.array(np.full(len(ids), partitions.number, np.int32)),
            ids,
            pa.array(numbered(tables.number, named["row"].to_numpy() - tables.rows.start)),
        ]
        yield UnitOutput(pa.table(columns, schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """The documents, by id."""
        sent = received.sent
        notes = {PARTITIONS: str(sent["of"][0].as_py())} if sent.num_rows else {}
        table = sent.select(["id", "document"]).sort_by([("id", "ascending"), ("document", "ascending")])
        yield UnitOutput(table, notes=notes)


def documents_of_ids(tables: Tables, name: str, ids: ListedIds) -> pa.Table:
    """The documents of some ids, `id` and `document`, in a unit of an index, which is read only if it can have any.

    Args:
        tables: of a stage that reads an index.
        name: of this input.
        ids: the ids.
    """
    (entry,) = tables.unit(name).entries
    nothing = contract(IdIndex.schema).schema.empty_table()
    if PARTITIONS not in entry.notes:
        return nothing
    mine = ids.of_partition(tables.number, int(entry.notes[PARTITIONS])).cast(pa.string())
    if not len(mine):
        return nothing
    table = tables[name]
    return table.filter(pc.is_in(table["id"], mine))
