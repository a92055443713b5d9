"""Parts that are written by one task and read in slices by many: a row group for each partition that rows go to.

A slice is read by range requests, so the checksum of the whole part can't be checked; Parquet's own page checksums are.
"""

from __future__ import annotations

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


def commit_slices(dataset: Directory, key: str, table: pa.Table, *, schema: str) -> Entry:
    """Commit rows, grouped by the partition that they go to, in their order otherwise.

    Raises:
        StorageError: the table breaks its contract; or the entry that stands names another part that is gone.
    """
    table = contract(schema).check(table, f"{dataset.url}/units/{key}")
    to = table[TO].to_numpy()
    if len(to) and (np.diff(to) < 0).any():
        order = np.argsort(to, kind="stable")
        table, to = table.take(pa.array(order)), to[order]
    edges = np.flatnonzero(np.diff(to, prepend=-1, append=-1)) if len(to) else np.zeros(1, np.int64)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="lz4", use_dictionary=False, write_page_checksum=True
    ) as file:
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            file.write_table(table.slice(start, stop - start).combine_chunks(), row_group_size=stop - start)
    data = sink.getvalue()
    reach("commit: before part")
    part = put_part(dataset, f"parts/{key}", data, table.num_rows)
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
