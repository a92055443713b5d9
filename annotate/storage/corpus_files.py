"""The files of a corpus: finding them, reading their footers, cutting them into row ranges, reading a row range.

Work units come from footers in sorted order of shard names, never from how a cluster happens to cut blocks. A shard is
known by its path below the fixed part of the glob, so moving a corpus changes nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import InputError
from annotate.storage.store import Directory, checksum

PARQUET = (".parquet", ".pq")
JSONL = (".jsonl", ".jsonl.zst", ".ndjson", ".ndjson.zst")
MAX_ROWS_PER_UNIT = 1 << 16  # a dictionary-encoded footer can understate its text many times over
READ_BUFFER = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus: `shard` names it in the corpus, `path` below `directory`."""

    directory: Directory
    path: str
    shard: str
    size: int

    def __str__(self) -> str:
        return f"{self.directory.url}/{self.path}"


@dataclass(frozen=True)
class Footer:
    """What a Parquet footer tells: identity, schema, and rows and bytes of text of each row group."""

    checksum: str
    schema: pa.Schema
    group_rows: tuple[int, ...]
    group_bytes: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Documents in the file."""
        return sum(self.group_rows)


@dataclass(frozen=True)
class RowRange:
    """Rows `[start, stop)` of a shard, the work of one unit, and the bytes of text that the footer states for them."""

    start: int
    stop: int
    text_bytes: int
    row_group: int | None = None  # where the range is a part of one


class UnreadableFile(InputError):
    """A file is not Parquet, or is damaged: a corpus may choose to pass over it."""


def corpus_directory(path: str) -> Directory:
    """The fixed part of a corpus path, below which shards are named."""
    return _place(path)[0]


def _place(path: str) -> tuple[Directory, str]:
    """Split a corpus path into the directory and the glob below it (empty: everything)."""
    fixed, pattern = _split_glob(path)
    directory = Directory.at(fixed)
    if directory.local is not None and directory.local.is_file():
        return Directory.at(directory.local.parent), re.sub(r"([*?\[])", r"[\1]", directory.local.name)
    return directory, pattern


def find_files(path: str) -> list[SourceFile]:
    """Find the files of a corpus: a file, a directory (all below it), or a glob with `*`, `?`, `[...]` and `**`.

    Returns:
        Files sorted by shard name, all of one format.

    Raises:
        InputError: the path is missing, nothing matches, or both Parquet and JSON lines match.
    """
    directory, pattern = _place(path)
    if directory.local is not None and not directory.local.exists():
        raise InputError(f"no such file or directory: {path}", hint="Check the corpus path, and quote globs.")
    listed = sorted(directory.sizes(""))
    wanted = re.compile(_translate(pattern) if pattern else ".*", re.DOTALL)
    names = [
        (name, size)
        for name, size in listed
        if wanted.fullmatch(name)
        and not any(part.startswith((".", "_")) for part in name.split("/"))
        and (pattern or name.endswith(PARQUET + JSONL))
    ]
    if not names:
        there = ", ".join(name for name, _ in listed[:5]) or "nothing"
        raise InputError(f"no corpus files match {path}; there is: {there}", hint="Name Parquet or .jsonl(.zst) files.")
    if len({name.endswith(JSONL) for name, _ in names}) > 1:
        raise InputError(f"{path} matches both Parquet and JSON lines", hint="Use a glob that matches one of them.")
    return [SourceFile(directory, name, name, size) for name, size in names]


def _split_glob(path: str) -> tuple[str, str]:
    """Split at the first path component that has a wildcard; a path that exists is taken as it is."""
    if "://" not in path and (local := Directory.at(path).local) is not None and local.exists():
        return path, ""
    scheme, sep, rest = path.rpartition("://")
    parts = rest.split("/")
    wild = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if wild is None:
        return path, ""
    fixed = "/".join(parts[:wild]) or ("/" if rest.startswith("/") else ".")
    return scheme + sep + fixed, "/".join(parts[wild:])


def _translate(pattern: str) -> str:
    """Turn a glob into a regular expression in which `*` stops at a slash and `**` does not."""
    out = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^]]+\]|.", pattern, re.DOTALL):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
            token, token if token.startswith("[") and len(token) > 1 else re.escape(token)
        )
    return out


def read_footer(file: SourceFile, text: str) -> Footer:
    """Read a Parquet footer.

    Args:
        file: a Parquet file.
        text: name of the text column, whose sizes are wanted.

    Raises:
        InputError: the file is not Parquet or is truncated; or the text column is missing or holds no strings.
    """
    try:
        with pq.ParquetFile(file.directory.open(file.path, file.size)) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
            footer = _footer_bytes(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(file, error) from error
    if text not in schema.names:
        raise InputError(
            f"{file} has no column {text!r}; it has: {', '.join(schema.names)}",
            hint="Name the text column, e.g. --set text=content.",
        )
    found = schema.field(text).type
    if not is_text(found):
        raise InputError(f"{file}: column {text!r} has type {found}, expected string", hint="Name another column.")
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == text)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return Footer(
        checksum=f"{file.size}-{checksum(footer)}",
        schema=schema,
        group_rows=tuple(group.num_rows for group in groups),
        group_bytes=tuple(group.column(leaf).total_uncompressed_size for group in groups),
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold documents: string, large_string, string_view or a dictionary of these."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _footer_bytes(file: SourceFile) -> bytes:
    source = file.directory.open(file.path, file.size)
    source.seek(file.size - 8)
    length = int.from_bytes(source.read(4), "little")
    source.seek(file.size - 8 - length)
    return bytes(source.read(length))


def _unreadable(file: SourceFile, error: Exception) -> UnreadableFile:
    source = file.directory.open(file.path, file.size)
    start = bytes(source.read(4)) if file.size >= 4 else b""
    if start == b"PAR1":
        what = f"{file} is truncated or damaged Parquet: {error}"
    else:
        what = f"{file} is not Parquet: it has {file.size} bytes and starts with {start!r}"
    return UnreadableFile(
        what, hint='Replace or remove the file, or let the run pass it over with Corpus(unreadable="quarantine").'
    )


def cut(footer: Footer, unit_bytes: int) -> Iterator[RowRange]:
    """Cut a file into row ranges of about `unit_bytes` of text.

    Small row groups are joined and large ones cut evenly, at most `MAX_ROWS_PER_UNIT` rows a range. A range never has
    parts of two row groups, unless it has them whole.
    """
    first, rows, size = 0, 0, 0
    for group, (group_rows, group_bytes) in enumerate(zip(footer.group_rows, footer.group_bytes, strict=True)):
        if rows and (size + group_bytes > unit_bytes or rows + group_rows > MAX_ROWS_PER_UNIT):
            yield RowRange(first, first + rows, size)
            first, rows, size = first + rows, 0, 0
        pieces = max(-(-group_bytes // unit_bytes), -(-group_rows // MAX_ROWS_PER_UNIT))
        if pieces > 1:
            edges = [group_rows * i // pieces for i in range(pieces + 1)]
            for start, stop in itertools.pairwise(edges):
                if stop > start:
                    yield RowRange(first + start, first + stop, group_bytes // pieces, group)
            first += group_rows
        else:
            rows, size = rows + group_rows, size + group_bytes
    if rows:
        yield RowRange(first, first + rows, size)


class RowReader:
    """Reads row ranges of one Parquet file, in rising order, decoding each row group once.

    Pages are streamed: a reader holds about `READ_BUFFER` bytes a column and the batches of one range, whatever the
    size of a row group.
    """

    def __init__(self, file: SourceFile, footer_checksum: str) -> None:
        self._file = file
        self._columns: list[str] = []
        try:
            self._parquet = pq.ParquetFile(
                file.directory.open(file.path, file.size), buffer_size=READ_BUFFER, pre_buffer=False
            )
            found = f"{file.size}-{checksum(_footer_bytes(file))}"
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file, error) from error
        if found != footer_checksum:
            raise InputError(f"{file} changed while it was being read", hint="Run again: changed shards are redone.")
        counts = [self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.metadata.num_row_groups)]
        self._edges = [0, *itertools.accumulate(counts)]
        self._at = -1  # row at which `_rest` starts
        self._rest: pa.RecordBatch | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the file."""
        return self._parquet.schema_arrow

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of rows `[start, stop)`.

        Raises:
            InputError: the file is damaged there.
        """
        try:
            if self._at < 0 or start < self._at or self._columns != list(columns):
                self._columns = list(columns)
                self._seek(start, min(max(stop - start, 1), 4096))
            return self._take(start, stop)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise _unreadable(self._file, error) from error

    def _seek(self, start: int, rows: int) -> None:
        group = max(i for i, edge in enumerate(self._edges[:-1]) if edge <= start)
        groups = list(range(group, len(self._edges) - 1))
        self._batches = self._parquet.iter_batches(batch_size=rows, row_groups=groups, columns=self._columns)
        self._at, self._rest = self._edges[group], None

    def _take(self, start: int, stop: int) -> pa.Table:
        taken: list[pa.RecordBatch] = []
        while self._at < stop:
            batch = self._rest if self._rest is not None else next(self._batches)
            low, high = max(start - self._at, 0), min(stop - self._at, batch.num_rows)
            if high > low:
                taken.append(batch.slice(low, high - low))
            self._rest = batch.slice(high) if high < batch.num_rows else None
            self._at += high
        return pa.Table.from_batches(taken, schema=taken[0].schema if taken else None)
