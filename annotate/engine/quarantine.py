"""`quarantine/`: the quarantined rows of the last run, one file for each dataset.

A file is a view: a copy of the first `MOST_ROWS` rows of the quarantine parts that the dataset committed. The driver
reads no more than that, once for each dataset. Every stage that commits quarantine parts has a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.engine.datasets import Dataset
from annotate.engine.events import Events
from annotate.engine.losses import NOT_RUN
from annotate.graph import Stage, documents_of
from annotate.storage import layout
from annotate.storage.manifests import Unit
from annotate.storage.parts import Part, parquet_bytes, read_part
from annotate.storage.store import Directory

MOST_ROWS = 100_000
MOST_NAMED = 3
"""Rows that messages name for each reason."""
_PLACE = ["reason", "corpus", "shard", "row", "span"]
_SAME = [*_PLACE, "axis"]
_COLUMNS = ["reason", "shard", "row", "span", "axis", "id"]


@dataclass(frozen=True)
class Quarantined:
    """What the views hold.

    Attributes:
        reasons: number of rows by reason, largest first. A reason counts once for each document, span and axis, however
            many stages and outputs give it.
        nouns: what the rows of each reason are: "document", "span" or "failed score".
        places: where the first rows of each reason are, for people.
        remarks: warnings, one for each view that does not have all rows of its dataset.
    """

    reasons: Mapping[str, int]
    nouns: Mapping[str, str]
    places: Mapping[str, Sequence[str]]
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
        rows.append(pl.DataFrame(view).with_columns(corpus=pl.lit(corpus)).select(*_SAME, "id"))
        if (total := sum(part.rows for part in parts)) > view.num_rows:
            where = f"all are in {dataset.directory.url}/{layout.QUARANTINES}"
            remarks.append(f"{path} has the first {view.num_rows:,} of {total:,} rows in quarantine; {where}")
    workdir.delete(sorted(path for path in there - kept if layout.is_view(path)))
    if not rows:
        return Quarantined({}, {}, {}, remarks)
    different = pl.concat(rows).unique(_SAME).sort(_SAME)
    row_is = pl.when(pl.col("axis").is_not_null()).then(pl.lit("failed score"))
    noun = row_is.when(pl.col("span").is_not_null()).then(pl.lit("span")).otherwise(pl.lit("document"))
    by_reason = different.group_by("reason").agg(n=pl.len(), noun=noun.first())
    reasons = by_reason.sort(["n", "reason"], descending=[True, False])
    first = different.unique(_PLACE, keep="first", maintain_order=True).group_by("reason").head(MOST_NAMED)
    places: dict[str, list[str]] = {}
    for row in first.sort(_PLACE).iter_rows(named=True):
        places.setdefault(row["reason"], []).append(place(row))
    counts, nouns = (dict(reasons.select("reason", name).iter_rows()) for name in ("n", "noun"))
    return Quarantined(counts, nouns, places, remarks)


def place(row: Mapping[str, Any]) -> str:
    """Where a row of quarantine is, for people: its document, by id, file and row, and its span."""
    where = f"{row['shard']}, row {row['row']:,}"
    document = f"document {row['id']} ({where})" if row["id"] is not None else where
    return document if row["span"] is None else f"{document}, span {row['span']:,}"


def bad_rows(directory: Directory, parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """The rows of quarantine parts."""
    for part in parts:
        yield from pl.DataFrame(read_part(directory, part, schema="quarantine")).iter_rows(named=True)


def tell_not_run(label: str, datasets: Sequence[Dataset], made: Sequence[Unit], events: Events) -> None:
    """Say on which inputs of a unit the model was not run, and where they stand: its quarantine part has them.

    Args:
        label: of the stages that run together.
        datasets: theirs.
        made: the unit, for each of them.
        events: takes a line for each input, up to `MOST_NAMED`.
    """
    found: dict[str, str] = {}
    for dataset, unit in zip(datasets, made, strict=True):
        parts = [entry.quarantine for entry in unit.entries if entry.quarantine is not None]
        rows = bad_rows(dataset.directory, parts)
        found |= {place(row): row["reason"] for row in rows if row["reason"] in NOT_RUN.values()}
    for where, reason in list(found.items())[:MOST_NAMED]:
        said = f"{label}: {where}: {reason}. It has no score, and a line in quarantine; its document is written"
        events.said("warning", said)
    if len(found) > MOST_NAMED:
        events.said("warning", f"{label}: and {len(found) - MOST_NAMED:,} more, all in quarantine")


def _read(workdir: Directory, path: str) -> pa.Table | None:
    """Read a view; None if it is damaged."""
    try:
        data = pa.BufferReader(workdir.get(path))
        return pq.read_table(data, columns=_COLUMNS, use_threads=False, pre_buffer=False)
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
