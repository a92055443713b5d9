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
from annotate.stages.place import Place
from annotate.stages.tables import bad_documents, check_hashes, chosen, one_array, quarantine
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output
from annotate.tags.forgery import escape_placements, spells_a_tag
from annotate.tags.placements import merge
from annotate.tags.rendering import render

SPELLS = "the text spells a tag"
STATES = ("written", "near_duplicate", "quarantined")


@dataclass(frozen=True)
class Render(Regroup):
    """Training shards: `id`, tagged `text`, its placements, and the other columns of the corpus.

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
    placements: Place
    part_bytes: int = 64 << 20
    spelled: Literal["quarantine", "keep", "escape"] = "quarantine"

    name: ClassVar[str] = "training-shards"
    schema: ClassVar[str] = "training-shards"

    def __post_init__(self) -> None:
        if not isinstance(self.placements, Place):
            raise ConfigError(
                f"Render(corpus, verdicts, placements) needs placements from Place, got {self.placements!r}"
            )
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be at least 1, got {self.part_bytes}")
        if self.spelled not in ("quarantine", "keep", "escape"):
            raise ConfigError(f'spelled must be "quarantine", "keep" or "escape", got {self.spelled!r}')
        if self.placements.verdicts != self.verdicts:
            raise ConfigError("the shards and their placements must be given the same verdicts")

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, its spans (for the documents' hashes), placements, verdicts."""
        verdicts: Mapping[str, Stage] = {"verdicts": self.verdicts} if self.verdicts is not None else {}
        spans = self.placements.scores[0].spans
        return {"corpus": self.corpus, "spans": spans, "placements": self.placements, **verdicts}

    def settings(self) -> Mapping[str, Any]:
        """How text is grouped, the columns that travel, tags there are to spell, and what becomes of their spelling."""
        columns = list(self.corpus.columns) if self.corpus.columns is not None else None
        tags = [tag.name for tag in self.placements.scheme.tags]
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
        usable = pc.is_null(documents["problem"]).to_numpy()
        kept = usable.copy()
        if self.verdicts is not None:
            kept &= tables["verdicts"]["kept"].to_numpy()
        bad.append(bad_documents(documents, tables.shard))
        spells = spells_a_tag(documents["text"], self.placements.scheme) & kept
        counts["documents_that_spell_a_tag"] += int(spells.sum())
        if self.spelled == "quarantine":
            at = np.flatnonzero(spells)
            ids = documents["id"].combine_chunks().take(pa.array(at))
            bad.append(quarantine(tables.shard, at + tables.rows.start, [SPELLS] * len(at), ids=ids))
            kept &= ~spells
        table = self._tagged(chosen(documents, kept), tables, np.flatnonzero(kept))
        written.append(table)
        counts["documents"] += len(usable)
        counts["written"] += table.num_rows
        counts["near_duplicate"] += int((usable & ~kept).sum()) - (
            int(spells.sum()) if self.spelled == "quarantine" else 0
        )
        counts["quarantined"] += bad[-1].num_rows + (bad[-2].num_rows if self.spelled == "quarantine" else 0)
        counts["text_bytes"] += pc.sum(pc.binary_length(table["text"])).as_py() or 0
        counts["tags"] += pc.sum(pc.list_value_length(table["placements"])).as_py() or 0

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

    def _tagged(self, documents: pa.Table, tables: Tables, positions: np.ndarray[Any, Any]) -> pa.Table:
        """Insert the tags into the documents at `positions` of the unit."""
        placed = tables["placements"]
        position = placed["row"].to_numpy() - tables.rows.start
        wanted = np.isin(position, positions)
        placed = placed.filter(pa.array(wanted))
        placed = placed.set_column(0, "row", pa.array(np.searchsorted(positions, position[wanted]), pa.int64()))
        texts = one_array(documents["text"])
        if self.spelled == "escape":
            placed = merge([escape_placements(texts, self.placements.scheme), placed.cast(_encoded(placed))])
        columns = {"id": documents["id"], "text": render(texts, placed), "placements": _lists(placed, len(texts))}
        extra = [name for name in documents.column_names if name not in ("row", "id", "text", "problem")]
        return pa.table({**columns, **{name: documents[name] for name in extra}})


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
