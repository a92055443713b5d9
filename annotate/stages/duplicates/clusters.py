"""Who is in each component, which is kept, and what people know it by: all where its earliest document is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.stages.base import Exchange, Received, Stage
from annotate.stages.duplicates.components import Components
from annotate.stages.duplicates.numbers import UInt64, range_of, row_of, unit_of
from annotate.storage.contracts import contract
from annotate.storage.parts import Output
from annotate.text.keyed import keyed_hash, name_key

Keep = Literal["longest", "earliest"]
LARGEST = 0.01
"""Share of the documents above which a split group is cut."""


@dataclass(frozen=True)
class Members(Exchange):
    """The documents of each component that has more than one, with what a keeper is chosen by."""

    components: Components

    name: ClassVar[str] = "members"
    schema: ClassVar[str] = "members"
    sent_schema: ClassVar[str] = "sent-links"
    source: ClassVar[str] = "components"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The components and the signatures."""
        return {"components": self.components, "signatures": self.components.pairs.pairs.signatures}

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send each member of this range, the earliest of its component too, to its own range."""
        del partitions
        root, member = table["a"].to_numpy(), table["b"].to_numpy()
        first = np.unique(root)
        a, b = np.concatenate([root, first]), np.concatenate([member, first])
        here = range_of(b) == number
        columns = [range_of(b)[here], a[here], b[here]]
        return pa.table([pa.array(column) for column in columns], schema=contract(self.sent_schema).schema)

    def receive(self, received: Received) -> Output:
        """Put lengths to the documents."""
        order = np.argsort(received.sent["b"].to_numpy())
        root, member = (received.sent[name].to_numpy()[order] for name in ("a", "b"))
        length = np.zeros(len(member), np.int64)
        units = unit_of(member)
        for number, unit in received.beside:
            mine = slice(*np.searchsorted(units, [number, number + 1]))
            if mine.start < mine.stop:
                length[mine] = unit["signatures"]["length"].to_numpy()[row_of(member[mine])]
        columns = [pa.array(column) for column in (root, member, length)]
        return Output(pa.table(columns, schema=contract(self.schema).schema))


@dataclass(frozen=True)
class Keepers(Exchange):
    """The keeper of each cluster, paired with each of its documents, itself too; and the identity of the cluster."""

    members: Members
    keep: Keep

    name: ClassVar[str] = "keepers"
    schema: ClassVar[str] = "keepers"
    sent_schema: ClassVar[str] = "sent-members"
    source: ClassVar[str] = "members"

    def __post_init__(self) -> None:
        if self.keep not in ("longest", "earliest"):
            raise ConfigError(f'keep must be "longest" or "earliest", got {self.keep!r}')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The members, and the signatures for their ranges."""
        return {"members": self.members, "signatures": self.members.inputs["signatures"]}

    def settings(self) -> Mapping[str, Any]:
        """The rule."""
        return {"keep": self.keep}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send a document to the earliest of its cluster."""
        del number, partitions
        to = pa.array(range_of(table["root"].to_numpy()))
        return table.add_column(0, pa.field("to", pa.int32(), nullable=False), to)

    def receive(self, received: Received) -> Output:
        """Choose the keeper: the longest and then the earliest document, or the earliest."""
        root, member, length = (received.sent[name].to_numpy() for name in ("root", "member", "length"))
        by = (member, -length, root) if self.keep == "longest" else (member, root)
        order = np.lexsort(by)
        root, member = root[order], member[order]
        starts = np.flatnonzero(np.diff(root, prepend=root[:1] + np.uint64(1))) if len(root) else np.empty(0, np.int64)
        keeper = np.repeat(member[starts], np.diff(starts, append=len(root)))
        columns = [pa.array(column) for column in (keeper, member, identities(root, received))]
        return Output(pa.table(columns, schema=contract(self.schema).schema))


@dataclass(frozen=True)
class Groups(Exchange):
    """The split group of each document that shares one; that of a group too large is its cluster (null)."""

    members: Members

    name: ClassVar[str] = "groups"
    schema: ClassVar[str] = "groups"
    sent_schema: ClassVar[str] = "sent-members"
    source: ClassVar[str] = "members"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The members, and the signatures for their ranges."""
        return {"members": self.members, "signatures": self.members.inputs["signatures"]}

    def settings(self) -> Mapping[str, Any]:
        """The largest group."""
        return {"largest": LARGEST}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send a document to the earliest of its group."""
        del number, partitions
        to = pa.array(range_of(table["root"].to_numpy()))
        return table.add_column(0, pa.field("to", pa.int32(), nullable=False), to)

    def receive(self, received: Received) -> Output:
        """Count the documents of each group, and name it."""
        root, member = (received.sent[name].to_numpy() for name in ("root", "member"))
        order = np.lexsort((member, root))
        root, member = root[order], member[order]
        starts = np.flatnonzero(np.diff(root, prepend=root[:1] + np.uint64(1))) if len(root) else np.empty(0, np.int64)
        sizes = np.diff(starts, append=len(root))
        large = np.repeat(sizes > max(LARGEST * received.documents, 100), sizes)
        group = pa.array(identities(root, received), mask=large)
        table = pa.table([pa.array(member), group], schema=contract(self.schema).schema)
        cut = int((sizes > max(LARGEST * received.documents, 100)).sum())
        return Output(table, counts={"cut_groups": cut, "documents_of_cut_groups": int(large.sum())})


@dataclass(frozen=True)
class GroupsOfDocuments(Exchange):
    """The split groups, where their documents are."""

    groups: Groups

    name: ClassVar[str] = "document-groups"
    schema: ClassVar[str] = "groups"
    sent_schema: ClassVar[str] = "sent-groups"
    source: ClassVar[str] = "groups"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The groups, and the signatures for the ranges."""
        return {"groups": self.groups, "signatures": self.groups.inputs["signatures"]}

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def send(self, table: pa.Table, number: int, partitions: int) -> pa.Table:
        """Send a document to its range."""
        del number, partitions
        to = pa.array(range_of(table["document"].to_numpy()))
        return table.add_column(0, pa.field("to", pa.int32(), nullable=False), to)

    def receive(self, received: Received) -> Output:
        """Put them in order."""
        return Output(received.sent.drop_columns(["to"]).sort_by("document"))


def identity(shard: str, rows: np.ndarray[Any, np.dtype[np.int64]]) -> UInt64:
    """What a cluster or a split group is known by: a hash of where its earliest document is, so of nothing else."""
    return keyed_hash(name_key(shard), rows)


def identities(documents: UInt64, received: Received) -> UInt64:
    """The identity of each of some documents of the partition, sorted or not: uint64 `[n]`."""
    found = np.zeros(len(documents), np.uint64)
    units = unit_of(documents)
    for number, unit in received.beside:
        mine = np.flatnonzero(units == number)
        if len(mine):
            found[mine] = identity(unit.shard, row_of(documents[mine]) + unit.rows.start)
    return found
