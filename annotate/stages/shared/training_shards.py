"""The common half of text shards and token shards: which documents they hold, in what order, in which part."""

from __future__ import annotations

import abc
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import (
    Cut,
    Documents,
    EndsDocuments,
    LedgerStates,
    Map,
    Partitions,
    Received,
    Shuffle,
    Stage,
    Tables,
)
from annotate.graph.roles import Counts
from annotate.graph.stage import Kind
from annotate.stages.excluded import Excluded, ExcludedPlaces
from annotate.stages.nest import Nest, Placements
from annotate.stages.place import Place
from annotate.stages.schedule import ScheduleDocuments
from annotate.stages.shared.listed_ids import ListedIds
from annotate.stages.shared.selection import SelectedDocuments, Selection
from annotate.stages.shared.tables import between, chosen, in_order, packed, quarantine, within
from annotate.storage.latest import Role
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import UnitOutput
from annotate.subsets import SubsetName
from annotate.text.arrays import beside, held_bytes, one_array, pieces
from annotate.training_order.schedule import phase_names, times

PHASE = "phase"
"""The column of the phase, where the scheme has phases."""
LARGE = 4
"""A part may become this many times as large as it should be, if footers understate the size of columns."""

LOST = ("documents_with_lost_characters", "unknown_tokens", "dropped_characters")
"""Counts of text that a tokenizer lost."""

SHARDS = "shards"
"""The name of an output of shards that was given none."""


@dataclass(frozen=True)
class Shards(EndsDocuments, Map, Shuffle):
    """Tagged documents of a corpus, in near-equal parts; of one subset, where there are subsets.

    In corpus order it is a map of groups of units, in the order of a schedule it is a shuffle.

    With a schedule, each part is within one phase. The size of a part includes the columns that travel.
    """

    placements: Placements
    _: KW_ONLY
    part_bytes: int = 64 << 20
    subset: SubsetName = "train"
    exclude: str | PathLike[str] | Sequence[str] | ListedIds = ()

    travel: ClassVar[bool]
    """Whether the other columns of the corpus are written too."""
    sent_schema: ClassVar[str] = "sent-documents"

    def __post_init__(self) -> None:
        if not isinstance(self.placements, Place | Nest):
            raise ConfigError(
                f"{type(self).__name__}(placements) needs placements from Place or Nest, got {self.placements!r}",
                hint=f"Write {type(self).__name__}(Place(scores, scheme)): the documents are those of the scores.",
            )
        object.__setattr__(self, "exclude", ListedIds.of(self.exclude))
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be at least 1, got {self.part_bytes}")
        _ = self.selection, self.excluded  # they are checked there

    @property
    def corpus(self) -> Documents:
        """The documents."""
        return self.placements.corpus

    @property
    def made_as(self) -> Kind:
        """A shuffle where there is a schedule, else a map."""
        return "map" if self.training_order is None else "shuffle"

    @property
    def cut(self) -> Cut:
        """In parts."""
        return "own"

    @property
    def sized_by(self) -> tuple[str, ...]:
        """The corpus: its size tells how many parts there are."""
        return ("corpus",)

    @property
    def role(self) -> Role:
        """Text shards have the columns that travel, token shards have not."""
        return Role.TEXT_SHARDS if self.travel else Role.TOKEN_SHARDS

    def about(self) -> Mapping[str, str]:
        """The subset of the documents, where there are subsets; and the control of their tags, if any."""
        control = {"control": self.control} if self.control is not None else {}
        return {**({"subset": self.subset} if self.selection.subsets is not None else {}), **control}

    def ledger(self, counts: Counts) -> LedgerStates:
        """The states of the documents of the corpus."""
        own, places = counts(self), self.placements.places
        placed, left_out = counts(places[-1]), self.selection.repeated
        return LedgerStates(
            states={
                "written": own.get("written", 0),
                "near_duplicate": own.get("near_duplicate", 0),
                "quarantined": own.get("quarantined", 0),
                **({"repeated": own.get("repeated", 0)} if left_out is not None else {}),
                **({"held_out": own.get("held_out", 0)} if self.selection.subsets is not None else {}),
                **({"excluded": own.get("excluded", 0)} if self.excluded is not None else {}),
                "not_reached": own.get("not_reached", 0),
            },
            reached=own.get("documents", 0),
            beside={
                **({"copies": own["copies"]} if own.get("copies") else {}),
                **({"repeated_spans_left_out": counts(left_out).get("dropped", 0)} if left_out is not None else {}),
                "spans": placed.get("spans", 0),
                "spans_with_a_null_score": placed.get("spans_with_a_null_score", 0),
                "documents_that_spell_a_tag": own.get("documents_that_spell_a_tag", 0),
                **{name: own[name] for name in LOST if name in own},
                "unreadable_files": counts(self.corpus).get("unreadable_files", 0),
                **{
                    f"failed_scores ({', '.join(stage.axes)})": counts(stage).get("failed_scores", 0)
                    for place in places
                    for stage in place.scores
                },
            },
        )

    @functools.cached_property
    def selection(self) -> Selection:
        """The documents that are written."""
        return Selection.of(self.placements.calibration, self.subset)

    @property
    def training_order(self) -> ScheduleDocuments | None:
        """The stage that puts the documents in training order; None for corpus order, which all but "train" have."""
        return self.placements.training_order if self.subset == "train" else None

    @property
    def wide(self) -> bool:
        """Whether a row can be far larger than its text, so that a part is cut by what it holds, in either order."""
        return self.travel

    @property
    def control(self) -> str | None:
        """The control of the tags, if any; of nested tags there may be several."""
        controls = dict.fromkeys(place.scheme.control for place in self.placements.places)
        return ", ".join(control for control in controls if control != "none") or None

    @property
    def phases(self) -> bool:
        """Whether there are phases."""
        return self.training_order is not None and bool(self.training_order.phases)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The documents, the schedule, if any, and their placements.

        In this order: what is wrong with a mix or a budget is found before anything is scored.
        """
        optional = {"schedule": self.training_order, "excluded": self.excluded}
        given = {name: stage for name, stage in optional.items() if stage is not None}
        return {**self.selection.inputs, **given, "placements": self.placements}

    @functools.cached_property
    def excluded(self) -> Excluded | None:
        """The documents that are taken out, if any."""
        ids = ListedIds.of(self.exclude)
        return Excluded(ExcludedPlaces(self.corpus, ids)) if len(ids) else None

    @property
    def types_read(self) -> tuple[str, ...] | None:
        """All columns, if they travel; else those that are read beside the text."""
        return None if self.travel else self.also_read

    @property
    def also_read(self) -> tuple[str, ...]:
        """The columns that are read in any case: those that sources are mixed by."""
        return self.training_order.columns_read if self.training_order is not None else ()

    def identifies(self, name: str, unit: Unit) -> bool:
        """All but a unit without excluded documents: the same shards are made as if nothing were excluded."""
        return name != "excluded" or any(entry.part.rows for entry in unit.entries)

    def settings(self) -> Mapping[str, Any]:
        """How text is grouped, and which documents are written; columns that travel are read in slices of a unit."""
        ordered = {"schedule": self.training_order.drawn_by()} if self.training_order is not None else {}
        sliced = {"unit_bytes": self.corpus.unit_bytes} if self.travel else {}
        return {"part_bytes": self.part_bytes, "id": self.corpus.id, **sliced, **ordered, **self.selection.settings()}

    def _documents(self, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> SelectedDocuments:
        """The documents of a unit that can be written, without the excluded ones."""
        documents = self.selection.read(tables, bad, counts, extra=self.also_read)
        if self.excluded is None:
            return documents
        out = np.isin(documents.table["row"].to_numpy(), tables["excluded"]["row"].to_numpy())
        counts["excluded"] += int(out.sum())
        return documents.chosen(~out)

    def _written(self, rows: pa.Table, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> Iterator[pa.Table]:
        """Rows of documents with the columns that travel, in slices: these columns can be larger than the text."""
        if not self.travel:
            yield from pieces(rows, self._most // 4) if self.wide else [rows]
            return
        at = rows["row"].to_numpy()
        for some in self.corpus.reader.slices(tables.directory("corpus"), tables.unit("corpus")):
            own = rows.slice(*within(at, some.rows))
            mask = np.zeros(len(some.rows), bool)
            mask[own["row"].to_numpy() - some.rows.start] = True
            problem = one_array(some.problem.filter(pa.array(mask)))
            if problem.null_count < len(problem):
                usable = problem.is_null().to_numpy(zero_copy_only=False)
                lost, reasons = chosen(own, ~usable), problem.drop_null()
                bad.append(quarantine(tables.shard, one_array(lost["row"]), reasons, ids=one_array(lost["id"])))
                counts["quarantined"] += lost.num_rows
                own, mask[mask] = chosen(own, usable), usable
            yield beside(own, chosen(some.table, mask).combine_chunks()) if some.table.num_columns else own

    def held(self, units: Mapping[str, Unit]) -> int:
        """Bytes of a unit's text and of the columns that travel with it, as the footers state them."""
        text, others = self.corpus.sizes(units["corpus"])
        return text + (others if self.travel else 0)

    @property
    def _most(self) -> int:
        """Bytes that a part aims at: no less than the text of a unit."""
        return max(self.part_bytes, self.corpus.unit_size)

    # In corpus order: parts are groups of units, or pieces of a unit with large columns.

    @property
    def gathers(self) -> bool:
        """A part is made from several units."""
        return True

    def gathering(self, manifests: Mapping[str, Manifest]) -> Callable[[Mapping[str, Unit]], int]:
        """Cut the units into near-equal parts of about `part_bytes`, at the unit borders nearest to equal cuts."""
        total = self._total(manifests)
        parts = max(1, round(total / self.part_bytes))
        before = 0

        def part(units: Mapping[str, Unit]) -> int:
            """The part in which the middle of a unit lies."""
            nonlocal before
            size = self.held(units)
            middle, before = before + size / 2, before + size
            return min(parts - 1, int(middle * parts / total)) if total else 0

        return part

    def _total(self, manifests: Mapping[str, Manifest]) -> int:
        """Bytes of the corpus that `held` counts."""
        text, others = self.corpus.total(manifests["corpus"])
        return text + (others if self.travel else 0)

    def gathered_unit(self, group: Iterator[Tables]) -> Iterator[UnitOutput]:
        """Make a part of the documents of some units; several parts, if what stands beside the text is large."""
        units = list(group)
        room = self._room(sum(self.corpus.sizes(unit.unit("corpus"))[1] for unit in units))
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        gathered: list[pa.Table] = []
        size = 0
        for unit in units:
            rows = self.rows(self._documents(unit, bad, counts), unit, bad, counts)
            named = rows.column_names
            for some in self._written(rows, unit, bad, counts):
                own = held_bytes(some.drop_columns(named) if self.travel else some) if self.wide else 0
                if size + own > room and size:
                    yield self._part(gathered, bad, counts)
                    size = 0
                gathered.append(some.drop_columns("row"))
                size += own
        yield self._part(gathered, bad, counts)

    def _room(self, size: int) -> float:
        """Bytes of columns that travel that a part may hold, if a group of units has `size` bytes of them.

        If they are more than a part aims at, they are cut evenly. A tenth is added, because footers understate sizes:
        without it, a small part would be left over.
        """
        return 1.1 * max(size, self._most) / max(1, -(-size // self._most))

    def _part(self, gathered: list[pa.Table], bad: list[pa.Table], counts: Counter[str]) -> UnitOutput:
        """Make a part of the gathered rows, and empty the list."""
        written = pa.concat_tables(gathered).combine_chunks()
        gathered.clear()  # they are copied
        made = self.part(written)
        counts["written"] += written.num_rows
        counts.update(made.counts)
        output = replace(made, quarantine=pa.concat_tables(bad) if bad else None, counts=dict(counts))
        bad.clear()
        counts.clear()
        return output

    # In the order of a schedule: parts are intervals of each phase.

    @property
    def sources(self) -> tuple[tuple[str, ...], ...]:
        """All inputs that are cut as documents are."""
        return (tuple(name for name, stage in self.inputs.items() if stage.cut == "documents"),)

    def partitions(self, whole: Mapping[str, pa.Table], manifests: Mapping[str, Manifest]) -> tuple[int, ...]:
        """Parts of each phase: of about `part_bytes`, at least one."""
        sums = whole["schedule"].group_by(PHASE, use_threads=False).aggregate([("bytes", "sum")])["bytes_sum"]
        others = self._total(manifests) / max(1, self.corpus.total(manifests["corpus"])[0])
        return tuple(max(1, round(size * others / self.part_bytes)) for size in sums.to_pylist())

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send the documents of a unit to the parts that they are written to, a row for each copy."""
        assert self.training_order is not None, "it is shuffled"
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        documents = self._documents(tables, bad, counts)
        sources = self.training_order.sources(documents.table, tables.shard)
        row = documents.table["row"].to_numpy()
        due = times(tables["schedule"], self.training_order.asked.places(tables.shard, row), sources)
        reached = np.zeros(len(row), bool)
        reached[due.document] = True
        counts["not_reached"] += int((~reached).sum())
        rows = self.rows(documents.chosen(reached), tables, bad, counts)
        del documents
        parts = np.array(partitions.groups)
        firsts = np.cumsum(parts) - parts
        for some in self._written(rows, tables, bad, counts):
            counts["written"] += some.num_rows
            # The place of each document among the rows; -1 if it is not in this slice, or was put in `bad`.
            place = np.full(len(row), -1)
            place[np.searchsorted(row, some["row"].to_numpy())] = np.arange(some.num_rows)
            copies = np.flatnonzero(place[due.document] >= 0)
            counts["copies"] += len(copies) - some.num_rows
            own = some.drop_columns("row")
            sends = 1 + int(held_bytes(own) * len(copies) / max(1, own.num_rows) / partitions.most)
            for copy in np.array_split(copies, sends):
                phase, time = due.phase[copy], due.time[copy]
                to = firsts[phase] + (time * parts[phase]).astype(np.int64)
                order = np.argsort(to, kind="stable")
                sent = own.take(pa.array(place[due.document[copy]][order]))
                if self.phases:
                    names = pa.array(phase_names(tables["schedule"]), pa.string())
                    sent = sent.append_column(PHASE, names.take(pa.array(phase[order])))
                columns = {"to": pa.array(to[order], pa.int32()), "time": pa.array(time[order])}
                table = pa.table({**columns, "document": packed(sent)})
                yield UnitOutput(table, quarantine=pa.concat_tables(bad) if bad else None, counts=dict(counts))
                bad.clear()
                counts.clear()

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Make a part of the documents that were sent to it, in the order of their times.

        Columns beside the text can be larger than footers say. Then there are several parts, each of an interval of
        the times, and all sent rows are read for each of them.
        """
        ends: list[float] = [np.inf]
        if self.wide and received.size > LARGE * self._most:
            sorted_times = np.sort(np.concatenate([table["time"].to_numpy() for table in received.tables()]))
            intervals = np.array_split(sorted_times, -(-received.size // self._most))
            ends = [*np.unique([some[0] for some in intervals[1:] if len(some)]).tolist(), np.inf]
        begin = -np.inf
        for end in ends:
            yield self.part(in_order([between(table, begin, end) for table in received.tables()]))
            begin = end

    @abc.abstractmethod
    def rows(self, documents: SelectedDocuments, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> pa.Table:
        """A row for each document that can be written: its `row` in the shard, and what its part needs of it."""

    @abc.abstractmethod
    def part(self, rows: pa.Table) -> UnitOutput:
        """Make a part of documents, in the order in which they are trained on."""

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn if nothing is written."""
        documents, written = (manifest.counts.get(name, 0) for name in ("documents", "written"))
        if not documents or written:
            return []
        return [
            f"none of {documents:,} documents was written: the ledger says where they went. Damage in a file takes "
            "whole work units, so less is lost with smaller ones (unit_bytes)"
        ]
