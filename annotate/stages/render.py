"""Render the text: tag-interleaved training shards in near-equal parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Tables
from annotate.stages.shared.selection import SelectedDocuments
from annotate.stages.shared.tables import placement_lists, quarantine
from annotate.stages.shared.training_shards import Shards
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.tags.forgery import escape_placements, spells_a_tag
from annotate.tags.gaps import gap_lists
from annotate.tags.placements import PLACEMENTS, merge
from annotate.tags.rendering import render
from annotate.text.arrays import one_array

SPELLS = "the text spells a tag"


@dataclass(frozen=True)
class Render(Shards):
    """Training shards: `id`, tagged `text`, its placements, and the other columns of the corpus.

        Pipeline(Render(placements, spelled="escape"))

    If repeated spans are left out, there are also the `gaps` of each document; if the scheme has phases, its `phase`.

    Attributes:
        placements: the tags, from `Place` or `Nest`. The documents, and their order, are those of the placements.
        part_bytes: bytes that a shard aims at, of untagged text and of the other columns of the corpus.
        subset: which documents are written, where the verdicts have subsets. Only documents for "train" have a training
            order and phases: those of another subset are written in corpus order, with all their tags.
        exclude: ids of documents that are taken out (takedowns), or a file with one a line. Verdicts, thresholds and
            phases do not change, nor do the bytes of parts that have none of these documents.
        spelled: what to do with a document that spells a tag: "quarantine", "keep" or "escape" it. A tokenizer can't
            tell such text from a real tag.
    """

    spelled: Literal["quarantine", "keep", "escape"] = "quarantine"

    name: ClassVar[str] = "text-shards"
    schema: ClassVar[str] = "text-shards"
    version: ClassVar[int] = 4
    travel: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spelled not in ("quarantine", "keep", "escape"):
            raise ConfigError(f'spelled must be "quarantine", "keep" or "escape", got {self.spelled!r}')

    def settings(self) -> Mapping[str, Any]:
        """How text is grouped, the columns that travel, the tags, and what to do with documents that spell one."""
        columns = list(self.corpus.columns) if self.corpus.columns is not None else None
        return {
            **super().settings(),
            "spelled": self.spelled,
            "tags": list(self.placements.spelled),
            "columns": columns,
        }

    def rows(self, documents: SelectedDocuments, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> pa.Table:
        """The tagged documents; without those that spell a tag, if these go to quarantine."""
        spells = spells_a_tag(documents.table["text"], self.placements.spelled)
        counts["documents_that_spell_a_tag"] += int(spells.sum())
        if self.spelled == "quarantine":
            refused = documents.table.filter(pa.array(spells))
            reasons = [SPELLS] * refused.num_rows
            ids = refused["id"].combine_chunks()
            bad.append(quarantine(tables.shard, refused["row"].combine_chunks(), reasons, ids=ids))
            counts["quarantined"] += refused.num_rows
            documents = documents.chosen(~spells)
        return self._tagged(documents, documents.placed(tables["placements"], tables.rows.start))

    def part(self, rows: pa.Table) -> UnitOutput:
        """The rows are the shard."""
        counts = {
            "text_bytes": pc.sum(pc.binary_length(rows["text"])).as_py() or 0,
            "tags": pc.sum(pc.list_value_length(rows["placements"])).as_py() or 0,
        }
        return UnitOutput(rows, counts=counts, large_rows=True)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn if documents spell a tag, or if nothing is written."""
        n = manifest.counts.get("documents_that_spell_a_tag", 0)
        what = {"quarantine": "sent to quarantine", "keep": "kept as spelled", "escape": "escaped"}
        were = "document spells" if n == 1 else "documents spell"
        return super().remarks(manifest) + ([f"{n:,} {were} a tag: {what[self.spelled]}"] if n else [])

    def _tagged(self, documents: SelectedDocuments, placed: pa.Table) -> pa.Table:
        """Insert the tags into documents."""
        table = documents.table
        texts = one_array(table["text"])
        if self.spelled == "escape":
            placed = merge([escape_placements(texts, self.placements.spelled), placed.cast(PLACEMENTS)])
        columns = {
            **{name: table[name] for name in ("row", "id")},
            "text": render(texts, placed),
            "placements": placement_lists(placed, len(texts)),
        }
        if documents.gaps is not None:
            columns["gaps"] = gap_lists(documents.gaps, len(texts), contract("text-shards").type_of("gaps"))
        return pa.table(columns)
