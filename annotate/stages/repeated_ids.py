"""Repeated ids: which ids of a corpus more than one document has, with two places of each.

First the hashes of all ids are gathered and sorted in one process; then the ids whose hash occurs twice are read, so
that two ids of equal hash are told apart. Texts are not read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.graph import Reduce, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.tables import text_hashes
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output

LISTED = 1000
"""Repeated ids of which places are listed: those of the lowest hashes."""


@dataclass(frozen=True)
class RepeatedHashes(Reduce):
    """Hashes that more than one id of a corpus has.

    One process holds 16 bytes a document at its peak, whatever the ids: a billion documents take 16 GB.
    """

    corpus: Corpus

    name: ClassVar[str] = "id-hashes"
    schema: ClassVar[str] = "id-hashes"

    def __post_init__(self) -> None:
        if self.corpus.id is None:
            raise ConfigError(
                "a corpus without an id column has no repeated ids: its documents are named by their place"
            )

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    def settings(self) -> Mapping[str, Any]:
        """How many are listed."""
        return {"listed": LISTED, "id": self.corpus.id}

    def piece(self, tables: Tables) -> pa.Table:
        """The hashes of the ids of a unit."""
        ids = self.corpus.reader.named(tables.directory("corpus"), tables.unit("corpus"))["id"]
        return pa.table({"hash": id_hashes(ids)})

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """All hashes, in ascending order."""
        hashes = np.concatenate([piece["hash"].to_numpy() for piece in pieces])
        hashes.sort()
        return pa.table({"hash": hashes})

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Keep the hashes that occur more than once."""
        del shared
        hashes = merged["hash"].chunk(0).to_numpy() if merged.num_rows else np.empty(0, np.uint64)
        again = hashes[1:] == hashes[:-1]
        first = again & ~np.append(False, again[:-1])
        repeated = hashes[1:][first]
        listed = repeated[:LISTED]
        table = pa.table([pa.array(listed), pa.array([len(repeated)] * len(listed), pa.int64())], schema=_HASHES)
        counts = {"repeated_ids": len(repeated), "documents_with_repeated_ids": int(again.sum()) + len(repeated)}
        return Output(table, counts=counts)


@dataclass(frozen=True)
class RepeatedIds(Reduce):
    """Ids that more than one document of a corpus has; up to `LISTED` of them, in order of their first place.

    A null id is none. Where the corpus says `ids="unique"`, a repeated id is an InputError.
    """

    corpus: Corpus

    name: ClassVar[str] = "ids"
    schema: ClassVar[str] = "ids"

    @functools.cached_property
    def hashes(self) -> RepeatedHashes:
        """Where the ids that may be repeated come from."""
        return RepeatedHashes(self.corpus)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, and the hashes that its ids have twice."""
        return {"corpus": self.corpus, "hashes": self.hashes}

    def settings(self) -> Mapping[str, Any]:
        """Whether ids must be unique: then a dataset is only committed if they are."""
        return {"ids": self.corpus.ids, "id": self.corpus.id}

    def piece(self, tables: Tables) -> pa.Table:
        """The ids of a unit that may be repeated, and where they are."""
        repeated = tables["hashes"]["hash"].to_numpy()
        if len(repeated) == 0:
            return _PLACES.empty_table()
        named = self.corpus.reader.named(tables.directory("corpus"), tables.unit("corpus"))
        found = named.filter(pa.array(np.isin(id_hashes(named["id"]), repeated)))
        return pa.table(
            [
                found["id"].cast(pa.string()),
                pa.array([tables.shard] * found.num_rows, pa.string()),
                found["row"],
            ],
            schema=_PLACES,
        )

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Count the ids, and give two places of each.

        Raises:
            InputError: an id is repeated, and ids must be unique; gives two examples.
        """
        hashes = shared["hashes"]
        ordered = merged.sort_by([("shard", "ascending"), ("row", "ascending")])
        place = pc.binary_join_element_wise(ordered["shard"], ordered["row"].cast(pa.string()), ":")
        places = pa.table({"id": ordered["id"], "place": place, "at": np.arange(ordered.num_rows)})
        groups = places.group_by("id", use_threads=False).aggregate([("at", "min"), ("place", "list"), ("id", "count")])
        groups = groups.filter(pc.greater(groups["id_count"], 1)).sort_by("at_min")
        table = pa.table(
            [
                groups["id"],
                groups["id_count"],
                pc.list_element(groups["place_list"], 0),
                pc.list_element(groups["place_list"], 1),
            ],
            schema=contract("ids").schema,
        )
        examples = [
            f"{_short(row['id'])} at {row['first']} and {row['second']}" for row in table.slice(0, 2).to_pylist()
        ]
        if examples and self.corpus.ids == "unique":
            raise InputError(
                f'ids are repeated in {self.corpus.path}, which says ids="unique": {"; ".join(examples)}',
                hint='Give each document an id of its own, or say ids="any".',
            )
        # Two ids of equal hash count as one repeated id, but for those that are listed.
        false = hashes.num_rows - table.num_rows
        repeated = (hashes["of"][0].as_py() if hashes.num_rows else 0) - false
        notes = {"examples": "; ".join(examples)} if examples else {}
        return Output(table, counts={"repeated_ids": repeated}, notes=notes)

    def remarks(self, manifest: Manifest) -> list[str]:
        """How many ids are repeated, with two examples."""
        count = manifest.counts["repeated_ids"]
        examples = [note.removeprefix("examples=") for note in manifest.notes if note.startswith("examples=")]
        return [f"{count} {'id is' if count == 1 else 'ids are'} repeated, e.g. {text}" for text in examples]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


_HASHES = contract("id-hashes").schema
_PLACES = pa.schema([("id", pa.string()), ("shard", pa.string()), ("row", pa.int64())])


def id_hashes(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """A 64-bit number for each id, of which none is null: uint64 `[n]`, equal for equal ids."""
    array = ids.combine_chunks()
    if pa.types.is_large_string(array.type):
        return text_hashes(array)
    return array.to_numpy().view(np.uint64)
