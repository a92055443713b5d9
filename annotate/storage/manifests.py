"""Manifests: each lists the units of one dataset, in order.

A manifest is a small JSON file that is named by the dataset's fingerprint. It names Parquet manifest parts, and each of
these lists a range of units. Units are written and read as streams, so no process holds them all.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
"""The name of a count of a corpus: bytes of the columns that travel beside the text."""


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """The file from which a source reads the rows of a unit: outside the dataset, or imported into it.

    Attributes:
        path: of the file, below the folder of the source; of an imported file, below the folder of the dataset.
        size: of the file, in bytes.
        checksum: of the footer of a Parquet file, else of the content. It tells the file from others of its size.
        content: of an imported file, the checksum of its content, because two that differ in a few words can have
            equal footers; else empty.
        text: name of the column that is read as text; empty if there is none.
        group: the number of the row group that the unit is a part of, or `WHOLE_FILE`; None for a unit that can be
            read alone. Neighbouring units of one group are best read in turn by one task.
        other_bytes: bytes of the columns that travel beside the text, as the footer states them.
        types: for columns whose type in the corpus differs from that in this file, the type in the corpus, as
            `told_types` gives it.
        refused: rows of the unit whose documents are refused: they end the worker of a stage.
        unreadable: whether the unit is not read, since that ends the process.
    """

    path: str
    size: int
    checksum: str
    content: str = ""
    text: str = ""
    group: int | None = None
    other_bytes: int = 0
    types: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[int] = ()
    unreadable: bool = False

    @property
    def imported(self) -> bool:
        """Whether the file was imported into the dataset."""
        return bool(self.content)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with keys in a fixed order."""
        data = {**vars(self), "types": dict(sorted(self.types.items()))}
        refused, unreadable = data.pop("refused"), data.pop("unreadable")
        said = {"refused": list(refused)} if refused else {}
        return {**data, **said, **({"unreadable": True} if unreadable else {})}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FileRows:
        """Read the JSON form."""
        return FileRows(**{**data, "refused": tuple(data.get("refused", ()))})


WHOLE_FILE = -1
"""The group of units whose file can only be read from its start."""


@dataclass(frozen=True)
class Unit:
    """One unit of a dataset: rows `[start, stop)` of a corpus shard, and where its data are.

    Attributes:
        shard: of the corpus; empty for a unit that is not made from rows of one shard.
        start: the first row.
        stop: the row after the last.
        text_bytes: bytes of text as the footer of the corpus states them, for planning.
        entries: the committed entries that name its parts; none for a unit of a source.
        source: for a unit of a source, the file that it is read from.
        narrowed: whether its rows are only some of those that its parts have.
    """

    shard: str
    start: int
    stop: int
    text_bytes: int
    entries: tuple[Entry, ...] = ()
    source: FileRows | None = None
    narrowed: bool = False

    @property
    def rows(self) -> int:
        """Number of rows in its data."""
        return self.stop - self.start if self.source else sum(entry.part.rows for entry in self.entries)

    @property
    def bytes(self) -> int:
        """Bytes of its parts; for a unit of a source, bytes of text."""
        return self.text_bytes if self.source else sum(entry.part.bytes for entry in self.entries)

    @property
    def identity(self) -> str:
        """The identity of this unit for the stages that read it: a hash of its place, and of checksums of its data."""
        return self.identity_for(())

    def identity_for(self, columns: Collection[str] | None) -> str:
        """The identity for a stage that reads these columns; None stands for all columns.

        If `source.types` has the type of a column that is read, that type is part of the identity.
        """
        place, source = [self.shard, self.start, self.stop], self.source
        if source is None:
            return checksum(json.dumps([*place, [entry.part.checksum for entry in self.entries]]).encode())
        types = {name: kind for name, kind in source.types.items() if columns is None or name in columns}
        data = [source.size, source.checksum, source.content, source.text, types]
        data += [list(source.refused)] if source.refused else []
        data += ["unreadable"] if source.unreadable else []
        return checksum(json.dumps([*place, data], sort_keys=True).encode())


def file_rows(unit: Unit) -> FileRows:
    """The file that a unit of a source is read from."""
    assert unit.source is not None, "it is a unit of a source"
    return unit.source


@dataclass(frozen=True)
class Manifest:
    """A committed dataset: its stage and inputs, its manifest parts, and totals over all units."""

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
        """Stream the units in order, even while units are still being added; yields None until the next one is there.

        Units whose manifest part is written are read from it, so a reader holds no more than one part of them.
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
        """Add to a count that belongs to no unit, such as that of unreadable files."""
        self._counts[name] += n

    def note(self, text: str) -> None:
        """Add a note that belongs to no unit."""
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
        """Write the manifest, unless another run has written it. With `replace`, write it in any case.

        `replace` is for a manifest that names parts which are gone.
        """
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
        self._parts.append(put_part(self._dataset, layout.manifest_part, parquet_bytes(table), len(rows)))
        self._pending.clear()
        reach("driver: manifest part put")


def read_manifest(dataset: Directory, fingerprint: str) -> Manifest | None:
    """Read a manifest; None if the dataset is not committed.

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
    return sorted(name.of for name in names if name is not None and name.kind is layout.FileKind.MANIFEST)


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
        source = FileRows.from_json(json.loads(row["source"])) if row["source"] is not None else None
        # A run holds the descriptions of many units of a shard: they share its name.
        yield Unit(sys.intern(row["shard"]), row["start"], row["stop"], row["text_bytes"], entries, source)


def missing_parts(dataset: Directory, manifest: Manifest) -> list[str]:
    """The paths of parts that a manifest lists but that are missing, or have another size, in the dataset."""
    found = dict(dataset.sizes(""))
    lost = [p.path for p in manifest.parts if found.get(p.path) != p.bytes]
    if lost:
        return lost
    for unit in read_units(dataset, manifest):
        for entry in unit.entries:
            lost.extend(p.path for p in entry.parts if found.get(p.path) != p.bytes)
    return lost
