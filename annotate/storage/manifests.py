"""Manifests: which units make up one dataset, in order.

A manifest is a small JSON file named by the dataset's fingerprint; it names Parquet manifest parts, each of which lists
a range of units. Nobody needs to hold all units in memory: they are written and read as streams.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.contracts import contract
from annotate.storage.faults import reach
from annotate.storage.parts import Entry, Part, parquet_bytes, put_part
from annotate.storage.store import Directory, checksum

UNITS_PER_PART = 4096
OTHER_BYTES = "other_bytes"
"""Counted of the units of a corpus: bytes of the columns that travel beside the text."""


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """Where a source reads the rows of a unit: in a file that is no part of the dataset, or was imported into it.

    Attributes:
        path: of the file, below the directory of the source; of an imported one, below that of the dataset.
        size: of the file, in bytes.
        checksum: tells the file from others of its size: of Parquet that of the footer, else that of the content.
        content: of an imported file the checksum of all of it, as two that differ in a few words can have equal
            footers; else empty.
        text: name of the column that is read as text; empty where none is.
        group: units of a shard that follow one another and have the same group are best read by one task, in turn: the
            number of the row group that they are parts of, or `WHOLE_FILE`; None for a unit that stands alone.
        other_bytes: bytes of the columns that travel beside the text, as the footer states them.
        types: of columns that are another type over all files than in this one, that type, as `told_types` gives it.
    """

    path: str
    size: int
    checksum: str
    content: str = ""
    text: str = ""
    group: int | None = None
    other_bytes: int = 0
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def imported(self) -> bool:
        """Whether the file lies in the dataset."""
        return bool(self.content)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with keys in a fixed order."""
        return {**vars(self), "types": dict(sorted(self.types.items()))}


WHOLE_FILE = -1
"""The group of units that share a file which can only be read from its start on."""


@dataclass(frozen=True)
class Unit:
    """One unit of a dataset: rows `[start, stop)` of a corpus shard, and what holds its data.

    That is the entries that were committed; or of a source, `source`. Units of a reduced dataset cover no rows of one
    shard: their `shard` is empty. `text_bytes` is what a corpus footer says of the size of the text, for planning.
    """

    shard: str
    start: int
    stop: int
    text_bytes: int
    entries: tuple[Entry, ...] = ()
    source: FileRows | None = None

    @property
    def rows(self) -> int:
        """Rows of its data."""
        return self.stop - self.start if self.source else sum(entry.part.rows for entry in self.entries)

    @property
    def bytes(self) -> int:
        """Bytes of its parts; of a source, of its text."""
        return self.text_bytes if self.source else sum(entry.part.bytes for entry in self.entries)

    @property
    def identity(self) -> str:
        """What stages downstream know of this unit: its place, and what tells its data from other data."""
        return self.identity_for(())

    def identity_for(self, columns: Collection[str] | None) -> str:
        """The identity for who reads some columns, whose types a unit of a source may be told; None for all."""
        place, source = [self.shard, self.start, self.stop], self.source
        if source is None:
            return checksum(json.dumps([*place, [entry.part.checksum for entry in self.entries]]).encode())
        types = {name: kind for name, kind in source.types.items() if columns is None or name in columns}
        data = [source.size, source.checksum, source.content, source.text, types]
        return checksum(json.dumps([*place, data], sort_keys=True).encode())


def file_rows(unit: Unit) -> FileRows:
    """Where the rows of a unit of a source are read."""
    assert unit.source is not None, "it is a unit of a source"
    return unit.source


@dataclass(frozen=True)
class Manifest:
    """A committed dataset: who made it from what, its manifest parts, and totals over all units."""

    stage: str
    recipe: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    parts: tuple[Part, ...]
    units: int
    rows: int
    size: int
    counts: Mapping[str, int]
    notes: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The JSON form; equal manifests give equal bytes."""
        data = {**vars(self), "parts": [vars(p) for p in self.parts]}
        return json.dumps(data, indent=1, sort_keys=True).encode()


class ManifestWriter:
    """Takes the units of a dataset in order and writes the manifest at the end."""

    def __init__(self, dataset: Directory) -> None:
        self._dataset = dataset
        self._pending: list[Unit] = []
        self._parts: list[Part] = []
        self._counts: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._units = self._rows = self._bytes = 0
        self._complete = False

    def add(self, unit: Unit) -> None:
        """Append the next unit."""
        self._pending.append(unit)
        self._units += 1
        self._rows += unit.rows
        self._bytes += unit.bytes
        if unit.source is not None and unit.source.other_bytes:
            self._counts[OTHER_BYTES] += unit.source.other_bytes
        for entry in unit.entries:
            self._counts.update(entry.counts)
            self._notes.update(f"{name}={value}" for name, value in entry.notes.items())
        if len(self._pending) == UNITS_PER_PART:
            self._flush()

    def stream(self) -> Iterator[Unit | None]:
        """Stream the units in order, also while they are still being added; None where the next one is not there yet.

        Those of manifest parts that are written are read from there, so that no reader holds more than a part of them.
        """
        for number in itertools.count():
            at = 0
            while number == len(self._parts):
                if at < len(self._pending):
                    at += 1
                    yield self._pending[at - 1]
                elif self._complete:
                    return
                else:
                    yield None
            if at < self._parts[number].rows:
                yield from itertools.islice(_units(self._dataset, self._parts[number]), at, None)

    def count(self, name: str, n: int) -> None:
        """Count something that no unit has, such as a file that can't be read."""
        self._counts[name] += n

    def note(self, text: str) -> None:
        """Note something that no unit has."""
        self._notes[text] += 1

    def commit(
        self,
        *,
        stage: str,
        recipe: str,
        fingerprint: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        replace: bool = False,
    ) -> Manifest:
        """Write the manifest, or find that another run has; `replace` one that names parts that are gone."""
        self._flush()
        self._complete = True
        manifest = Manifest(
            stage=stage,
            recipe=recipe,
            fingerprint=fingerprint,
            settings=settings,
            inputs=inputs,
            parts=tuple(self._parts),
            units=self._units,
            rows=self._rows,
            size=self._bytes,
            counts=dict(self._counts),
            notes=dict(self._notes),
        )
        reach("driver: before manifest")
        if replace:
            self._dataset.put(layout.manifest(fingerprint), manifest.to_bytes())
        elif not self._dataset.put_new(layout.manifest(fingerprint), manifest.to_bytes()):
            stands = read_manifest(self._dataset, fingerprint)
            manifest = stands if stands is not None else manifest
        reach("driver: manifest created")
        return manifest

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = [
            {
                "shard": unit.shard,
                "start": unit.start,
                "stop": unit.stop,
                "text_bytes": unit.text_bytes,
                "entries": json.dumps([entry.to_json() for entry in unit.entries]),
                "source": json.dumps(unit.source.to_json()) if unit.source is not None else None,
            }
            for unit in self._pending
        ]
        table = pa.Table.from_pylist(rows, schema=contract("manifest").schema)
        self._parts.append(put_part(self._dataset, layout.unit_list, parquet_bytes(table), len(rows)))
        self._pending.clear()
        reach("driver: manifest part put")


def read_manifest(dataset: Directory, fingerprint: str) -> Manifest | None:
    """Read a manifest, or None where the dataset is not committed.

    Raises:
        StorageError: the file is not a manifest.
    """
    try:
        data = dataset.get(layout.manifest(fingerprint))
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(data)
        return Manifest(**{**fields, "parts": tuple(Part(**p) for p in fields["parts"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{dataset.url}/{layout.manifest(fingerprint)} is damaged: {error}",
            hint="Delete it and run again: committed units are found and used.",
        ) from error


def fingerprints(dataset: Directory) -> list[str]:
    """The fingerprints of all manifests in a dataset, sorted."""
    names = (layout.parse(path) for path, _ in dataset.sizes(f"{layout.MANIFESTS}/"))
    return sorted(name.of for name in names if name is not None and name.kind is layout.Kind.MANIFEST)


def read_units(dataset: Directory, manifest: Manifest) -> Iterator[Unit]:
    """Stream the units of a dataset in order.

    Raises:
        StorageError: a manifest part is missing or damaged.
    """
    for part in manifest.parts:
        yield from _units(dataset, part)


def _units(dataset: Directory, part: Part) -> Iterable[Unit]:
    where = f"{dataset.url}/{part.path}"
    try:
        data = dataset.get(part.path)
    except FileNotFoundError:
        data = b""
    if checksum(data) != part.checksum:
        raise StorageError(
            f"{where} is missing or damaged",
            hint=f"Delete {dataset.url}/{layout.MANIFESTS} and run again: committed units are found and used.",
        )
    table = contract("manifest").check(pq.read_table(pa.BufferReader(data), use_threads=False, pre_buffer=False), where)
    for row in table.to_pylist():
        entries = tuple(Entry.from_json(item) for item in json.loads(row["entries"]))
        source = FileRows(**json.loads(row["source"])) if row["source"] is not None else None
        yield Unit(row["shard"], row["start"], row["stop"], row["text_bytes"], entries, source)


def missing_parts(dataset: Directory, manifest: Manifest) -> list[str]:
    """Name what a manifest lists and a listing of the dataset does not have at its size."""
    found = dict(dataset.sizes(""))
    lost = [p.path for p in manifest.parts if found.get(p.path) != p.bytes]
    if lost:
        return lost
    for unit in read_units(dataset, manifest):
        for entry in unit.entries:
            lost.extend(p.path for p in entry.parts if found.get(p.path) != p.bytes)
    return lost
