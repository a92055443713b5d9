"""Parts that one task writes and many tasks read, a slice each.

A slice holds the rows for one partition, or for some partitions, one after the other. Slices are numbered from 0.

A part begins with its slices, each an Arrow IPC stream. After them stands an index of the slices, also an Arrow IPC
stream, and then the length of the index in 8 bytes, little-endian. To read a slice, a task reads the index and the
slice alone, and checks both: the checksum of the part is that of its index, and the index has those of the slices.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.contracts import contract
from annotate.storage.faults import reach
from annotate.storage.parts import REMAKE, Entry, Part, put_quarantine
from annotate.storage.store import Directory, checksum
from annotate.storage.tally import phase
from annotate.text.arrays import held_bytes

TO = "to"
"""The column that says which partition a row goes to: int32."""
_INDEX = pa.schema(
    [
        ("to", pa.int32()),  # number of the slice
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("held", pa.int64()),  # bytes that the rows take in memory
    ]
)
_SCHEMA = b"schema"
"""In the metadata of an index, the key under which the schema of the slices stands, if it is not the contract's."""
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_LENGTH = 8
_TAIL = 1 << 16  # bytes that are read at once from the end: most indices fit, with their length


def by_partition(table: pa.Table) -> pa.Table:
    """Sort the rows of a table by the partitions that they go to; the sort is stable."""
    to = table[TO].to_numpy()
    if not (to[1:] < to[:-1]).any():
        return table
    return table.take(pa.array(np.argsort(to, kind="stable")))


@phase("write")
def put_slices(
    dataset: Directory,
    key: str,
    tables: Sequence[pa.Table],
    *,
    schema: str,
    width: int = 1,
    quarantine: pa.Table | None = None,
    counts: Mapping[str, int] | None = None,
    apart: bool = False,
) -> Entry:
    """Put rows as one part, with a slice for each partition that rows go to, or for each `width` partitions.

    Args:
        dataset: the dataset of the unit.
        key: of the unit.
        tables: the rows, at least one table, each sorted by `by_partition`.
        schema: contract of the tables.
        width: number of partitions of one slice.
        quarantine: bad rows that were found on the way.
        counts: counts for the entry.
        apart: whether the tables were parts before. Then the memory that a slice takes is the sum over these tables, as
            if they had been read one by one.

    Returns:
        The entry, which is not created yet.

    Raises:
        StorageError: a table breaks its contract.
    """
    tables = [contract(schema).check(table, f"{dataset.url}/{layout.entry(key)}") for table in tables]
    numbers = [table[TO].to_numpy() // width for table in tables]
    slices = np.unique(np.concatenate(numbers))
    edges = [[np.searchsorted(of, slices, side).tolist() for side in ("left", "right")] for of in numbers]
    sink = pa.BufferOutputStream()
    rows = []
    for i, number in enumerate(slices.tolist()):
        own = [table.slice(left[i], right[i] - left[i]) for table, (left, right) in zip(tables, edges, strict=True)]
        sent = _copied(own)
        data = _stream(sent)
        held = sum(held_bytes(_copied([table])) for table in own if table.num_rows) if apart else held_bytes(sent)
        found = (number, sink.tell(), data.size, checksum(memoryview(data)), held)
        rows.append(dict(zip(_INDEX.names, found, strict=True)))
        sink.write(data)
    own = tables[0].schema  # for slices that have no rows; left out if it is the schema of the contract
    said = None if own == contract(schema).schema else {_SCHEMA: own.serialize().to_pybytes()}
    index = _stream(pa.Table.from_pylist(rows, schema=_INDEX.with_metadata(said)))
    sink.write(index)
    sink.write(index.size.to_bytes(_LENGTH, "little"))
    whole = sink.getvalue()
    digest = checksum(memoryview(index))
    part = Part(layout.sliced_part(key, digest), sum(table.num_rows for table in tables), whole.size, digest)
    reach("commit: before part")
    dataset.put(part.path, memoryview(whole).cast("B"))
    reach("commit: part put")
    bad = put_quarantine(dataset, key, quarantine)
    return Entry(key, part, bad, counts or {})


@phase("read")
def read_slice(dataset: Directory, part: Part, to: int, *, schema: str, index: pa.Table | None = None) -> pa.Table:
    """Read a slice of a part.

    Args:
        dataset: the dataset of the part.
        part: a part that `put_slices` made.
        to: number of the slice.
        schema: contract of the rows.
        index: from `slice_index`, if several slices of the part are read.

    Raises:
        StorageError: the part is missing or damaged.
    """
    index = _index(dataset, part) if index is None else index
    at = _place(index, to)
    if at is None:
        kind = (index.schema.metadata or {}).get(_SCHEMA)
        found = contract(schema).schema if kind is None else pa.ipc.read_schema(pa.py_buffer(kind))
        return found.empty_table()
    data = _read(dataset, part, index["offset"][at].as_py(), index["bytes"][at].as_py())
    if checksum(data) != index["checksum"][at].as_py():
        raise _damaged(dataset, part, f"slice {to} has another checksum")
    return contract(schema).check(pa.ipc.open_stream(data).read_all(), f"{dataset.url}/{part.path}")


@phase("read")
def slice_index(dataset: Directory, part: Part, slices: range) -> pa.Table:
    """Read the index of a part, and keep its rows about some slices.

    Raises:
        StorageError: the part is missing or damaged.
    """
    index = _index(dataset, part)
    first, stop = np.searchsorted(index["to"].to_numpy(), [slices.start, slices.stop]).tolist()
    return index.take(pa.array(np.arange(first, stop)))  # a slice would hold all of it


def slice_checksum(index: pa.Table, to: int) -> str:
    """The checksum of a slice; if it has no rows, that of their schema."""
    at = _place(index, to)
    if at is None:
        return checksum((index.schema.metadata or {}).get(_SCHEMA, b""))
    return str(index["checksum"][at].as_py())


def slice_bytes(index: pa.Table, to: int) -> int:
    """Bytes of memory that the rows of a slice take."""
    at = _place(index, to)
    return 0 if at is None else int(index["held"][at].as_py())


def _place(index: pa.Table, to: int) -> int | None:
    """The row of an index that is about a slice; None for a slice without rows."""
    at = int(np.searchsorted(index["to"].to_numpy(), to))
    return at if at < index.num_rows and index["to"][at].as_py() == to else None


@functools.lru_cache(maxsize=256)  # one task after the other reads slices of the same parts
def _index(dataset: Directory, part: Part) -> pa.Table:
    tail = _read(dataset, part, max(0, part.bytes - _TAIL), min(part.bytes, _TAIL))
    length = int.from_bytes(tail[-_LENGTH:], "little")
    start = part.bytes - _LENGTH - length
    if length + _LENGTH <= len(tail):
        index = tail[len(tail) - _LENGTH - length : -_LENGTH]
    else:
        index = _read(dataset, part, max(0, start), length) if start >= 0 else b""
    if checksum(index) != part.checksum:
        raise _damaged(dataset, part, "its index has another checksum")
    return pa.ipc.open_stream(index).read_all().combine_chunks()


def _read(dataset: Directory, part: Part, offset: int, size: int) -> bytes:
    try:
        with dataset.open(part.path, part.bytes) as file:
            file.seek(offset)
            return file.read(size) or b""
    except (OSError, StorageError) as error:
        # A missing or truncated part can be mended by making it again. If the store failed, the part may be whole.
        if dataset.size(part.path) == part.bytes:
            raise
        raise _damaged(dataset, part, "it is missing or truncated") from error


def _damaged(dataset: Directory, part: Part, why: str) -> StorageError:
    why = why if dataset.size(part.path) == part.bytes else "it is missing or truncated"
    return StorageError(f"{dataset.url}/{part.path} is damaged: {why}", hint=REMAKE)


def _copied(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows as one copy. A slice of a table would carry some bytes of its neighbours into a stream."""
    return pa.concat_tables([tables[0].slice(0, 0), *tables]).combine_chunks()


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_LZ4) as writer:
        writer.write_table(table)
    return sink.getvalue()
