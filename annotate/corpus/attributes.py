"""Attribute files as Dolma's toolkit writes them: JSON lines of scored ranges, beside a file of documents.

A line is `{"id": ..., "attributes": {"NAME": [[start, end, score], ...]}}`. Start and end are code points of the
document's text, and the end is not included. A number instead of the list is a score of the whole document. If an
attribute is null, or is not in the line, it has no ranges in that document.

Lines are in the order of the documents. A document may have no line. If several documents have the id of a line, the
line belongs to the first of them that comes after the document of the line before.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from annotate.corpus.files import JSONL, PARQUET
from annotate.corpus.jsonl import blocks, columnar
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import InputError
from annotate.storage.store import Directory
from annotate.text.arrays import large_string, one_array
from annotate.text.overlaps import Ranges

TAIL_BYTES = 1 << 16
WHOLE = 1 << 53  # the end of a range over the whole document: larger than any text, and exact as a double
LISTS = pa.list_(pa.list_(pa.float64()))
TRIPLES = pa.list_(pa.list_(pa.float64(), 3))


def find_attributes(directory: Directory) -> dict[str, SourceFile]:
    """The JSON lines below a folder, by their paths without the ending, which may differ from that of the documents.

    Raises:
        InputError: there are no such files, or the paths of two differ in their endings only.
    """
    found: dict[str, SourceFile] = {}
    for path, size in sorted(directory.sizes("")):
        if path.lower().endswith(JSONL):
            other = found.setdefault(stem(path), SourceFile(directory, path, path, size))
            if other.path != path:
                raise InputError(
                    f"{directory.url} has two attribute files for one shard: {other.path} and {path}",
                    hint="Remove one of them.",
                )
    if not found:
        raise InputError(
            f"there are no attribute files in {directory.url}",
            hint="Name the folder of one set of attributes, such as data/attributes/toxicity.",
        )
    return found


def stem(path: str) -> str:
    """A path without the ending that names the format."""
    ending = next((ending for ending in (*JSONL, *PARQUET) if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)]


def content_of(file: SourceFile) -> str:
    """A checksum that differs between two files of one size with different attributes.

    It covers the whole file. Of a `.gz` file it covers the last `TAIL_BYTES`: they hold the length and the CRC-32 of
    the data that was compressed (RFC 1952), or of its last member if the file has several.
    """
    state = xxhash.xxh3_128()
    with file.directory.open_stream(file.path, file.size) as stream:
        if file.path.lower().endswith(".gz"):
            stream.seek(max(0, file.size - TAIL_BYTES))
        while data := stream.read(1 << 20):
            state.update(data)
    return state.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of some documents.

    Attributes:
        documents: int64 `[n]`, rising: which of the documents asked for have a line.
        ranges: the ranges in these documents, by name of attribute.
    """

    documents: npt.NDArray[np.int64]
    ranges: Mapping[str, Ranges]


class AttributeReader:
    """Reads a file of attributes once, from start to end, and holds about one block of it.

    Attributes:
        documents: how many documents of the shard it has looked for so far.
    """

    def __init__(self, file: SourceFile, attributes: Sequence[str]) -> None:
        self._file, self._attributes = file, tuple(dict.fromkeys(attributes))
        self._tables = _tables(file, self._attributes)
        self._pending: pa.Table | None = None
        self.documents = 0

    def take(self, ids: pa.Array | pa.ChunkedArray) -> Lines:
        """Read the lines of the next documents of the shard.

        Args:
            ids: the ids of these documents, strings or integers; null for a document without an id, which has no line.

        Raises:
            InputError: the file is damaged, or a line is malformed; the message names file and line.
        """
        at, self.documents = self.documents, WHOLE  # if reading fails, no one goes on with this reader
        names = large_string(ids)
        places, taken, done = [np.empty(0, np.int64)], [], 0
        while done < len(names) and (pending := self._next()) is not None:
            found = _places(pending["id"], names.slice(done)) + done
            if not len(found):
                break
            places.append(found)
            taken.append(pending.slice(0, len(found)))
            self._pending, done = pending.slice(len(found)), int(found[-1]) + 1
        self.documents = at + len(names)
        documents = np.concatenate(places)
        ranges = {name: _ranges(taken, i, documents) for i, name in enumerate(self._attributes, 2)}
        return Lines(documents=documents, ranges=ranges)

    def finish(self) -> None:
        """Check, after the last document, that each line belonged to a document.

        Raises:
            InputError: a line is left; the message names it.
        """
        if (left := self._next()) is not None:
            raise InputError(
                f"{self._file}, line {left['line'][0]}: no document that is left has the id {left['id'][0].as_py()!r}",
                hint="Sort the lines in the order of the documents, and give each line the id of a document.",
            )

    def _next(self) -> pa.Table | None:
        """The next lines, at least one; None at the end of the file."""
        while self._pending is None or not self._pending.num_rows:
            self._pending = next(self._tables, None)
            if self._pending is None:
                return None
        return self._pending


def _places(ids: pa.ChunkedArray, names: pa.Array) -> npt.NDArray[np.int64]:
    """Find `ids` in `names`, each after the one before; stops at the first that is not found there."""
    found = one_array(pc.index_in(ids.slice(0, len(names)), names))
    places = found.fill_null(-1).to_numpy().astype(np.int64)
    places = places[: np.argmax(places < 0) if found.null_count else len(places)]
    if np.all(np.diff(places) > 0):
        return places
    # Several documents share an id: a line belongs to the first of them after the document of the line before.
    known, rising, at = names.to_pylist(), list[int](), -1
    with contextlib.suppress(ValueError):  # it was not found
        for one in ids.slice(0, len(places)).to_pylist():
            at = known.index(one, at + 1)
            rising.append(at)
    return np.array(rising, np.int64)


def _ranges(tables: Sequence[pa.Table], column: int, documents: npt.NDArray[np.int64]) -> Ranges:
    """The ranges of an attribute, in lines of these documents."""
    lists = one_array(pa.chunked_array([chunk for table in tables for chunk in table[column].chunks], TRIPLES))
    counts = pc.list_value_length(lists).to_numpy()
    start, end, score = lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, 3).T
    return Ranges(
        document=np.repeat(documents, counts),
        start=start.astype(np.int64),
        end=end.astype(np.int64),
        score=score.copy(),
    )


def _tables(file: SourceFile, attributes: Sequence[str]) -> Iterator[pa.Table]:
    """The lines of a file, a block at a time: the number of the line, the id, and a column for each attribute."""
    first = 1
    try:
        for block in blocks(file):
            table = _by_columns(block, first, attributes)
            yield table if table is not None else _by_line(block, first, attributes, file)
            first += block.count(b"\n")
    except UnreadableFile as error:
        raise InputError(error.message, hint="Write the attribute file anew.") from error


def _by_columns(block: bytes, first: int, attributes: Sequence[str]) -> pa.Table | None:
    """Parse a block whose lines all have the types of the first; None if it must be parsed line by line."""
    schema = _schema(block, attributes)
    table = columnar(block, schema) if schema is not None else None
    if table is None:
        return None
    ends = np.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")), len(block))
    lines = np.flatnonzero(np.diff(ends, prepend=-1) > 1) + first
    ids, of_line = large_string(table["id"]), one_array(table["attributes"])
    triples = [_triples(of_line.field(name)) for name in attributes]
    if len(lines) != len(ids) or ids.null_count or of_line.null_count or any(each is None for each in triples):
        return None
    return _table(pa.array(lines, pa.int64()), ids, triples)


def _schema(block: bytes, attributes: Sequence[str]) -> pa.Schema | None:
    """The types of the first line of a block."""
    try:
        line = json.loads(block.partition(b"\n")[0])
        kinds = [pa.float64() if _is_number(line["attributes"].get(name)) else LISTS for name in attributes]
        number = isinstance(line["id"], int)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    fields = pa.struct(list(zip(attributes, kinds, strict=True)))
    return pa.schema([("id", pa.int64() if number else pa.string()), ("attributes", fields)])


def _triples(column: pa.Array) -> pa.Array | None:
    """Convert lists of `[start, end, score]`, or scores of whole documents, to `TRIPLES`; None if one is malformed."""
    if pa.types.is_floating(column.type):
        counts = column.is_valid().to_numpy(zero_copy_only=False).astype(np.int32)
        score = column.drop_null().to_numpy()
        values = pa.array(np.stack([np.zeros(len(score)), np.full(len(score), WHOLE), score], axis=1).ravel())
    else:
        counts = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int32)
        inner = column.flatten()
        values = inner.flatten()
        if inner.null_count or not np.all(pc.list_value_length(inner).to_numpy() == 3):
            return None
        start, end, _ = values.to_numpy(zero_copy_only=False).reshape(-1, 3).T
        # A null is NaN here, and every comparison with NaN is false.
        if not np.all(
            (start >= 0) & (start <= end) & (end <= WHOLE) & (start == np.floor(start)) & (end == np.floor(end))
        ):
            return None
    offsets = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(values, 3))


def _by_line(block: bytes, first: int, attributes: Sequence[str], file: SourceFile) -> pa.Table:
    lines, ids = list[int](), list[str]()
    columns: list[list[list[list[float | None]]]] = [[] for _ in attributes]
    for number, line in enumerate(block.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            one, found = _line(line)
            for name, column in zip(attributes, columns, strict=True):
                column.append(_of_value(found.get(name), name))
        except _Malformed as error:
            raise InputError(
                f"{file}, line {number}: {error}",
                hint='A line is {"id": ..., "attributes": {"NAME": [[start, end, score], ...]}}, with code points '
                "0 <= start <= end.",
            ) from error
        lines.append(number)
        ids.append(one)
    triples = [pa.array(column, TRIPLES) for column in columns]
    return _table(pa.array(lines, pa.int64()), pa.array(ids, pa.large_string()), triples)


def _table(lines: pa.Array, ids: pa.Array, triples: Sequence[pa.Array]) -> pa.Table:
    """A table of lines. An attribute can have any name, such as `id`, so its column is named by its position."""
    return pa.table([lines, ids, *triples], names=["line", "id", *map(str, range(len(triples)))])


class _Malformed(Exception):
    """Says what is wrong with a line."""


def _line(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """The id and the attributes of a line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Malformed("it is not valid JSON") from error
    if not isinstance(value, dict):
        raise _Malformed("it is not a JSON object")
    one, found = value.get("id"), value.get("attributes")
    if not (_is_number(one) or isinstance(one, str)) or isinstance(one, float):
        raise _Malformed(f"its id is {_short(one)}, which is neither a string nor an integer")
    if not _encodes(str(one)):
        raise _Malformed(f"its id {_short(one)} has a lone surrogate, which no UTF-8 can hold")
    if not isinstance(found, dict):
        raise _Malformed("it has no object `attributes`")
    return str(one), found


def _of_value(value: Any, name: str) -> list[list[float | None]]:
    """The ranges that an attribute of a line has."""
    if value is None:
        return []
    if _is_number(value):
        value = [[0, WHOLE, value]]
    if not isinstance(value, list):
        raise _Malformed(f"the attribute {name!r} is {_short(value)}, which is neither a list of ranges nor a number")
    for item in value:
        if not (isinstance(item, list) and len(item) == 3 and _is_range(*item)):
            raise _Malformed(f"the attribute {name!r} has {_short(item)}, which is no [start, end, score]")
    return [[start, end, _score(score)] for start, end, score in value]


def _is_range(start: Any, end: Any, score: Any) -> bool:
    edges = all(_is_number(edge) and edge == edge // 1 for edge in (start, end))
    return edges and 0 <= start <= end <= WHOLE and (score is None or isinstance(score, int | float))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _score(value: float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None  # float32 could not hold it either


def _encodes(text: str) -> bool:
    """Whether UTF-8 can hold a text, which it can't if there is a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
