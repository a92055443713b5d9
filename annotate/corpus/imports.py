"""The import of JSON lines: each file of a corpus becomes a committed Parquet part of the corpus's dataset, once.

There are two passes, each with a unit of work for each file: `scan` finds the fields and their types, and `import`
writes the part, with the fields of all files together. The key of both units has the file's shard name, size and entity
tag, so it is known that they are done before the file is read. The key of `import` has the fields too, so that all
parts of a corpus have the same columns. Later stages know a part by its checksum only: a file that is imported again
with equal content changes nothing.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.corpus.jsonl import convert, merge_schemas, scan, wanted_fields
from annotate.corpus.source_files import PASS_OVER, SourceFile, UnreadableFile, changed
from annotate.errors import InputError, StorageError
from annotate.graph import Imports, ImportStep, digest
from annotate.storage.faults import reach
from annotate.storage.parts import Entry, Part, commit_file, find
from annotate.storage.store import Directory


class JsonLines(Protocol):
    """What an import knows of a corpus."""

    @property
    def label(self) -> str:
        """How people tell it from others."""
        ...

    @property
    def place(self) -> str:
        """The path that the user gave."""
        ...

    @property
    def recipe(self) -> str:
        """Of the stage."""
        ...

    @property
    def text(self) -> str:
        """The text field."""
        ...

    @property
    def id(self) -> str | None:
        """The id field, if any."""
        ...

    @property
    def columns(self) -> Sequence[str] | None:
        """The other fields that are imported; None for all."""
        ...

    @property
    def unreadable(self) -> str:
        """What is done about a file that can't be read: "error" or "quarantine"."""
        ...


@dataclass(frozen=True)
class Scanned:
    """A file of JSON lines and its fields; `version` changes when the file does."""

    file: SourceFile
    version: str
    fields: pa.Schema

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.file.size

    def __str__(self) -> str:
        return str(self.file)


def import_lines(corpus: JsonLines, directory: Directory, files: Sequence[SourceFile]) -> Imports:
    """Import the files of a corpus of JSON lines that are not imported yet.

    Args:
        corpus: for its settings.
        directory: of its dataset, which gets the parts.
        files: the files, sorted by shard name.

    Returns:
        The Parquet files, in the same order, and the errors of files that are passed over, by shard name.

    Raises:
        InputError: a file can't be read, or none has the text field.
    """
    unreadable: dict[str, UnreadableFile] = {}

    def readable(items: Sequence[SourceFile | Scanned], made: list[Any]) -> list[Any]:
        for item, result in zip(items, made, strict=True):
            if isinstance(result, UnreadableFile):
                unreadable[(item.file if isinstance(item, Scanned) else item).shard] = result
        return [result for result in made if not isinstance(result, UnreadableFile)]

    ended = functools.partial(_crashed, corpus)
    scans = functools.partial(scan_files, corpus, directory)
    found = yield ImportStep(f"{corpus.label} (fields)", scans, files, ended)
    scanned = readable(files, found)
    if not scanned:
        return [], unreadable
    fields = _fields(corpus, scanned)
    work = functools.partial(import_files, corpus, directory, fields=fields)
    made = yield ImportStep(f"{corpus.label} (import)", work, scanned, ended)
    return readable(scanned, made), unreadable


def _crashed(corpus: JsonLines, item: SourceFile | Scanned) -> UnreadableFile:
    """The error for a file that ends the process that imports it, to be passed over; else it is raised."""
    error = UnreadableFile(
        f"{item} can't be imported: a process that reads it ends, each time", hint=f"Look into the file, or {PASS_OVER}"
    )
    if corpus.unreadable != "quarantine":
        raise error
    return error


def find_imported(corpus: JsonLines, directory: Directory, files: Sequence[SourceFile]) -> list[SourceFile] | None:
    """The Parquet files of a corpus of JSON lines that is imported; None if any of it is not."""
    scanned = []
    for file in files:
        version = _version(file)
        if (entry := find(directory, _key(corpus, "scan", file, version))) is None:
            return None
        scanned.append(Scanned(file, version, pq.read_schema(pa.BufferReader(directory.get(entry.part.path)))))
    fields = _fields(corpus, scanned)
    entries = [find(directory, _import_key(corpus, item, fields)) for item in scanned]
    found = [entry for entry in entries if entry is not None]
    if len(found) < len(files):
        return None
    return [_imported(directory, file.shard, entry.part) for file, entry in zip(files, found, strict=True)]


def _fields(corpus: JsonLines, scanned: Sequence[Scanned]) -> pa.Schema:
    """The fields of all files together that are imported."""
    found = merge_schemas(item.fields for item in scanned)
    try:
        return wanted_fields(found, corpus.text, corpus.id, corpus.columns)
    except InputError as error:
        raise InputError(f"{corpus.place}: {error.message}", hint=error.hint) from error


def scan_files(corpus: JsonLines, directory: Directory, files: Sequence[SourceFile]) -> list[Scanned | UnreadableFile]:
    """Find the fields of some files, in a worker; an error stands for a file that is to be passed over."""
    return [_or_error(corpus, lambda file=file: _scan(corpus, directory, file)) for file in files]  # type: ignore[misc]


def import_files(
    corpus: JsonLines, directory: Directory, items: Sequence[Scanned], fields: pa.Schema
) -> list[SourceFile | UnreadableFile]:
    """Import some files with these fields, in a worker; an error stands for a file that is to be passed over."""
    return [
        _or_error(corpus, lambda item=item: _import(corpus, directory, item, fields))  # type: ignore[misc]
        for item in items
    ]


def _or_error(corpus: JsonLines, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except UnreadableFile as error:
        if corpus.unreadable == "quarantine":
            return error
        raise


def _scan(corpus: JsonLines, directory: Directory, file: SourceFile) -> Scanned:
    version = _version(file)
    key = _key(corpus, "scan", file, version)

    def write(path: Path) -> int:
        pq.write_table(scan(file, corpus.id).empty_table(), path)
        _unchanged(file, version)
        return 0

    entry = _committed(directory, key, write)
    return Scanned(file, version, pq.read_schema(pa.BufferReader(directory.get(entry.part.path))))


def _import(corpus: JsonLines, directory: Directory, item: Scanned, fields: pa.Schema) -> SourceFile:
    def write(path: Path) -> int:
        rows = convert(item.file, fields, corpus.text, path)
        _unchanged(item.file, item.version)
        return rows

    part = _committed(directory, _import_key(corpus, item, fields), write).part
    return _imported(directory, item.file.shard, part)


def _imported(directory: Directory, shard: str, part: Part) -> SourceFile:
    return SourceFile(directory, part.path, shard, part.bytes, part.checksum)


def _committed(directory: Directory, key: str, write: Callable[[Path], int]) -> Entry:
    """Find the unit, or commit the Parquet file that `write` makes on local disk."""
    reach("unit: started")
    if (entry := find(directory, key)) is not None:
        return entry
    with tempfile.TemporaryDirectory(prefix="annotate-") as folder:
        path = Path(folder) / "part.parquet"
        try:
            rows = write(path)
        except OSError as error:
            raise StorageError(
                f"a temporary file could not be written in {folder}: {error}",
                hint="An import needs as much room there as the Parquet file has; set TMPDIR to another place.",
            ) from error
        reach("unit: computed")
        return commit_file(directory, key, path, rows)


def _key(corpus: JsonLines, purpose: str, file: SourceFile, version: str, fields: list[list[str]] | None = None) -> str:
    return digest([corpus.recipe, purpose, file.shard, file.size, version, fields])[:24]


def _import_key(corpus: JsonLines, item: Scanned, fields: pa.Schema) -> str:
    types = [[field.name, str(field.type)] for field in fields]
    return _key(corpus, "import", item.file, item.version, types)


def _version(file: SourceFile) -> str:
    version = file.directory.version(file.path)
    if version is None:
        raise changed(file)
    return version


def _unchanged(file: SourceFile, version: str) -> None:
    if file.directory.version(file.path) != version:
        raise changed(file)
