"""Which documents of a corpus are trained on, with what text; what becomes of the others is counted."""

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
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.repeated_spans import RepeatedSpans, dropped_spans
from annotate.stages.split import Split
from annotate.stages.tables import bad_documents, check_hashes, chosen
from annotate.tags.gaps import gaps_of, leave_out, moved
from annotate.text.splits import SplitName, Splits


@dataclass(frozen=True)
class Documents:
    """Documents of a unit that are trained on.

    Attributes:
        table: row, id, text without what is left out, problem, and the other columns that travel.
        gaps: what is left out of each, `row` being its place in the table; None where nothing ever is.
    """

    table: pa.Table
    gaps: pa.Table | None

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Documents:
        """Some of them."""
        gaps = None if self.gaps is None else at_positions(self.gaps, np.flatnonzero(mask))
        return Documents(chosen(self.table, mask), gaps)

    def placed(self, placements: pa.Table, start: int) -> pa.Table:
        """Placements of a unit that begins at row `start`, those of these documents, by their places in the text."""
        return self.without_gaps(self.at(placements, start))

    def at(self, table: pa.Table, start: int) -> pa.Table:
        """The rows of a unit that begins at row `start` which are of these documents; `row` is the document's place."""
        return at_positions(table, self.table["row"].to_numpy() - start, start)

    def without_gaps(self, places: pa.Table) -> pa.Table:
        """Places in these documents (`row`, `offset`, `byte_offset`), without what is left out of the text."""
        return places if self.gaps is None else moved(places, self.gaps)


@dataclass(frozen=True)
class Selection:
    """Documents that are kept, of one split, without the spans that are left out.

    Attributes:
        spans: of the corpus.
        verdicts: which documents are kept; None for all.
        repeated: repeated spans that are left out; None where none are.
        splits: by split group; None for all documents in one.
        split: which documents are trained on, where there are splits.
    """

    spans: Split
    verdicts: NearDuplicates | None
    repeated: RepeatedSpans | None
    splits: Splits | None
    split: SplitName

    def __post_init__(self) -> None:
        if self.split not in get_args(SplitName):
            raise ConfigError(f"split must be one of {', '.join(get_args(SplitName))}, got {self.split!r}")
        if self.split != "train" and self.splits is None:
            raise ConfigError(
                f"split={self.split!r} is of no use: there are no splits", hint="Give Calibrate(splits=Splits(...))."
            )

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
        """Which documents they are, where there are splits."""
        return {"split": self.split, "splits": self.splits.identity()} if self.splits is not None else {}

    def read(self, tables: Tables, bad: list[pa.Table], counts: Counter[str], *, extra: Sequence[str]) -> Documents:
        """The documents of a unit, with extra columns.

        Those that can't be used are put in `bad`, those of each state are counted.

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
        if self.splits is not None:
            groups = tables["verdicts"]["split_group"].to_numpy()
            held = kept & ~self.splits.chosen(groups, self.split)
        empty = kept & ~held & (pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy() == 0)
        bad.append(bad_documents(table, tables.shard))
        counts["documents"] += len(usable)
        counts["near_duplicate"] += int((usable & ~kept).sum())
        counts["held_out"] += int(held.sum())
        counts["repeated"] += int(empty.sum())
        counts["quarantined"] += bad[-1].num_rows
        return Documents(table, gaps).chosen(kept & ~held & ~empty)

    def _gaps(self, tables: Tables) -> pa.Table | None:
        """The gaps of a unit, by position in it; None where no spans are left out."""
        if self.repeated is None:
            return None
        spans = tables["spans"]
        gaps = gaps_of(spans, dropped_spans(tables["repeated"], spans))
        return gaps.set_column(0, "row", pa.array(gaps["row"].to_numpy() - tables.rows.start))


def at_positions(table: pa.Table, positions: npt.NDArray[np.int64], start: int = 0) -> pa.Table:
    """The rows of documents at these positions of a unit; `row` becomes the place of the position among them."""
    position = table["row"].to_numpy() - start
    wanted = np.isin(position, positions)
    rows = pa.array(np.searchsorted(positions, position[wanted]), pa.int64())
    return table.filter(pa.array(wanted)).set_column(0, "row", rows)
