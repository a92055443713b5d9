"""`quarantine/`: a view of the quarantine parts that the units of a run committed, in one file a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa

from annotate.engine.datasets import Dataset
from annotate.stages.render import Render
from annotate.stages.score import Score
from annotate.storage.parts import parquet_bytes, read_part
from annotate.storage.store import Directory

MOST_ROWS = 1_000_000
"""Rows of one view; the parts themselves have all."""


def write_views(workdir: Directory, datasets: Iterable[Dataset]) -> dict[str, int]:
    """Write `quarantine/<dataset>.parquet` for what was rendered and scored.

    Returns:
        How many rows each reason has, most first.
    """
    reasons: Counter[str] = Counter()
    for dataset in datasets:
        if dataset.manifest is None or not isinstance(dataset.stage, Render | Score):
            continue
        shown: list[pa.Table] = []
        rows = 0
        for table in _parts(dataset):
            for item in table["reason"].value_counts().to_pylist():
                reasons[item["values"]] += item["counts"]
            if rows < MOST_ROWS:
                shown.append(table.slice(0, MOST_ROWS - rows))
            rows += table.num_rows
        if shown:
            data = parquet_bytes(pa.concat_tables(shown).combine_chunks())
            workdir.put(f"quarantine/{dataset.stage.dataset}.parquet", memoryview(data).cast("B"))
    return dict(reasons.most_common())


def _parts(dataset: Dataset) -> Iterator[pa.Table]:
    for unit in dataset.units():
        for entry in unit.entries:
            if entry.quarantine is not None:
                yield read_part(dataset.directory, entry.quarantine, schema="quarantine")
