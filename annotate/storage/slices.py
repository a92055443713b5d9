"""Parts that one task writes and many tasks read, a slice each.

A slice holds the rows for one partition, or for some partitions, one after the other. Slices are numbered from 0.

A part begins with its slices, each an Arrow IPC stream. After them stands an index of the slices, also an Arrow IPC
stream, and then the length of the index in 8 bytes, little-endian. To read a slice, a task reads the index and the
slice alone, and checks both: the checksum of the part is that of its index, and the index has those of the slices.
`slice_reader` reads them.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.contracts import contract
from annotate.storage.faults import reach
from annotate.storage.parts import REMAKE, Entry, Part, put_quarantine
from annotate.storage.store import TAIL_BYTES, Directory, checksum
from annotate.tally import phase
from annotate.text.arrays import held_bytes

Data = TypeVar("Data", bytes, memoryview)

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


def slice_index(dataset: Directory, part: Part, slices: range | None = None) -> pa.Table:
    """Read the index of a part, and keep its rows about some slices.

    Raises:
        StorageError: the part is missing or damaged.
    """
    index = _index(dataset, part)
    if slices is None:
        return index
    first, stop = np.searchsorted(index["to"].to_numpy(), [slices.start, slices.stop]).tolist()
    return index.take(pa.array(np.arange(first, stop)))  # a slice would hold all of it


def slice_checksum(index: pa.Table, to: int) -> str:
    """The checksum of a slice; if it has no rows, that of their schema."""
    at = _place(index, to)
    if at is None:
        return checksum((index.schema.metadata or {}).get(_SCHEMA, b""))
    return str(index["checksum"][at].as_py())


def slice_number(index: pa.Table, to: int, column: str) -> int:
    """A number of a slice, 0 for one without rows: its `offset`, its `bytes`, or those that it has `held` in memory."""
    at = _place(index, to)
    return 0 if at is None else int(index[column][at].as_py())


def _place(index: pa.Table, to: int) -> int | None:
    """The row of an index that is about a slice; None for a slice without rows."""
    at = int(np.searchsorted(index["to"].to_numpy(), to))
    return at if at < index.num_rows and index["to"][at].as_py() == to else None


def slice_schema(index: pa.Table, schema: str) -> pa.Schema:
    """The schema of the slices of a part, by its index and the contract of the rows."""
    kind = (index.schema.metadata or {}).get(_SCHEMA)
    return contract(schema).schema if kind is None else pa.ipc.read_schema(pa.py_buffer(kind))


@functools.lru_cache(maxsize=256)  # one task after the other reads slices of the same parts
def _index(dataset: Directory, part: Part) -> pa.Table:
    index = checked(dataset, part, "its index", part.checksum, lambda again: _index_bytes(dataset, part))
    return pa.ipc.open_stream(index).read_all().combine_chunks()


def _index_bytes(dataset: Directory, part: Part) -> bytes:
    file = _open(dataset, part)
    length = int.from_bytes(
        read_bytes(dataset, part, max(0, part.bytes - _LENGTH), min(part.bytes, _LENGTH), file), "little"
    )
    start = part.bytes - _LENGTH - length
    return read_bytes(dataset, part, start, length, file) if start >= 0 else b""


def _open(dataset: Directory, part: Part) -> io.RawIOBase:
    """A part to read from; one that is so small that it was read whole is kept open."""
    return _small(dataset, part) if part.bytes <= TAIL_BYTES else dataset.open(part.path, part.bytes)


@functools.lru_cache(maxsize=256)
def _small(dataset: Directory, part: Part) -> io.RawIOBase:
    return dataset.open(part.path, part.bytes)


def read_bytes(dataset: Directory, part: Part, offset: int, size: int, file: io.RawIOBase | None = None) -> bytes:
    """Read some bytes of a part, which may be open.

    Raises:
        StorageError: the part is missing or truncated, or its store fails.
    """
    try:
        file = _open(dataset, part) if file is None else file
        file.seek(offset)
        return file.read(size) or b""
    except (OSError, StorageError) as error:
        # A missing or truncated part can be mended by making it again. If the store failed, the part may be whole.
        if dataset.size(part.path) == part.bytes:
            raise
        raise _damaged(dataset, part, "it is missing or truncated") from error


def checked(dataset: Directory, part: Part, what: str, wanted: str, read: Callable[[bool], Data]) -> Data:
    """Bytes of a part that have a checksum. Small parts are kept: one may have been damaged, and made again since.

    Args:
        dataset: the dataset of the part.
        part: the part.
        what: the bytes are, for the error.
        wanted: their checksum.
        read: reads them; it is told whether that is for the second time, when nothing that is kept will do.

    Raises:
        StorageError: the part is missing or damaged.
    """
    for again in (False, True):
        data = read(again)
        if checksum(data) == wanted:
            return data
        _small.cache_clear()
    raise _damaged(dataset, part, f"{what} has another checksum")


def _damaged(dataset: Directory, part: Part, why: str) -> StorageError:
    """The error for a part whose bytes are not those that were committed."""
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
