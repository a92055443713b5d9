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
from annotate.stages.base import Tables
from annotate.stages.shards import Documents, Shards
from annotate.stages.tables import one_array, quarantine
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.tags.forgery import escape_placements
from annotate.tags.gaps import gap_lists
from annotate.tags.placements import PLACEMENTS, merge
from annotate.tags.rendering import render

SPELLS = "the text spells a tag"


@dataclass(frozen=True)
class Render(Shards):
    """Training shards: `id`, tagged `text`, its placements, and the other columns of the corpus.

    Where the placements' calibration has repeated spans that are left out, also the `gaps` of each document.

    Attributes:
        corpus: the documents.
        verdicts: which of them are kept; None for all.
        placements: the tags.
        part_bytes: bytes of untagged text that a shard aims at.
        split: which documents are written, where the calibration was given splits.
        spelled: what to do with a document that spells a tag: "quarantine", "keep" or "escape" it. In text, who
            tokenizes could not tell it from a real tag.
    """

    spelled: Literal["quarantine", "keep", "escape"] = "quarantine"

    name: ClassVar[str] = "training-shards"
    schema: ClassVar[str] = "training-shards"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spelled not in ("quarantine", "keep", "escape"):
            raise ConfigError(f'spelled must be "quarantine", "keep" or "escape", got {self.spelled!r}')

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
            **self.split_settings(),
        }

    def regrouped(self, tables: Iterator[Tables]) -> Output:
        """Render the documents of one part."""
        written: list[pa.Table] = []
        bad: list[pa.Table] = []
        counts: Counter[str] = Counter()
        for unit in tables:
            self._unit(unit, written, bad, counts)
        return Output(pa.concat_tables(written), quarantine=pa.concat_tables(bad), counts=dict(counts))

    def _unit(self, tables: Tables, written: list[pa.Table], bad: list[pa.Table], counts: Counter[str]) -> None:
        documents = self.documents(tables, bad, counts)
        if self.spelled == "quarantine":
            refused = documents.table.filter(pa.array(documents.spells))
            reasons = [SPELLS] * refused.num_rows
            ids = refused["id"].combine_chunks()
            bad.append(quarantine(tables.shard, refused["row"].combine_chunks(), reasons, ids=ids))
            counts["quarantined"] += refused.num_rows
            documents = documents.chosen(~documents.spells)
        table = self._tagged(documents, documents.placed(tables["placements"], tables.rows.start))
        written.append(table)
        counts["written"] += table.num_rows
        counts["text_bytes"] += pc.sum(pc.binary_length(table["text"])).as_py() or 0
        counts["tags"] += pc.sum(pc.list_value_length(table["placements"])).as_py() or 0

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when documents spell a tag, or nothing is written."""
        n = manifest.counts.get("documents_that_spell_a_tag", 0)
        what = {"quarantine": "sent to quarantine", "keep": "kept as spelled", "escape": "escaped"}
        were = "document spells" if n == 1 else "documents spell"
        return super().remarks(manifest) + ([f"{n:,} {were} a tag: {what[self.spelled]}"] if n else [])

    def _tagged(self, documents: Documents, placed: pa.Table) -> pa.Table:
        """Insert the tags into documents."""
        table = documents.table
        texts = one_array(table["text"])
        if self.spelled == "escape":
            placed = merge([escape_placements(texts, self.placements.spelled), placed.cast(PLACEMENTS)])
        columns = {"id": table["id"], "text": render(texts, placed), "placements": _lists(placed, len(texts))}
        if documents.gaps is not None:
            columns["gaps"] = gap_lists(documents.gaps, len(texts), contract("training-shards").type_of("gaps"))
        extra = [name for name in table.column_names if name not in ("row", "id", "text", "problem")]
        return pa.table({**columns, **{name: table[name] for name in extra}})


def _lists(placed: pa.Table, documents: int) -> pa.Array:
    """Placements by document, as the contract has them."""
    kind = contract("training-shards").schema.field("placements").type
    names = [field.name for field in kind.value_type]
    values = pa.StructArray.from_arrays(
        [placed[name].combine_chunks().cast(kind.value_type.field(name).type) for name in names], names=names
    )
    offsets = np.searchsorted(placed["row"].to_numpy(), np.arange(documents + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
