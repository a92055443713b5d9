"""Parts that are written by one task and read in slices by many: a row group for each partition that rows go to.

A slice is read by range requests, so the checksum of the whole part can't be checked; Parquet's own page checksums are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import StorageError
from annotate.storage.contracts import contract
from annotate.storage.faults import reach
from annotate.storage.parts import REMAKE, Entry, Part, create_entry, put_part
from annotate.storage.store import Directory

TO = "to"
"""The column that says which partition a row goes to: int32, the first of the table."""


def by_partition(table: pa.Table) -> pa.Table:
    """The rows of a table in the order of the partitions that they go to, in their order otherwise."""
    to = table[TO].to_numpy()
    if not (to[1:] < to[:-1]).any():
        return table
    return table.take(pa.array(np.argsort(to, kind="stable")))


def commit_slices(dataset: Directory, key: str, tables: Sequence[pa.Table], *, schema: str) -> Entry:
    """Commit rows, grouped by the partition that they go to, in their order otherwise.

    Args:
        dataset: where the part goes.
        key: of the unit.
        tables: the rows, at least one table, each as `by_partition` gives it.
        schema: contract of the tables.

    Raises:
        StorageError: a table breaks its contract; or the entry that stands names another part that is gone.
    """
    tables = [contract(schema).check(table, f"{dataset.url}/units/{key}") for table in tables]
    partitions = np.unique(np.concatenate([table[TO].to_numpy() for table in tables]))
    edges = [
        [np.searchsorted(t[TO].to_numpy(), partitions, side).tolist() for side in ("left", "right")] for t in tables
    ]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, tables[0].schema, compression="lz4", use_dictionary=False, write_page_checksum=True
    ) as file:
        for i in range(len(partitions)):
            slices = [t.slice(left[i], right[i] - left[i]) for t, (left, right) in zip(tables, edges, strict=True)]
            together = pa.concat_tables(slices).combine_chunks()
            file.write_table(together, row_group_size=together.num_rows)
    data = sink.getvalue()
    reach("commit: before part")
    part = put_part(dataset, f"parts/{key}", data, sum(table.num_rows for table in tables))
    reach("commit: part put")
    return create_entry(dataset, Entry(key, part))


def read_slice(dataset: Directory, part: Part, to: int, *, schema: str) -> pa.Table:
    """Read the rows of a part that go to one partition.

    Raises:
        StorageError: the part is missing or damaged.
    """
    where = f"{dataset.url}/{part.path}"
    try:
        if dataset.size(part.path) != part.bytes:
            raise StorageError(f"{where} is missing or truncated", hint=REMAKE)
        file = pq.ParquetFile(dataset.open(part.path, part.bytes), page_checksum_verification=True)
        groups = [i for i in range(file.num_row_groups) if _partition(file.metadata, i) == to]
        table = file.read_row_groups(groups, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{where} is damaged: {error}", hint=REMAKE) from error
    return contract(schema).check(table, where)


def _partition(metadata: pq.FileMetaData, group: int) -> int:
    return int(metadata.row_group(group).column(0).statistics.min)
