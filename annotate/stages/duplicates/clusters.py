"""The members of each component, its keepers and its identity, found in the range of its earliest document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.graph import Documents, Partitions, Received, Tables
from annotate.stages.duplicates.components import Components
from annotate.stages.duplicates.documents import (
    DocumentShuffle,
    SignedDocuments,
    copies_of,
    identities,
    numbered,
    range_of,
    row_of,
    starts_of,
    unit_of,
    with_partition,
)
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput

HIGHEST = "highest:"
LISTED = 8
"""Copies in a unit that are listed: more than a report names of a cluster."""
LARGEST, SMALL = 0.01, 100
"""A split group is cut if it has more than this share of the documents, and more than `SMALL` of them."""


@dataclass(frozen=True)
class Members(DocumentShuffle):
    """The documents of each component, each with the value that a keeper is chosen by.

    Attributes:
        documents: with their signatures.
        components: the components.
        keep: "longest", "earliest", or "highest:NAME" for the largest value of a column of the corpus (numbers, which
            are compared as float64, dates or times).
        listed: most documents that are listed of those in a unit that are copies of each other: the first ones in the
            order in which keepers are chosen. The last of them stands for all others.
    """

    documents: SignedDocuments
    components: Components
    keep: str = "earliest"
    listed: int = LISTED

    name: ClassVar[str] = "members"
    schema: ClassVar[str] = "members"
    sent_schema: ClassVar[str] = "sent-links"
    source: ClassVar[str] = "components"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.keep not in ("longest", "earliest") and (not self.reads_corpus or self.keep == HIGHEST):
            raise ConfigError(f'keep must be "longest", "earliest" or "highest:NAME" of a column, got {self.keep!r}')

    @property
    def reads_corpus(self) -> bool:
        """Whether a column of the corpus chooses the keeper."""
        return self.keep.startswith(HIGHEST)

    @property
    def label(self) -> str:
        """With the threshold of the components."""
        return f"{self.name} ({self.components.threshold:g})"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column that a keeper is chosen by, if there is one."""
        return (self.keep.removeprefix(HIGHEST),) if self.reads_corpus else ()

    def settings(self) -> Mapping[str, Any]:
        """The setting that chooses the keeper, and how many copies are listed."""
        return {"keep": self.keep, "listed": self.listed}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each member of this range, the earliest of its component too, to its own range."""
        del partitions
        root, member = (tables.sent[name].to_numpy() for name in ("a", "b"))
        first = np.unique(root)
        a, b = np.concatenate([root, first]), np.concatenate([member, first])
        here = range_of(b) == tables.number
        columns = [range_of(b)[here], a[here], b[here]]
        yield UnitOutput(pa.table([pa.array(column) for column in columns], schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Give each document the value that a keeper is chosen by, also the copies that were not sent anywhere."""
        order = np.argsort(received.sent["b"].to_numpy())
        root, member = (received.sent[name].to_numpy()[order] for name in ("a", "b"))
        units = unit_of(member)
        schema = contract(self.schema).schema
        tables = [schema.empty_table()]
        for unit in received.beside:
            mine = slice(*np.searchsorted(units, [unit.number, unit.number + 1]))
            if mine.start == mine.stop:
                continue
            signatures = unit["signatures"]
            first = copies_of(signatures)
            leads, at = np.unique(first[row_of(member[mine])], return_index=True)
            rows = np.flatnonzero(np.isin(first, leads))
            value = np.zeros(len(rows)) if self.keep == "earliest" else self._values(unit, signatures)[rows]
            rows, value, copies = _listed(rows, first[rows], value, self.listed)
            roots = root[mine][at][np.searchsorted(leads, first[rows])]
            columns = [roots, numbered(unit.number, rows), value, copies]
            tables.append(pa.table([pa.array(column) for column in columns], schema=schema))
        yield UnitOutput(pa.concat_tables(tables))

    def _values(self, unit: Tables, signatures: pa.Table) -> npt.NDArray[np.float64]:
        """The value that a keeper is chosen by, for each document of a unit; nulls and NaN are below all others."""
        if self.keep == "longest":
            return signatures["length"].to_numpy().astype(np.float64)
        name = self.keep.removeprefix(HIGHEST)
        corpus = unit.stage("corpus")
        assert isinstance(corpus, Documents)
        hint = f'keep="{HIGHEST}NAME" takes a column of numbers, dates or times; the corpus of against= must have it.'
        try:
            column = corpus.reader.others(unit.directory("corpus"), unit.unit("corpus"), (name,))[name]
            values = pc.fill_null(_numbers(column), -np.inf).to_numpy()
        except InputError as error:
            raise InputError(error.message, hint=error.hint or hint) from error
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            message = f"keep={self.keep!r}: column {name!r} of {unit.shard} has no numbers: {error}"
            raise ConfigError(message, hint=hint) from error
        return np.where(np.isnan(values), -np.inf, values)


def _listed(
    rows: npt.NDArray[np.int64], first: npt.NDArray[np.int64], value: npt.NDArray[np.float64], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Of copies of one document, those with the largest values, and for how many documents each stands.

    Args:
        rows: of the documents of a unit, int64 `[n]`.
        first: the first copy of each, as `copies_of` gives it.
        value: that a keeper is chosen by, float64 `[n]`.
        most: of one document.

    Returns:
        Rows in order, their values, and numbers of documents.
    """
    order = np.lexsort((rows, -value, first))
    starts = starts_of(first[order])
    sizes = np.diff(starts, append=len(order))
    nth, size = np.arange(len(order)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)
    copies = np.where(nth == most - 1, size - most + 1, 1)
    chosen = np.flatnonzero(nth < most)
    chosen = chosen[np.argsort(rows[order[chosen]])]
    return rows[order[chosen]], value[order[chosen]], copies[chosen]


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of numbers, dates or times as float64. Numbers beyond 2**53 that are nearly equal tie."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return column.cast(pa.float64(), safe=pa.types.is_string(kind) or pa.types.is_large_string(kind))


class _ToTheEarliest(DocumentShuffle):
    """Sends members to the range of the earliest document of their component, which sees all of them."""

    sent_schema: ClassVar[str] = "sent-members"
    source: ClassVar[str] = "members"

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a document to the range of the earliest of its component."""
        del partitions
        yield UnitOutput(with_partition(tables.sent, range_of(tables.sent["root"].to_numpy())))


@dataclass(frozen=True)
class Keepers(_ToTheEarliest):
    """Each document of a cluster with its keeper, which is itself if it is kept; and the identity of the cluster.

    Documents of a corpus that this one is compared against come first, then those that `Members.keep` prefers, then the
    earlier.

    Attributes:
        documents: with their signatures.
        members: of the clusters.
        most: number of documents that are kept of a cluster.
    """

    documents: SignedDocuments
    members: Members
    most: int = 1

    name: ClassVar[str] = "keepers"
    schema: ClassVar[str] = "keepers"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"most must be at least 1 document of a cluster, got {self.most}")
        assert self.members.listed > self.most, "of copies that are not listed, none is kept"

    def settings(self) -> Mapping[str, Any]:
        """How many are kept."""
        return {"most": self.most}

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Choose the keepers."""
        root, member, value = (received.sent[name].to_numpy() for name in ("root", "member", "value"))
        order = np.lexsort((member, -value, unit_of(member) < received.units, root))
        root, member = root[order], member[order]
        starts = starts_of(root)
        sizes = np.diff(starts, append=len(root))
        kept = np.arange(len(root)) - np.repeat(starts, sizes) < self.most
        keeper = np.where(kept, member, np.repeat(member[starts], sizes))
        copies = received.sent["copies"].to_numpy()[order]
        columns = [pa.array(column) for column in (keeper, member, identities(root, received), copies)]
        yield UnitOutput(pa.table(columns, schema=contract(self.schema).schema))


@dataclass(frozen=True)
class Groups(_ToTheEarliest):
    """The split group of each document that shares one; null if the group was too large and was cut."""

    documents: SignedDocuments
    members: Members

    name: ClassVar[str] = "groups"
    schema: ClassVar[str] = "groups"
    version: ClassVar[int] = 2

    def settings(self) -> Mapping[str, Any]:
        """The largest group."""
        return {"largest": LARGEST, "small": SMALL}

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Count the documents of each group, and name it."""
        root, member, copies = (received.sent[name].to_numpy() for name in ("root", "member", "copies"))
        order = np.lexsort((member, root))
        root, member, copies = root[order], member[order], copies[order]
        starts = starts_of(root)
        sizes = np.diff(starts, append=len(root))
        # Documents of another corpus are in no subset.
        own = np.append(0, np.cumsum(np.where(unit_of(member) < received.units, copies, 0)))
        too_large = own[starts + sizes] - own[starts] > max(LARGEST * received.rows, SMALL)
        cut = np.repeat(too_large, sizes)
        group = pa.array(identities(root, received), mask=cut)
        table = pa.table([pa.array(member), group, pa.array(copies)], schema=contract(self.schema).schema)
        counts = {"cut_groups": int(too_large.sum()), "documents_of_cut_groups": int(copies[cut].sum())}
        yield UnitOutput(table, counts=counts)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of groups that were cut: their documents may now lie in different subsets."""
        cut = manifest.counts.get("cut_groups", 0)
        if not cut:
            return []
        groups = "1 split group has" if cut == 1 else f"{cut:,} split groups have"
        documents = manifest.counts["documents_of_cut_groups"]
        return [
            f"{groups} more than {LARGEST:.0%} of the corpus, {documents:,} documents in all: each cluster of it is a "
            "group of its own"
        ]


@dataclass(frozen=True)
class DocumentGroups(DocumentShuffle):
    """The split groups, in the ranges of their documents."""

    documents: SignedDocuments
    groups: Groups

    name: ClassVar[str] = "document-groups"
    schema: ClassVar[str] = "groups"
    version: ClassVar[int] = 2
    sent_schema: ClassVar[str] = "sent-groups"
    source: ClassVar[str] = "groups"

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a document to its range."""
        del partitions
        yield UnitOutput(with_partition(tables.sent, range_of(tables.sent["document"].to_numpy())))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Put them in order."""
        yield UnitOutput(received.sent.drop_columns(["to"]).sort_by("document"))
