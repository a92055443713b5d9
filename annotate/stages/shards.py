"""What text shards and token shards have in common: which documents they hold, in what order, in which part."""

from __future__ import annotations

import abc
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.stages.base import Regroup, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.excluded import Excluded, read_ids
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.nest import Nest
from annotate.stages.place import Place
from annotate.stages.schedule import Schedule
from annotate.stages.selection import Documents, Selection
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output
from annotate.tags.timetable import phase_names, times
from annotate.text.arrays import lists_by_row, one_array
from annotate.text.splits import SplitName

PHASE = "phase"
"""The column of the phase, where the scheme has phases."""

SHARDS = "shards"
"""What the output of a pipeline is called that is shards and was given no name."""


@dataclass(frozen=True)
class Shards(Regroup):
    """Tagged documents of a corpus, in near-equal parts; of one split, where there are splits.

    They are in the order of the schedule, each part within one phase; without a schedule in corpus order.
    """

    corpus: Corpus
    verdicts: NearDuplicates | None
    placements: Place | Nest
    schedule: Schedule | None = None
    part_bytes: int = 64 << 20
    split: SplitName = "train"
    exclude: str | Path | tuple[str, ...] = ()

    sent_schema: ClassVar[str] = "sent-documents"

    def __post_init__(self) -> None:
        if not isinstance(self.placements, Place | Nest):
            raise ConfigError(
                f"{type(self).__name__}(corpus, verdicts, placements) needs placements from Place or Nest, got "
                f"{self.placements!r}"
            )
        object.__setattr__(self, "exclude", read_ids(self.exclude))
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise ConfigError(f"schedule must be a Schedule, or None for corpus order, got {self.schedule!r}")
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be at least 1, got {self.part_bytes}")
        if self.placements.verdicts != self.verdicts:
            raise ConfigError("the shards and their placements must be given the same verdicts")
        selection = self.selection
        if self.schedule is not None and self.schedule.selection != selection:
            raise ConfigError(
                "the shards and their schedule must be of the same documents",
                hint="Give Schedule the spans, verdicts, repeated spans, splits and split of the placements.",
            )
        mix = self.schedule.mix if self.schedule is not None else None
        if mix is not None and self.corpus.columns is not None and mix.column not in self.corpus.columns:
            raise ConfigError(
                f"sources are mixed by the column {mix.column!r}, which does not travel with the documents",
                hint=f"Give Corpus(..., columns=(..., {mix.column!r})).",
            )
        placed = self.placements.schedule
        if placed is not None and placed.phases and placed != self.schedule:
            raise ConfigError(
                "the placements have phases, so the shards must be in the order of their schedule",
                hint=f"Give {type(self).__name__}(..., schedule=...) the schedule that Place was given.",
            )
        if self.phases and placed != self.schedule:
            raise ConfigError(
                "the schedule of the shards has phases, whose tag rates their placements know nothing of",
                hint="Give the phases to the tag scheme, and the schedule to Place too.",
            )

    @property
    def selection(self) -> Selection:
        """The documents that are written."""
        placements = self.placements
        repeated = placements.repeated if placements.repeated is not None and placements.repeated.drop else None
        return Selection(placements.spans, self.verdicts, repeated, placements.splits, self.split)

    @property
    def control(self) -> str | None:
        """The control of the tags, if any; of nested tags there may be several."""
        controls = dict.fromkeys(place.scheme.control for place in self.placements.places)
        return ", ".join(control for control in controls if control != "none") or None

    @property
    def phases(self) -> bool:
        """Whether there are phases."""
        return self.schedule is not None and bool(self.schedule.phases)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The documents, the schedule, if any, and their placements.

        In this order: what is wrong with a mix or a budget is found before anything is scored.
        """
        optional = {"schedule": self.schedule, "excluded": self.excluded}
        given = {name: stage for name, stage in optional.items() if stage is not None}
        return {**self.selection.inputs, **given, "placements": self.placements}

    @functools.cached_property
    def excluded(self) -> Excluded | None:
        """The documents that are taken out, if any."""
        return Excluded(self.corpus, read_ids(self.exclude)) if self.exclude else None

    @property
    def types_read(self) -> None:
        """Those of all columns that travel."""
        return

    def identifies(self, name: str, unit: Unit) -> bool:
        """A unit of which nothing is excluded is made of what it would be made of without."""
        return name != "excluded" or any(entry.part.rows for entry in unit.entries)

    def settings(self) -> Mapping[str, Any]:
        """How text is grouped, and of which documents."""
        ordered = {"schedule": self.schedule.drawn_by()} if self.schedule is not None else {}
        return {"part_bytes": self.part_bytes, "id": self.corpus.id, **ordered, **self.selection.settings()}

    def _documents(self, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> Documents:
        """The documents of a unit that can be written, but for those that are excluded."""
        documents = self.selection.read(tables, bad, counts, extra=None)
        if self.excluded is None:
            return documents
        out = np.isin(documents.table["row"].to_numpy(), tables["excluded"]["row"].to_numpy())
        counts["excluded"] += int(out.sum())
        return documents.chosen(~out)

    # In corpus order: parts are groups of units.

    def plan(
        self, units: Iterator[Mapping[str, Unit]], manifests: Mapping[str, Manifest]
    ) -> Iterator[list[Mapping[str, Unit]]]:
        """Cut the units into near-equal parts of about `part_bytes`, at the unit borders nearest to equal cuts."""
        total = manifests["corpus"].size
        parts = max(1, round(total / self.part_bytes))
        group: list[Mapping[str, Unit]] = []
        before = part = 0
        for unit in units:
            size = unit["corpus"].text_bytes
            # A unit belongs to the part in which its middle lies.
            here = min(parts - 1, int((before + size / 2) * parts / total)) if total else 0
            if group and here != part:
                yield group
                group = []
            part = here
            group.append(unit)
            before += size
        if group:
            yield group

    def regrouped(self, tables: Iterator[Tables]) -> Output:
        """Make a part of the documents of some units."""
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        rows = [self.rows(self._documents(unit, bad, counts), unit, bad, counts) for unit in tables]
        written = pa.concat_tables(rows).drop_columns("row")
        counts["written"] = written.num_rows
        made = self.part(written)
        return Output(made.table, quarantine=pa.concat_tables(bad), counts={**counts, **made.counts})

    # In the order of a schedule: parts are intervals of each phase.

    @property
    def shuffled(self) -> bool:
        """Whether there is a schedule."""
        return self.schedule is not None

    def partitions(self, whole: Mapping[str, pa.Table]) -> int:
        """Parts of all phases."""
        return sum(self._parts(whole["schedule"]))

    def growth(self, whole: Mapping[str, pa.Table]) -> float:
        """The most copies of a document."""
        return max([1.0, *whole["schedule"]["repeats"].to_pylist()])

    def _parts(self, schedule: pa.Table) -> list[int]:
        """Parts of each phase: of about `part_bytes`, at least one."""
        sizes = schedule.group_by(PHASE, use_threads=False).aggregate([("bytes", "sum")])["bytes_sum"].to_pylist()
        return [max(1, round(size / self.part_bytes)) for size in sizes]

    def send(self, tables: Tables) -> Output:
        """Send the documents of a unit to the parts that they are written to, a row for each copy."""
        assert self.schedule is not None, "it is shuffled"
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        documents = self._documents(tables, bad, counts)
        sources = self.schedule.sources(documents.table, tables.shard)
        row = documents.table["row"].to_numpy()
        due = times(tables["schedule"], self.schedule.places(tables.shard, row), sources)
        reached = np.zeros(len(row), bool)
        reached[due.document] = True
        counts["not_reached"] += int((~reached).sum())
        rows = self.rows(documents.chosen(reached), tables, bad, counts)
        counts["written"] += rows.num_rows
        # The place among the rows of each copy's document; one that was put in `bad` has none.
        place = np.full(len(row), -1)
        place[np.searchsorted(row, rows["row"].to_numpy())] = np.arange(rows.num_rows)
        copy = np.flatnonzero(place[due.document] >= 0)
        counts["copies"] += len(copy) - rows.num_rows
        phase, time = due.phase[copy], due.time[copy]
        parts = np.array(self._parts(tables["schedule"]))
        to = (np.cumsum(parts) - parts)[phase] + (time * parts[phase]).astype(np.int64)
        order = np.argsort(to, kind="stable")
        sent = rows.drop_columns("row").take(pa.array(place[due.document[copy]][order]))
        if self.phases:
            names = pa.array(phase_names(tables["schedule"]), pa.string())
            sent = sent.append_column(PHASE, names.take(pa.array(phase[order])))
        columns = {"to": pa.array(to[order], pa.int32()), "time": pa.array(time[order]), "document": _packed(sent)}
        return Output(pa.table(columns), quarantine=pa.concat_tables(bad), counts=dict(counts))

    def receive(self, sent: pa.Table) -> Output:
        """Make a part of the documents that were sent to it, in the order of their times."""
        order = np.argsort(sent["time"].to_numpy(), kind="stable")
        return self.part(pa.Table.from_struct_array(sent["document"]).take(pa.array(order)))

    @abc.abstractmethod
    def rows(self, documents: Documents, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> pa.Table:
        """A row for each document that can be written: its `row` in the shard, and what its part needs of it."""

    @abc.abstractmethod
    def part(self, rows: pa.Table) -> Output:
        """Make a part of documents, in the order in which they are trained on."""

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when nothing is written."""
        documents, written = (manifest.counts.get(name, 0) for name in ("documents", "written"))
        if not documents or written:
            return []
        return [
            f"none of {documents:,} documents was written: the ledger says where they went. Damage in a file takes "
            "whole work units, so less is lost with smaller ones (unit_bytes)"
        ]


def _packed(table: pa.Table) -> pa.Array:
    """The columns of a table as one, whatever they are called."""
    return pa.StructArray.from_arrays([one_array(column) for column in table.columns], fields=list(table.schema))


def placement_lists(placed: pa.Table, documents: int) -> pa.Array:
    """Placements by document, list<struct> `[documents]` as the contract of training shards has them."""
    kind = contract("training-shards").schema.field("placements").type
    fields = pa.schema([pa.field("row", pa.int64()), *kind.value_type])
    return lists_by_row(placed.select(fields.names).cast(fields), documents).cast(kind)
