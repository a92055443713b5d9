"""`quarantine/`: the quarantined rows of the last run, one file for each dataset.

A file is a view: a copy of the first `MOST_ROWS` rows of the quarantine parts that the dataset committed. The driver
reads no more than that, once for each dataset. Every stage that commits quarantine parts has a view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.engine.datasets import Dataset
from annotate.graph import Stage, documents_of
from annotate.storage import layout
from annotate.storage.parts import Part, parquet_bytes, read_part
from annotate.storage.store import Directory

MOST_ROWS = 100_000
_SAME = ["corpus", "shard", "row", "span", "axis", "reason"]


@dataclass(frozen=True)
class Quarantined:
    """What the views hold.

    Attributes:
        reasons: number of rows by reason, largest first. A reason counts once for each document, span and axis, however
            many stages and outputs give it.
        remarks: warnings, one for each view that does not have all rows of its dataset.
    """

    reasons: Mapping[str, int]
    remarks: Sequence[str]


def write_views(workdir: Directory, datasets: Mapping[Stage, Dataset]) -> Quarantined:
    """Write the views that are missing, and remove those of other datasets."""
    there = {path for path, _ in workdir.sizes(f"{layout.VIEWS}/")}
    kept: set[str] = set()
    rows: list[pl.DataFrame] = []
    remarks: list[str] = []
    for dataset in datasets.values():
        if dataset.manifest is None or dataset.stage.made_as == "source":
            continue
        parts = [e.quarantine for unit in dataset.units() for e in unit.entries if e.quarantine is not None]
        if not parts:
            continue
        path = layout.view(dataset.stage.dataset, dataset.fingerprint)
        view = _read(workdir, path) if path in there else None
        if view is None:
            view = _first_rows(dataset.directory, parts)
            workdir.put(path, memoryview(parquet_bytes(view)).cast("B"))
        kept.add(path)
        corpus = datasets[documents_of(dataset.stage)].fingerprint
        rows.append(pl.DataFrame(view).with_columns(corpus=pl.lit(corpus)).select(_SAME))
        if (total := sum(part.rows for part in parts)) > view.num_rows:
            where = f"all are in {dataset.directory.url}/{layout.QUARANTINES}"
            remarks.append(f"{path} has the first {view.num_rows:,} of {total:,} rows in quarantine; {where}")
    workdir.delete(sorted(path for path in there - kept if layout.is_view(path)))
    counted = pl.concat(rows).unique()["reason"].value_counts() if rows else pl.DataFrame({"reason": [], "count": []})
    most_first = counted.sort(["count", "reason"], descending=[True, False])
    return Quarantined(dict(most_first.iter_rows()), remarks)


def _read(workdir: Directory, path: str) -> pa.Table | None:
    """Read a view; None if it is damaged."""
    try:
        data = pa.BufferReader(workdir.get(path))
        return pq.read_table(data, columns=_SAME[1:], use_threads=False, pre_buffer=False)
    except (FileNotFoundError, pa.ArrowInvalid, OSError):
        return None


def _first_rows(directory: Directory, parts: Sequence[Part]) -> pa.Table:
    tables: list[pa.Table] = []
    left = MOST_ROWS
    for part in parts:
        if left > 0:
            tables.append(read_part(directory, part, schema="quarantine").slice(0, left))
            left -= tables[-1].num_rows
    return pa.concat_tables(tables).combine_chunks()
