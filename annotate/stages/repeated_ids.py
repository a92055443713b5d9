"""Repeated ids: the ids that more than one document of a corpus has, with two places of each.

Each id is sent to the partition of its hash, which sees all documents with this id. So no process holds all ids. Texts
are not read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.graph import Documents, Partitions, Received, Reduce, Shuffle, Stage, Tables, graph, partitions_of
from annotate.stages.corpus import Corpus
from annotate.stages.shared.listed_ids import partitions_of_ids
from annotate.stages.shared.tables import as_table, text_hashes
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import UnitOutput

LISTED = 1000
"""Most repeated ids that are listed: those with the lowest hashes."""
ID_BYTES = 64
"""Approximate bytes that a document sends: its id and its place."""


@dataclass(frozen=True)
class ByIds(Shuffle):
    """A shuffle that sends the ids of a corpus, each to the partition of its hash."""

    corpus: Documents

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """Enough partitions that each receives about `PARTITION_UNITS` times the bytes of a work unit."""
        del whole
        return partitions_of(manifests["corpus"].rows * ID_BYTES, self.corpus.unit_size)

    def held(self, units: Mapping[str, Unit]) -> int:
        """The bytes of the ids of a unit, about."""
        return (units["corpus"].stop - units["corpus"].start) * ID_BYTES


@dataclass(frozen=True)
class IdPartitions(ByIds):
    """The repeated ids of each partition, those of the lowest hashes, with two places of each."""

    name: ClassVar[str] = "id-partitions"
    schema: ClassVar[str] = "id-partitions"
    sent_schema: ClassVar[str] = "sent-ids"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.corpus.id is None:
            raise ConfigError(
                "a corpus without an id column has no repeated ids: its documents are named by their place"
            )

    def settings(self) -> Mapping[str, Any]:
        """How many are listed."""
        return {"listed": LISTED, "id": self.corpus.id}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each id that is not null, and where it is, to the partition of its hash.

        Of documents of the unit that have the same id two are sent: the second stands for all later ones.
        """
        named = self.corpus.reader.named(tables.directory("corpus"), tables.unit("corpus"))
        sent = pl.DataFrame({"id": named["id"]}).select(
            nth=pl.int_range(pl.len()).over("id"), of=pl.len().cast(pl.Int64).over("id")
        )
        named = named.filter((sent["nth"] < 2).to_arrow())
        sent = sent.filter(pl.col("nth") < 2)
        counts = sent.select(pl.when(pl.col("nth") == 1).then(pl.col("of") - 1).otherwise(1).cast(pl.Int64))
        hashes = id_hashes(named["id"])
        shard = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(hashes), np.int32)), pa.array([tables.shard]))
        columns = [
            pa.array(partitions_of_ids(hashes, partitions.number)),
            pa.array(hashes),
            named["id"].cast(pa.string()),
            shard.cast(pa.string()),
            named["row"],
            counts.to_series().to_arrow(),
        ]
        yield UnitOutput(pa.table(columns, schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Find the ids that came more than once."""
        sent = received.sent
        sent = sent.filter(pa.array(_again(sent["hash"].to_numpy())))
        found = (
            pl.DataFrame(sent)
            .sort("shard", "row")
            .group_by("hash", "id")
            .agg(
                count=pl.col("count").sum(),
                first_shard=pl.col("shard").first(),
                first_row=pl.col("row").first(),
                # Null for an id that came once and only shares a hash. The next line removes it.
                second_shard=pl.col("shard").get(1, null_on_oob=True),
                second_row=pl.col("row").get(1, null_on_oob=True),
            )
            .filter(pl.col("count") > 1)
        )
        yield UnitOutput(_listed(found, found.height), counts={"repeated_ids": found.height})


@dataclass(frozen=True)
class RepeatedIds(Reduce):
    """Ids that more than one document of a corpus has; up to `LISTED` of them, in order of their first place.

    Null ids are ignored. If the corpus has `ids="unique"`, a repeated id is an InputError.
    """

    corpus: Corpus

    name: ClassVar[str] = "repeated-ids"
    schema: ClassVar[str] = "repeated-ids"
    piece_schema: ClassVar[str] = "id-partitions"

    @functools.cached_property
    def partitions(self) -> IdPartitions:
        """The repeated ids of each partition."""
        return IdPartitions(self.corpus)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The repeated ids of each partition."""
        return {"partitions": self.partitions}

    def settings(self) -> Mapping[str, Any]:
        """Whether ids must be unique: then a dataset is only committed if they are."""
        return {"ids": self.corpus.ids, "id": self.corpus.id}

    def piece(self, tables: Tables) -> pa.Table:
        """The repeated ids of a partition."""
        return tables["partitions"]

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """The ids with the lowest hashes, and the number of all repeated ids."""
        tables = list(pieces)
        of = sum(table["of"][0].as_py() for table in tables if table.num_rows)
        return _listed(pl.DataFrame(pa.concat_tables(tables)), of)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Put the ids in order of their first place.

        Raises:
            InputError: an id is repeated, and ids must be unique; gives two examples.
        """
        del shared
        found = merged.sort_by([("first_shard", "ascending"), ("first_row", "ascending")])
        table = pa.table(
            [found["id"], found["count"], *(_places(found, name) for name in ("first", "second"))],
            schema=contract(self.schema).schema,
        )
        examples = [
            f"{_short(row['id'])} at {row['first']} and {row['second']}" for row in table.slice(0, 2).to_pylist()
        ]
        if examples and self.corpus.ids == "unique":
            raise InputError(
                f'ids are repeated in {self.corpus.path}, which says ids="unique": {"; ".join(examples)}',
                hint='Give each document an id of its own, or say ids="any".',
            )
        notes = {"examples": "; ".join(examples)} if examples else {}
        return UnitOutput(table, counts={"repeated_ids": found["of"][0].as_py() if found.num_rows else 0}, notes=notes)

    def remarks(self, manifest: Manifest) -> list[str]:
        """How many ids are repeated, with two examples."""
        count = manifest.counts["repeated_ids"]
        examples = [note.removeprefix("examples=") for note in manifest.notes if note.startswith("examples=")]
        return [f"{count} {'id is' if count == 1 else 'ids are'} repeated, e.g. {text}" for text in examples]


def _again(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which values occur more than once: bool `[n]`."""
    _, at, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.asarray(counts[at] > 1)


def _listed(found: pl.DataFrame, of: int) -> pa.Table:
    """The ids of the lowest hashes, with how many there are in all."""
    first = found.sort("hash", "id").head(LISTED).with_columns(of=pl.lit(of, pl.Int64))
    return as_table(first, "id-partitions")


def _places(found: pa.Table, name: str) -> pa.ChunkedArray:
    """The places of documents, as people read them."""
    return pc.binary_join_element_wise(found[f"{name}_shard"], found[f"{name}_row"].cast(pa.string()), ":")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def id_hashes(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """A 64-bit number for each id, of which none is null: uint64 `[n]`, equal for equal ids."""
    array = ids.combine_chunks()
    if pa.types.is_large_string(array.type):
        return text_hashes(array)
    return array.to_numpy().view(np.uint64)


def id_checks(outputs: Iterable[Stage]) -> tuple[RepeatedIds, ...]:
    """A check for repeated ids of each corpus that has ids, of those that `outputs` are made from."""
    return tuple(RepeatedIds(stage) for stage in graph(outputs) if isinstance(stage, Corpus) and stage.id is not None)
