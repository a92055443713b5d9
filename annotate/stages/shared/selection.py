"""The documents of a corpus that are trained on, and their text; the others are counted by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.stages.calibrate import Calibrate
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.repeated_spans import FindRepeatedSpans, dropped_spans
from annotate.stages.shared.tables import bad_documents, check_hashes, chosen
from annotate.stages.split import Split
from annotate.subsets import SubsetName, Subsets
from annotate.tags.gaps import gaps_of, leave_out, moved


@dataclass(frozen=True)
class SelectedDocuments:
    """Documents of a unit that are trained on.

    Attributes:
        table: row, id, text without what is left out, problem, and the other columns that travel.
        gaps: the ranges that are left out, with `row`, the document's place in the table; None if spans are never left
            out.
    """

    table: pa.Table
    gaps: pa.Table | None

    def chosen(self, mask: npt.NDArray[np.bool_]) -> SelectedDocuments:
        """Some of them."""
        gaps = None if self.gaps is None else at_positions(self.gaps, np.flatnonzero(mask))
        return SelectedDocuments(chosen(self.table, mask), gaps)

    def placed(self, placements: pa.Table, start: int) -> pa.Table:
        """The placements of these documents by their places in the text, from a unit that begins at `start`."""
        return self.without_gaps(self.at(placements, start))

    def at(self, table: pa.Table, start: int) -> pa.Table:
        """The rows of these documents, from those of a unit that begins at `start`; `row` becomes the place here."""
        return at_positions(table, self.table["row"].to_numpy() - start, start)

    def without_gaps(self, places: pa.Table) -> pa.Table:
        """Places in these documents (`row`, `offset`, `byte_offset`), moved by the text that is left out."""
        return places if self.gaps is None else moved(places, self.gaps)


@dataclass(frozen=True)
class Selection:
    """Documents that are kept, of one subset, without the spans that are left out.

    Attributes:
        spans: of the corpus.
        verdicts: which documents are kept, and in which subset they are; None for all.
        repeated: repeated spans that are left out; None where none are.
        subset: which documents they are, where the verdicts have subsets.
    """

    spans: Split
    verdicts: NearDuplicates | None
    repeated: FindRepeatedSpans | None
    subset: SubsetName = "train"

    def __post_init__(self) -> None:
        if self.subset not in get_args(SubsetName):
            raise ConfigError(f"subset must be one of {', '.join(get_args(SubsetName))}, got {self.subset!r}")
        if self.subset != "train" and self.subsets is None:
            raise ConfigError(
                f"subset={self.subset!r} is of no use: the documents are in no subsets",
                hint="Give NearDuplicates(corpus, subsets=Subsets(...)), and its verdicts as skip= of the scores.",
            )

    @staticmethod
    def of(calibration: Calibrate, subset: SubsetName = "train") -> Selection:
        """The documents of a subset, of those whose scores are calibrated."""
        repeated = calibration.found_repeated
        dropped = repeated if repeated is not None and repeated.asked.drop else None
        return Selection(calibration.spans, calibration.verdicts, dropped, subset)

    @property
    def subsets(self) -> Subsets | None:
        """The subsets that documents are in, if they are."""
        return self.verdicts.subsets if self.verdicts is not None else None

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, its spans (for the documents' hashes); verdicts and repeated spans, if any."""
        named = {
            "corpus": self.spans.corpus,
            "spans": self.spans,
            "verdicts": self.verdicts,
            "repeated": self.repeated,
        }
        return {name: stage for name, stage in named.items() if stage is not None}

    def settings(self) -> dict[str, Any]:
        """The subset, and how subsets are drawn; empty if the documents are in no subsets."""
        return {"subset": self.subset, "subsets": self.subsets.identity()} if self.subsets is not None else {}

    def read(
        self, tables: Tables, bad: list[pa.Table], counts: Counter[str], *, extra: Sequence[str]
    ) -> SelectedDocuments:
        """The documents of a unit, with extra columns.

        Documents that can't be used are put in `bad`. The documents of each state are counted.

        Raises:
            InputError: a document is not the one that was split.
        """
        table = self.spans.corpus.reader.documents(tables.directory("corpus"), tables.unit("corpus"), extra=extra)
        check_hashes(table, tables["spans"], tables.rows, tables.shard)
        gaps = self._gaps(tables)
        if gaps is not None:
            at = table.column_names.index("text")
            table = table.set_column(at, "text", leave_out(table["text"], gaps))
        usable = pc.is_null(table["problem"]).to_numpy()
        kept = usable & tables["verdicts"]["kept"].to_numpy() if self.verdicts is not None else usable
        held = np.zeros(len(usable), bool)
        if self.subsets is not None:
            groups = tables["verdicts"]["split_group"].to_numpy()
            held = kept & ~self.subsets.inside(groups, self.subset)
        empty = kept & ~held & (pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy() == 0)
        bad.append(bad_documents(table, tables.shard))
        counts["documents"] += len(usable)
        counts["near_duplicate"] += int((usable & ~kept).sum())
        counts["held_out"] += int(held.sum())
        counts["repeated"] += int(empty.sum())
        counts["quarantined"] += bad[-1].num_rows
        return SelectedDocuments(table, gaps).chosen(kept & ~held & ~empty)

    def _gaps(self, tables: Tables) -> pa.Table | None:
        """The gaps of a unit, by position in it; None where no spans are left out."""
        if self.repeated is None:
            return None
        spans = tables["spans"]
        gaps = gaps_of(spans, dropped_spans(tables["repeated"], spans))
        return gaps.set_column(0, "row", pa.array(gaps["row"].to_numpy() - tables.rows.start))


def at_positions(table: pa.Table, positions: npt.NDArray[np.int64], start: int = 0) -> pa.Table:
    """The rows of the documents at these positions of a unit; `row` becomes the place of the document among them."""
    position = table["row"].to_numpy() - start
    wanted = np.isin(position, positions)
    rows = pa.array(np.searchsorted(positions, position[wanted]), pa.int64())
    return table.filter(pa.array(wanted)).set_column(0, "row", rows)
