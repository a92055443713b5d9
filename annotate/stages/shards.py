"""What text shards and token shards have in common: which documents they hold, with what text, in which part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.stages.base import Regroup, Stage, Tables
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.nest import Nest
from annotate.stages.place import Place
from annotate.stages.repeated_spans import RepeatedSpans, dropped_spans
from annotate.stages.tables import bad_documents, check_hashes, chosen
from annotate.storage.manifests import Manifest, Unit
from annotate.tags.forgery import spells_a_tag
from annotate.tags.gaps import gaps_of, leave_out, moved
from annotate.text.splits import SplitName, Splits


@dataclass(frozen=True)
class Documents:
    """The documents of a unit that may be written.

    Attributes:
        table: row, id, text without what is left out, problem, and the other columns that travel.
        gaps: what is left out of each, `row` being its place in the table; None where nothing ever is.
        spells: bool `[n]`, whose text spells a tag.
    """

    table: pa.Table
    gaps: pa.Table | None
    spells: npt.NDArray[np.bool_]

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Documents:
        """Some of them."""
        gaps = None if self.gaps is None else at_positions(self.gaps, np.flatnonzero(mask))
        return Documents(chosen(self.table, mask), gaps, self.spells[mask])

    def placed(self, placements: pa.Table, start: int) -> pa.Table:
        """Placements of a unit that begins at row `start`, those of these documents, by their places in the text."""
        found = at_positions(placements, self.table["row"].to_numpy() - start, start)
        return found if self.gaps is None else moved(found, self.gaps)


@dataclass(frozen=True)
class Shards(Regroup):
    """Tagged documents of a corpus, in near-equal parts, in corpus order; of one split, where there are splits."""

    corpus: Corpus
    verdicts: NearDuplicates | None
    placements: Place | Nest
    part_bytes: int = 64 << 20
    split: SplitName = "train"

    def __post_init__(self) -> None:
        if not isinstance(self.placements, Place | Nest):
            raise ConfigError(
                f"{type(self).__name__}(corpus, verdicts, placements) needs placements from Place or Nest, got "
                f"{self.placements!r}"
            )
        if self.part_bytes < 1:
            raise ConfigError(f"part_bytes must be at least 1, got {self.part_bytes}")
        if self.split not in get_args(SplitName):
            raise ConfigError(f"split must be one of {', '.join(get_args(SplitName))}, got {self.split!r}")
        if self.split != "train" and self.splits is None:
            raise ConfigError(
                f"split={self.split!r} is of no use: there are no splits", hint="Give Calibrate(splits=Splits(...))."
            )
        if self.placements.verdicts != self.verdicts:
            raise ConfigError("the shards and their placements must be given the same verdicts")

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans, where they are left out."""
        repeated = self.placements.repeated
        return repeated if repeated is not None and repeated.drop else None

    @property
    def splits(self) -> Splits | None:
        """The splits of the calibration; None for all documents in one."""
        return self.placements.splits

    def split_settings(self) -> dict[str, Any]:
        """Which documents are written, where there are splits."""
        return {"split": self.split, "splits": self.splits.identity()} if self.splits is not None else {}

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

    def documents(self, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> Documents:
        """The documents of a unit that may be written; what becomes of the others is counted.

        Raises:
            InputError: a document is not the one that was split.
        """
        table = self.corpus.documents(tables.directory("corpus"), tables.unit("corpus"), extra=None)
        check_hashes(table, tables["spans"], tables.rows, tables.shard)
        gaps = self._gaps(tables)
        if gaps is not None:
            at = table.column_names.index("text")
            table = table.set_column(at, "text", leave_out(table["text"], gaps))
        usable = pc.is_null(table["problem"]).to_numpy()
        kept = usable & tables["verdicts"]["kept"].to_numpy() if self.verdicts is not None else usable
        held = np.zeros(len(usable), bool)
        if self.splits is not None:
            groups = tables["verdicts"]["split_group"].to_numpy()
            held = kept & ~self.splits.chosen(groups, self.split)
        empty = kept & ~held & (pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy() == 0)
        spells = spells_a_tag(table["text"], self.placements.spelled) & kept & ~held
        bad.append(bad_documents(table, tables.shard))
        counts["documents"] += len(usable)
        counts["near_duplicate"] += int((usable & ~kept).sum())
        counts["held_out"] += int(held.sum())
        counts["repeated"] += int(empty.sum())
        counts["quarantined"] += bad[-1].num_rows
        counts["documents_that_spell_a_tag"] += int(spells.sum())
        return Documents(table, gaps, spells).chosen(kept & ~held & ~empty)

    def _gaps(self, tables: Tables) -> pa.Table | None:
        """The gaps of a unit, by position in it; None where no spans are left out."""
        if self.repeated is None:
            return None
        spans = tables["spans"]
        gaps = gaps_of(spans, dropped_spans(tables["repeated"], spans))
        return gaps.set_column(0, "row", pa.array(gaps["row"].to_numpy() - tables.rows.start))

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when nothing is written."""
        documents, written = (manifest.counts.get(name, 0) for name in ("documents", "written"))
        if not documents or written:
            return []
        return [
            f"none of {documents:,} documents was written: the ledger says where they went. Damage in a file takes "
            "whole work units, so less is lost with smaller ones (unit_bytes)"
        ]


def at_positions(table: pa.Table, positions: npt.NDArray[np.int64], start: int = 0) -> pa.Table:
    """The rows of documents at these positions of a unit; `row` becomes the place of the position among them."""
    position = table["row"].to_numpy() - start
    wanted = np.isin(position, positions)
    rows = pa.array(np.searchsorted(positions, position[wanted]), pa.int64())
    return table.filter(pa.array(wanted)).set_column(0, "row", rows)
