"""Render the text: tag-interleaved training shards in near-equal parts, in corpus order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.stages.base import Regroup, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.nest import Nest
from annotate.stages.place import Place
from annotate.stages.repeated_spans import RepeatedSpans, dropped_spans
from annotate.stages.tables import bad_documents, check_hashes, chosen, one_array, quarantine
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output
from annotate.tags.forgery import escape_placements, spells_a_tag
from annotate.tags.gaps import gap_lists, gaps_of, leave_out, moved
from annotate.tags.placements import merge
from annotate.tags.rendering import render

SPELLS = "the text spells a tag"


@dataclass(frozen=True)
class Render(Regroup):
    """Training shards: `id`, tagged `text`, its placements, and the other columns of the corpus.

    Where the placements' calibration has repeated spans that are left out, also the `gaps` of each document.

    Attributes:
        corpus: the documents.
        verdicts: which of them are kept; None for all.
        placements: the tags.
        part_bytes: bytes of untagged text that a shard aims at.
        spelled: what to do with a document that spells a tag: "quarantine", "keep" or "escape" it. In text, who
            tokenizes could not tell it from a real tag.
    """

    corpus: Corpus
    verdicts: NearDuplicates | None
    placements: Place | Nest
    part_bytes: int = 64 << 20
    spelled: Literal["quarantine", "keep", "escape"] = "quarantine"

    name: ClassVar[str] = "training-shards"
    schema: ClassVar[str] = "training-shards"

    def __post_init__(self) -> None:
        if not isinstance(self.placements, Place | Nest):
            raise ConfigError(
                f"Render(corpus, verdicts, placements) needs placements from Place or Nest, got {self.placements!r}"
            )
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be at least 1, got {self.part_bytes}")
        if self.spelled not in ("quarantine", "keep", "escape"):
            raise ConfigError(f'spelled must be "quarantine", "keep" or "escape", got {self.spelled!r}')
        if self.placements.verdicts != self.verdicts:
            raise ConfigError("the shards and their placements must be given the same verdicts")

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans, where they are left out."""
        repeated = self.placements.repeated
        return repeated if repeated is not None and repeated.drop else None

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, its spans (for the documents' hashes), placements; verdicts and repeated spans, if any."""
        named = {
            "corpus": self.corpus,
            "spans": self.placements.spans,
            "placements": self.placements,
            "verdicts": self.verdicts,
            "repeated": self.repeated,
        }
        return {name: stage for name, stage in named.items() if stage is not None}

    def settings(self) -> Mapping[str, Any]:
        """How text is grouped, the columns that travel, tags there are to spell, and what becomes of their spelling."""
        columns = list(self.corpus.columns) if self.corpus.columns is not None else None
        tags = list(self.placements.spelled)
        return {
            "part_bytes": self.part_bytes,
            "spelled": self.spelled,
            "tags": tags,
            "id": self.corpus.id,
            "columns": columns,
        }

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
        """Render the documents of one part."""
        written: list[pa.Table] = []
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        for unit in tables:
            self._unit(unit, written, bad, counts)
        return Output(pa.concat_tables(written), quarantine=pa.concat_tables(bad), counts=dict(counts))

    def _unit(self, tables: Tables, written: list[pa.Table], bad: list[pa.Table], counts: Counter[str]) -> None:
        documents = self.corpus.documents(tables.directory("corpus"), tables.unit("corpus"), extra=None)
        check_hashes(documents, tables["spans"], tables.rows, tables.shard)
        gaps = self._gaps(tables)
        if gaps is not None:
            at = documents.column_names.index("text")
            documents = documents.set_column(at, "text", leave_out(documents["text"], gaps))
        usable = pc.is_null(documents["problem"]).to_numpy()
        kept = usable & tables["verdicts"]["kept"].to_numpy() if self.verdicts is not None else usable
        empty = kept & (pc.fill_null(pc.binary_length(documents["text"]), 0).to_numpy() == 0)
        spells = spells_a_tag(documents["text"], self.placements.spelled) & kept
        refused = spells & (self.spelled == "quarantine")
        ids = documents["id"].combine_chunks().filter(pa.array(refused))
        rows = np.flatnonzero(refused) + tables.rows.start
        bad += [bad_documents(documents, tables.shard), quarantine(tables.shard, rows, [SPELLS] * len(rows), ids=ids)]
        writes = kept & ~empty & ~refused
        table = self._tagged(chosen(documents, writes), tables, np.flatnonzero(writes), gaps)
        written.append(table)
        counts["documents_that_spell_a_tag"] += int(spells.sum())
        counts["documents"] += len(usable)
        counts["written"] += table.num_rows
        counts["near_duplicate"] += int((usable & ~kept).sum())
        counts["repeated"] += int(empty.sum())
        counts["quarantined"] += bad[-1].num_rows + bad[-2].num_rows
        counts["text_bytes"] += pc.sum(pc.binary_length(table["text"])).as_py() or 0
        counts["tags"] += pc.sum(pc.list_value_length(table["placements"])).as_py() or 0

    def _gaps(self, tables: Tables) -> pa.Table | None:
        """The gaps of a unit, by position in it; None where no spans are left out."""
        if self.repeated is None:
            return None
        spans = tables["spans"]
        gaps = gaps_of(spans, dropped_spans(tables["repeated"], spans))
        return gaps.set_column(0, "row", pa.array(gaps["row"].to_numpy() - tables.rows.start))

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when documents spell a tag."""
        said = []
        if (documents := manifest.counts.get("documents", 0)) and not manifest.counts.get("written"):
            said.append(
                f"none of {documents:,} documents was written: the ledger says where they went. Damage in a file takes "
                "whole work units, so less is lost with smaller ones (unit_bytes)"
            )
        n = manifest.counts.get("documents_that_spell_a_tag", 0)
        what = {"quarantine": "sent to quarantine", "keep": "kept as spelled", "escape": "escaped"}
        were = "document spells" if n == 1 else "documents spell"
        return said + ([f"{n:,} {were} a tag: {what[self.spelled]}"] if n else [])

    def _tagged(
        self, documents: pa.Table, tables: Tables, positions: np.ndarray[Any, Any], gaps: pa.Table | None
    ) -> pa.Table:
        """Insert the tags into the documents at `positions` of the unit."""
        placed = _at(tables["placements"], positions, tables.rows.start)
        columns = {"id": documents["id"], "text": documents["text"]}
        if gaps is not None:
            gaps = _at(gaps, positions, 0)
            placed = moved(placed, gaps)
            columns["gaps"] = gap_lists(gaps, documents.num_rows, contract("training-shards").type_of("gaps"))
        texts = one_array(documents["text"])
        if self.spelled == "escape":
            placed = merge([escape_placements(texts, self.placements.spelled), placed.cast(_encoded(placed))])
        columns |= {"text": render(texts, placed), "placements": _lists(placed, len(texts))}
        extra = [name for name in documents.column_names if name not in ("row", "id", "text", "problem")]
        order = [name for name in ("id", "text", "placements", "gaps") if name in columns]
        return pa.table({name: columns[name] for name in order} | {name: documents[name] for name in extra})


def _at(table: pa.Table, positions: np.ndarray[Any, Any], start: int) -> pa.Table:
    """The rows of documents at these positions of a unit; `row` becomes the place of the position among them."""
    position = table["row"].to_numpy() - start
    wanted = np.isin(position, positions)
    rows = pa.array(np.searchsorted(positions, position[wanted]), pa.int64())
    return table.filter(pa.array(wanted)).set_column(0, "row", rows)


def _encoded(table: pa.Table) -> pa.Schema:
    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([pa.field(f.name, kind if f.name in ("tag", "kind") else f.type, False) for f in table.schema])


def _lists(placed: pa.Table, documents: int) -> pa.Array:
    """Placements by document, as the contract has them."""
    kind = contract("training-shards").schema.field("placements").type
    names = [field.name for field in kind.value_type]
    values = pa.StructArray.from_arrays(
        [placed[name].combine_chunks().cast(kind.value_type.field(name).type) for name in names], names=names
    )
    offsets = np.searchsorted(placed["row"].to_numpy(), np.arange(documents + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
