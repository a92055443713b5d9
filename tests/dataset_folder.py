"""The names in the folder of a dataset, as a run writes them, and a corpus file to put there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAME, RECIPE = "spans-77b01e9a", "77b01e9a" + "0" * 24
PART = "parts/0123456789abcdef01234567-0123456789abcdef.parquet"


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ["a"], "text": ["Some text."]}), path)
    return path
