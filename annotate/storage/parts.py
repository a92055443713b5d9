"""Parts and unit entries: how one unit of work is committed, found again and read back.

A commit first puts the part under a name that holds its checksum. The same bytes get the same name, so putting a part
twice is harmless. Then it creates the entry of the unit, which can succeed only once: a second process reads the entry
that is there, and goes on from the part that it names. A part that no entry names does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.contracts import contract
from annotate.storage.faults import reach
from annotate.storage.store import Directory, checksum, checksum_file
from annotate.tally import count, phase
from annotate.text.arrays import held_bytes

EARLIER = "earlier"
"""The name of a note: how many entries a unit has before the one with its key, which is the last."""


@dataclass(frozen=True)
class Part:
    """One committed Parquet file of a dataset; `path` is relative to the dataset."""

    path: str
    rows: int
    bytes: int
    checksum: str


@dataclass(frozen=True)
class Entry:
    """The content of a unit entry: the part, the quarantine part if there is one, and counts.

    `notes` say how the unit was made if that can matter, such as the kind of device; never a time or a host.
    """

    key: str
    part: Part
    quarantine: Part | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part, and the quarantine part if there is one."""
        return (self.part,) if self.quarantine is None else (self.part, self.quarantine)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with keys in a fixed order."""
        return {
            "key": self.key,
            "part": vars(self.part),
            "quarantine": vars(self.quarantine) if self.quarantine else None,
            "counts": dict(sorted(self.counts.items())),
            "notes": dict(sorted(self.notes.items())),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Entry:
        """Read the JSON form."""
        quarantine = data["quarantine"]
        return Entry(
            key=data["key"],
            part=Part(**data["part"]),
            quarantine=Part(**quarantine) if quarantine else None,
            counts=dict(data["counts"]),
            notes=dict(data["notes"]),
        )


@dataclass(frozen=True)
class UnitOutput:
    """The result of one unit of a stage: a table, bad rows with their reasons, and counts for the ledger.

    `large_rows` says that single values of the table may be large, so that a page should hold few of them.
    """

    table: pa.Table
    quarantine: pa.Table | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    large_rows: bool = False


PAGE_ROWS, PAGE_BYTES = 1024, 1 << 20


def parquet_bytes(table: pa.Table, *, large_rows: bool = False) -> pa.Buffer:
    """Write a table as one Parquet file in memory; equal tables give equal bytes for one version of pyarrow.

    A page should have about a megabyte, since a reader holds the whole page. pyarrow looks at the size of a page after
    each 1,024 values; with `large_rows`, after fewer if 1,024 values would be more than a megabyte.
    """
    batch = PAGE_BYTES * table.num_rows // max(1, held_bytes(table)) if large_rows else PAGE_ROWS
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=max(1, table.num_rows),
        write_statistics=True,
        write_batch_size=min(PAGE_ROWS, max(1, batch)),
    )
    return sink.getvalue()


def put_part(dataset: Directory, named: Callable[[str], str], data: pa.Buffer, rows: int) -> Part:
    """Put bytes under the name that `named` makes from their checksum. If they are there, they are put again."""
    digest = checksum(memoryview(data))
    part = Part(named(digest), rows, data.size, digest)
    dataset.put(part.path, memoryview(data).cast("B"))
    return part


def commit(dataset: Directory, key: str, output: UnitOutput, *, schema: str) -> Entry:
    """Commit the output of one unit, unless the unit is committed.

    Returns:
        The entry in the dataset: ours, or the one that another process created first.

    Raises:
        StorageError: the output breaks its contract; or another process's entry names a part that is gone.
    """
    return create_entry(dataset, put_output(dataset, key, output, schema=schema))


@phase("write")
def put_output(dataset: Directory, key: str, output: UnitOutput, *, schema: str) -> Entry:
    """Put the part of an output, and its bad rows.

    Returns:
        The entry, which is not created yet.

    Raises:
        StorageError: the output breaks its contract.
    """
    table = contract(schema).check(output.table, f"{dataset.url}/{layout.entry(key)}").combine_chunks()
    data = parquet_bytes(table, large_rows=output.large_rows)
    reach("commit: before part")
    part = put_part(dataset, partial(layout.part, key), data, table.num_rows)
    quarantine = put_quarantine(dataset, key, output.quarantine)
    reach("commit: part put")
    return Entry(key, part, quarantine, output.counts, output.notes)


def commit_all(dataset: Directory, key: str, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Commit a unit of one or more parts.

    An entry is created when the next one is put. The last one has the key of the unit, and notes the number of the
    others, so the unit is committed when all its entries are there.

    Args:
        dataset: the dataset of the unit.
        key: of the unit.
        entries: at least one, in order; their parts are put, they are not created yet.

    Returns:
        The entries in the dataset, in order: ours, or those that another process created first.

    Raises:
        StorageError: another process's entry names a part that is gone, or is of a unit that was cut at other rows.
    """
    done: list[Entry] = []
    last: Entry | None = None
    for entry in entries:
        if last is not None:
            done.append(_create_one_of(dataset, replace(last, key=layout.numbered(key, len(done)))))
        last = entry
    assert last is not None, "a unit has a part"
    if not done:
        return (create_entry(dataset, replace(last, key=key)),)
    notes = {**last.notes, EARLIER: str(len(done))}
    return (*done, _create_one_of(dataset, replace(last, key=key, notes=notes)))


def _create_one_of(dataset: Directory, ours: Entry) -> Entry:
    """Create one of the entries of a unit. If there is one, it must be of a unit that was cut at the same rows."""
    stands = create_entry(dataset, ours)
    if (stands.part.rows, stands.notes.get(EARLIER)) != (ours.part.rows, ours.notes.get(EARLIER)):
        raise StorageError(
            f"{dataset.url}/{layout.entry(ours.key)} is of a unit that another task cut into other parts: together "
            "with the parts that were made now, some rows would be there twice or not at all",
            hint="The stage must cut the same input into the same parts each time. Delete the file named above, and "
            "run again.",
        )
    return stands


@phase("read")
def find(directory: Directory, key: str) -> Entry | None:
    """The entry of a committed unit whose parts are there; None if the unit must be computed."""
    entry = read_entry(directory, key)
    return entry if entry is not None and intact(directory, entry) else None


@phase("read")
def find_all(dataset: Directory, key: str) -> tuple[Entry, ...] | None:
    """The entries of a committed unit, in order; None if an entry or a part is missing, so that it must be computed."""
    last = read_entry(dataset, key)
    if last is None:
        return None
    entries = [read_entry(dataset, layout.numbered(key, n)) for n in range(int(last.notes.get(EARLIER, 0)))] + [last]
    there = tuple(entry for entry in entries if entry is not None and intact(dataset, entry))
    return there if len(there) == len(entries) else None


@phase("write")
def put_quarantine(dataset: Directory, key: str, rows: pa.Table | None) -> Part | None:
    """Put the bad rows of a unit; None if there are none.

    Raises:
        StorageError: the rows break their contract.
    """
    if rows is None or not rows.num_rows:
        return None
    bad = contract("quarantine").check(rows, f"{dataset.url}/{layout.entry(key)}").combine_chunks()
    return put_part(dataset, partial(layout.quarantine, key), parquet_bytes(bad), bad.num_rows)


def joined(dataset: Directory, key: str, made: Entry, others: Sequence[Entry]) -> Entry:
    """Commit a unit that has the part of one entry, and the counts and bad rows of this entry and of others.

    Raises:
        StorageError: a quarantine part is damaged; or another process's entry names a part that is gone.
    """
    counts: Counter[str] = Counter()
    bad = []
    for entry in (made, *others):
        counts.update(entry.counts)
        if entry.quarantine is not None:
            bad.append(read_part(dataset, entry.quarantine, schema="quarantine"))
    quarantine = put_quarantine(dataset, key, pa.concat_tables(bad) if bad else None)
    return create_entry(dataset, Entry(key, made.part, quarantine, dict(counts), made.notes))


def heal(dataset: Directory, entries: Sequence[Entry], output: UnitOutput, *, schema: str) -> bool:
    """If an entry has lost its part, and the part held exactly this output, put the part again.

    Returns:
        Whether a part was put.
    """
    lost = [entry for entry in entries if not intact(dataset, entry)]
    if not lost:
        return False
    digest = checksum(memoryview(parquet_bytes(output.table.combine_chunks())))
    for entry in lost:
        if entry.part.checksum == digest:
            commit(dataset, entry.key, output, schema=schema)
            return True
    return False


@phase("write")
def commit_file(dataset: Directory, key: str, path: Path, rows: int) -> Entry:
    """Commit a local Parquet file as the part of a unit, as `commit` does a table, without holding it in memory.

    Raises:
        StorageError: it can't be written; or another process's entry names a part that is gone.
    """
    digest, size = checksum_file(path)
    part = Part(layout.part(key, digest), rows, size, digest)
    reach("commit: before part")
    if dataset.size(part.path) != part.bytes:
        dataset.put(part.path, path)
    reach("commit: part put")
    return create_entry(dataset, Entry(key, part))


@phase("write")
def create_entry(dataset: Directory, ours: Entry) -> Entry:
    """Create the entry of a unit whose parts are put. If another process has created one, return that.

    Raises:
        StorageError: another process's entry names a part that is gone.
    """
    if dataset.put_new(layout.entry(ours.key), json.dumps(ours.to_json()).encode()):
        reach("commit: entry created")
        _tell(ours)
        return ours
    stands = read_entry(dataset, ours.key)
    if stands is None or not intact(dataset, stands):
        raise StorageError(
            f"{dataset.url}/{layout.entry(ours.key)} names a part that is missing or damaged, and the part that was "
            "made again has other bytes",
            hint="Other library versions or another device made the first one. Delete the file named above, and run "
            "again.",
        )
    return stands


def _tell(made: Entry) -> None:
    """Count what is committed by this process."""
    count("rows", made.part.rows)
    count("spans", made.counts.get("spans", 0))
    count("quarantined rows", made.quarantine.rows if made.quarantine is not None else 0)


@phase("read")
def read_entry(dataset: Directory, key: str) -> Entry | None:
    """Read the entry of a unit; None if the unit is not committed.

    Raises:
        StorageError: the file is not an entry.
    """
    try:
        data = dataset.get(layout.entry(key))
    except FileNotFoundError:
        return None
    try:
        return Entry.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{dataset.url}/{layout.entry(key)} is damaged: {error}",
            hint="Delete this file, and run again: the unit is made again.",
        ) from error


def committed_keys(dataset: Directory) -> set[str]:
    """The keys of all entries that a listing shows. A listing can be out of date, so this is only for display."""
    names = (layout.parse(path) for path, _ in dataset.sizes(f"{layout.ENTRIES}/"))
    return {name.of for name in names if name is not None}


@phase("read")
def intact(dataset: Directory, entry: Entry) -> bool:
    """Whether the parts that an entry names are there and have their sizes. Contents are checked when they are read."""
    return all(dataset.size(part.path) == part.bytes for part in entry.parts)


@phase("read")
def read_part(dataset: Directory, part: Part, *, schema: str, columns: list[str] | None = None) -> pa.Table:
    """Read a part whole, after checking size, checksum and contract.

    Raises:
        StorageError: the part is missing, damaged, or breaks its contract.
    """
    where = f"{dataset.url}/{part.path}"
    try:
        data = dataset.get(part.path)
    except FileNotFoundError:
        raise StorageError(f"{where} is missing", hint=REMAKE) from None
    if len(data) != part.bytes or checksum(data) != part.checksum:
        raise StorageError(
            f"{where} is damaged: it has {len(data)} bytes and the checksum {checksum(data)}, but was committed with "
            f"{part.bytes} bytes and the checksum {part.checksum}",
            hint=REMAKE,
        )
    # Without threads: one that frees the bytes while Python shuts down would abort the process.
    table = pq.read_table(pa.BufferReader(data), columns=columns, use_threads=False, pre_buffer=False)
    if columns is None:
        try:
            contract(schema).check(table, where)
        except StorageError as error:
            raise StorageError(error.message, hint=OTHER_VERSION) from error
    return table


OTHER_VERSION = (
    "The file is as it was committed, so another version of annotate wrote it. Run the pipeline again with this "
    "version: it makes the dataset again, from the scores that are there."
)
REMAKE = "Delete the file and run the same command again: the unit is made again from its inputs."


def chain(dataset: Directory, key: str) -> Iterator[Entry]:
    """Read the entries of a unit that is topped up: `<key>-0`, `<key>-1`, ... until there is none."""
    for n in range(1 << 30):
        entry = read_entry(dataset, layout.numbered(key, n))
        if entry is None:
            return
        yield entry
