"""`quarantine/`: a view of the quarantine parts that the datasets of the last run committed, one file a dataset.

The parts have all rows; a view has the first `MOST_ROWS`, which is what the driver reads to write it, once a dataset.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa

from annotate.engine.datasets import Dataset
from annotate.stages.render import Render
from annotate.stages.score import Score
from annotate.storage.parts import parquet_bytes, read_part
from annotate.storage.store import Directory

MOST_ROWS = 100_000
FOLDER = "quarantine"


def write_views(workdir: Directory, datasets: Iterable[Dataset]) -> dict[str, int]:
    """Write a view for what was rendered and scored, where there is none yet, and remove those of other datasets.

    Returns:
        How many rows of the views each reason has, most first.
    """
    reasons: Counter[str] = Counter()
    kept: set[str] = set()
    for dataset in datasets:
        if dataset.manifest is None or not isinstance(dataset.stage, Render | Score):
            continue
        stem = f"{FOLDER}/{dataset.stage.dataset}-{dataset.fingerprint[:8]}"
        kept |= {f"{stem}.json", f"{stem}.parquet"}
        try:
            reasons.update(json.loads(workdir.get(f"{stem}.json")))
        except (FileNotFoundError, ValueError):
            reasons.update(_write(workdir, stem, dataset))
    workdir.delete([path for path, _ in workdir.sizes(f"{FOLDER}/") if path not in kept])
    return dict(reasons.most_common())


def _write(workdir: Directory, stem: str, dataset: Dataset) -> dict[str, int]:
    shown = list(_first_rows(dataset))
    table = pa.concat_tables(shown).combine_chunks() if shown else None
    counted = (
        {} if table is None else {item["values"]: item["counts"] for item in table["reason"].value_counts().to_pylist()}
    )
    if table is not None:
        workdir.put(f"{stem}.parquet", memoryview(parquet_bytes(table)).cast("B"))
    workdir.put(f"{stem}.json", json.dumps(counted).encode())
    return counted


def _first_rows(dataset: Dataset) -> Iterator[pa.Table]:
    left = MOST_ROWS
    for unit in dataset.units():
        for entry in unit.entries:
            if entry.quarantine is not None and left > 0:
                table = read_part(dataset.directory, entry.quarantine, schema="quarantine").slice(0, left)
                left -= table.num_rows
                yield table
