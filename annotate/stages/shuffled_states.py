"""The control "shuffled": tags go to other spans of the corpus, however that is sorted.

span states ─► shuffled states ─► unit states

The states of each span are sent to the partition of a hash of the span. There the states, sorted by that hash, are
given to the same spans in corpus order: a permutation that does not depend on the text. Then they are sent to the units
of their new spans. On average, a partition holds as many spans as a range of units has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.graph import RANGE_UNITS, Partitions, Received, Shuffle, Stage, Tables
from annotate.stages.shared.measuring import Measuring
from annotate.stages.thresholds import Thresholds
from annotate.storage.parts import UnitOutput
from annotate.tags.states import Ruled, by_rules, shuffle_keys

WHERE = ("to", "unit", "place", "key")
"""The columns that stay with a span. All others are states, and go together to another span."""


@dataclass(frozen=True)
class SpanStates(Measuring):
    """The states that the rules of a scheme give each span of a unit, after the dropout of families."""

    name: ClassVar[str] = "span-states"
    schema: ClassVar[str] = "span-states"

    def unit(self, tables: Tables) -> UnitOutput:
        """Apply the rules to the spans of a unit."""
        measured = self.measured(tables, self.documents(tables))
        ruled = by_rules(measured, self.scheme, self.ranks(tables, measured.scores))
        columns: dict[str, npt.NDArray[Any]] = {"key": shuffle_keys(measured, self.scheme)}
        for k, (family, _) in enumerate(self.scheme.tags_by_family):
            columns[f"state of {family.name}"] = ruled.states[:, k]
            if ruled.order is not None:
                columns[f"order {k}"] = ruled.order[:, k]
        return UnitOutput(pa.table(columns))


@dataclass(frozen=True)
class ShuffledStates(Shuffle):
    """The states of spans, given to other spans."""

    states: SpanStates

    name: ClassVar[str] = "shuffled-states"
    schema: ClassVar[str] = "shuffled-states"
    sent_schema: ClassVar[str] = "sent-span-states"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The states."""
        return {"states": self.states}

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send the states of each span to the partition of its hash, with the place of the span."""
        table = tables.sent
        to = (table["key"].to_numpy() % np.uint64(partitions.number)).astype(np.int32)
        unit = np.full(len(to), tables.number, np.int64)
        place = np.arange(len(to), dtype=np.int32)
        yield UnitOutput(pa.table({"to": to, "unit": unit, "place": place, **_columns(table)}))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Give the states, in the order of the hashes, to the places, in the order of the corpus."""
        sent = received.sent
        by = pa.array(np.argsort(sent["key"].to_numpy(), kind="stable"))
        moved = sent.drop_columns(list(WHERE)).take(by)
        yield UnitOutput(pa.table({"unit": sent["unit"], "place": sent["place"], **_columns(moved)}))


@dataclass(frozen=True)
class UnitStates(Shuffle):
    """The shuffled states of spans, in the range of the spans' units."""

    shuffled: ShuffledStates

    name: ClassVar[str] = "unit-states"
    schema: ClassVar[str] = "shuffled-states"
    sent_schema: ClassVar[str] = "sent-shuffled-states"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The shuffled states, and the states before."""
        return {"shuffled": self.shuffled, "states": self.shuffled.states}

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The states before, whose units are cut in ranges."""
        return (("states",),)

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send each to the range of its unit."""
        del partitions
        to = (tables.sent["unit"].to_numpy() // RANGE_UNITS).astype(np.int32)
        yield UnitOutput(pa.table({"to": to, **_columns(tables.sent)}))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Put them in order."""
        sent = received.sent
        order = np.lexsort((sent["place"].to_numpy(), sent["unit"].to_numpy()))
        yield UnitOutput(sent.drop_columns("to").take(pa.array(order)))


def shuffled_states(thresholds: Thresholds) -> UnitStates:
    """The stage that shuffles the states of the scheme of `thresholds`."""
    return UnitStates(ShuffledStates(SpanStates(thresholds)))


def states_of_unit(table: pa.Table, number: int) -> Ruled:
    """The shuffled states of the spans of unit `number`, from the table of its range."""
    own = table.filter(pc.equal(table["unit"], number))
    found, order = (_rows(own, prefix) for prefix in ("state ", "order "))
    assert found is not None, "a scheme has a family"
    return Ruled(states=found, order=order)


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _rows(table: pa.Table, prefix: str) -> npt.NDArray[np.int16] | None:
    """The columns whose names begin with `prefix`, as a matrix; None if there are none."""
    columns = [table[name].to_numpy() for name in table.column_names if name.startswith(prefix)]
    return np.stack(columns, axis=1) if columns else None
