"""Manifests: which units make up one dataset, in order.

A manifest is a small JSON file named by the dataset's fingerprint; it names Parquet manifest parts, each of which lists
a range of units. Nobody needs to hold all units in memory: they are written and read as streams.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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


@dataclass(frozen=True)
class Unit:
    """One unit of a dataset: rows `[start, stop)` of a corpus shard, and the entries that hold its data.

    Units of a wide stage cover no rows of one shard: their `shard` is empty. `text_bytes` is what a corpus footer says
    of the size of the text, for planning.
    """

    shard: str
    start: int
    stop: int
    text_bytes: int
    entries: tuple[Entry, ...]

    @property
    def identity(self) -> str:
        """What stages downstream know of this unit: its place and the checksums of its data."""
        sums = [entry.part.checksum for entry in self.entries]
        return checksum(json.dumps([self.shard, self.start, self.stop, sums]).encode())


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

    def add(self, unit: Unit) -> None:
        """Append the next unit."""
        self._pending.append(unit)
        self._units += 1
        for entry in unit.entries:
            self._rows += entry.part.rows
            self._bytes += entry.part.bytes
            self._counts.update(entry.counts)
            self._notes.update(f"{name}={value}" for name, value in entry.notes.items())
        if len(self._pending) == UNITS_PER_PART:
            self._flush()

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
        yield Unit(row["shard"], row["start"], row["stop"], row["text_bytes"], entries)


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
