"""JSON lines: what fields a file has, and its conversion to a Parquet file, a block of lines at a time.

A row is a line that is not blank: blank lines are no documents and are not counted. Blocks are parsed by columns; only
one in which a line is not a JSON object, or a field has values of several types, is parsed line by line. A line that
can't be used keeps its row, with nulls, and its reason in the column `_problem`.

Types of a field, over all its lines: integers and floats together are float64; null, and an object or list that holds
nothing, go with any type, and are null where that can't hold them; objects and lists are merged field by field; what
else differs becomes a string, in which all that is none is JSON. Of a field that a line has twice the last value
counts. An integer beyond 64 bits with sign becomes a float, as in JavaScript, but an id a string.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from annotate.corpus.compressed import unpacked
from annotate.corpus.source_files import PASS_OVER, SourceFile, UnreadableFile, packing
from annotate.errors import InputError

PROBLEM = "_problem"
BLOCK_BYTES = 1 << 20
GROUP_BYTES = 8 << 20
MAX_DEPTH = 64  # Arrow's inference crashes on ten thousand brackets in each other
Fields = dict[str, pa.DataType]


def scan(file: SourceFile, id_field: str | None) -> pa.Schema:
    """Find the fields of a file and their types, in the order in which they first appear.

    Raises:
        UnreadableFile: the file is truncated, or no line of it is a JSON object.
    """
    fields: Fields = {}
    lines = objects = 0
    for block in blocks(file):
        table = columnar(block, None)
        if table is not None and not _inexact(table, id_field):
            found: Iterable[tuple[str, pa.DataType]] = ((f.name, _plain(f.type)) for f in table.schema)
            lines, objects = lines + table.num_rows, objects + table.num_rows
        else:
            values = [value for value, _ in _parsed(block)]
            found = ((name, _kind(item)) for value in values if value is not None for name, item in value.items())
            lines, objects = lines + len(values), objects + sum(value is not None for value in values)
        _merge_fields(fields, found)
    if lines and not objects:
        packed = packing(bytes(file.directory.open(file.path, file.size).read(5)))
        raise UnreadableFile(
            f"{file} is not JSON lines: none of its {lines} lines is a JSON object"
            + (f", and it starts as {packed} does" if packed else ""),
            hint=f"{'Name the file by its compression' if packed else 'Replace or remove the file'}, or {PASS_OVER}",
        )
    return pa.schema(fields)


def merge_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """The fields of several files, in the order of files, with types that hold all their values."""
    fields: Fields = {}
    for schema in schemas:
        _merge_fields(fields, ((field.name, field.type) for field in schema))
    return pa.schema(fields)


def convert(file: SourceFile, schema: pa.Schema, text: str, path: Path) -> int:
    """Write a file of JSON lines as Parquet.

    Args:
        file: what to read.
        schema: the fields that are wanted; the text field is written as large_string.
        text: name of the text field.
        path: where to write, on local disk.

    Returns:
        Rows written. The columns are those of `schema`, with nulls where a line lacks one, and `_problem`.

    Raises:
        UnreadableFile: the file is truncated.
    """
    schema = schema.set(schema.names.index(text), pa.field(text, pa.large_string()))
    target = schema.append(pa.field(PROBLEM, pa.string()))
    rows = size = 0
    pending: list[pa.Table] = []
    # Without dictionaries the footer tells the true size of the text.
    with pq.ParquetWriter(path, target, compression="zstd", use_dictionary=False, write_statistics=False) as writer:

        def flush() -> None:
            if pending:
                table = pa.concat_tables(pending)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                pending.clear()

        for block in blocks(file):
            table = _table(block, schema, text).select(target.names).cast(target)
            if size + table.nbytes > GROUP_BYTES:
                flush()
                size = 0
            pending.append(table)
            size += table.nbytes
            rows += table.num_rows
        flush()
    return rows


def blocks(file: SourceFile) -> Iterator[bytes]:
    """Whole lines of a file, about `BLOCK_BYTES` of them or one longer line at a time."""
    pieces: list[bytes] = []
    first = True
    for data in unpacked(file, BLOCK_BYTES):
        data = data.removeprefix(b"\xef\xbb\xbf") if first else data
        first = False
        cut = data.rfind(b"\n") + 1
        if cut:
            yield b"".join([*pieces, data[:cut]])
            pieces = []
        pieces.append(data[cut:])
    if any(pieces):
        yield b"".join(pieces)


def _table(block: bytes, schema: pa.Schema, text: str) -> pa.Table:
    """The lines of a block, with the columns of `schema` and `_problem`."""
    # What has no value anywhere but null and {} is no column for the parser.
    void = [field.name for field in schema if pa.types.is_null(field.type)]
    table = columnar(block, pa.schema([field for field in schema if field.name not in void]))
    if table is None:
        return _by_line(block, schema, text)
    for name in void:
        table = table.append_column(name, pa.nulls(table.num_rows))
    return table.append_column(PROBLEM, pa.nulls(table.num_rows, pa.string()))


def columnar(block: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """Parse a block by columns, inferring types where there is no schema; None if it has to be parsed by line."""
    lines = _plain_lines(block, shallow=schema is None)
    if lines is None:
        return None
    try:
        block.decode()  # Arrow does not look
        table = pj.read_json(
            io.BytesIO(block),
            pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pj.ParseOptions(schema, False, unexpected_field_behavior="infer" if schema is None else "ignore"),
        )
        table.validate()  # of [null, null] Arrow makes a list without values
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return table if table.num_rows == lines else None


_NESTING = np.zeros(256, np.int8)
_NESTING[[ord("["), ord("{")]] = 1
_NESTING[[ord("]"), ord("}")]] = -1


def _plain_lines(block: bytes, *, shallow: bool) -> int | None:
    """How many lines a block has that are not empty, if each begins with `{` and ends with `}`; else None.

    Then no value can span lines, as JSON has no `}` before `{` but between values: if there are as many values as
    lines, each line is one.

    Args:
        block: whole lines.
        shallow: whether a line with more than `MAX_DEPTH` open brackets, also in strings, is none of these.
    """
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.append(0, ends[:-1] + 1)
    starts, ends = starts[ends > starts], ends[ends > starts]
    lasts = ends - 1
    lasts -= data[lasts] == ord("\r")
    starts, lasts = starts[lasts >= starts], lasts[lasts >= starts]
    if not (np.all(data[starts] == ord("{")) and np.all(data[lasts] == ord("}"))):
        return None
    if shallow and len(starts):
        brackets = np.flatnonzero(_NESTING[data])
        depth = np.cumsum(_NESTING[data[brackets]], dtype=np.int32)
        firsts = np.searchsorted(brackets, starts)
        if np.any(np.maximum.reduceat(depth, firsts) - depth[firsts] >= MAX_DEPTH):
            return None
    return len(starts)


def _inexact(table: pa.Table, id_field: str | None) -> bool:
    """Whether ids were read as floats: Arrow does so to integers of more than 64 bits with sign."""
    return id_field in table.column_names and pa.types.is_floating(table.schema.field(id_field).type)


def _parsed(block: bytes) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """The object of each line that is not blank, or None and what is wrong with the line."""
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except UnicodeDecodeError:
            yield None, "the line is not valid UTF-8"
        except RecursionError:
            yield None, "the line is nested too deep"
        except ValueError:
            yield None, "the line is not valid JSON"
        else:
            if not isinstance(value, dict):
                yield None, "the line is not a JSON object"
            elif line.count(b"[") + line.count(b"{") > MAX_DEPTH and _too_deep(value):
                yield None, "the line is nested too deep"
            else:
                yield value, None


def _too_deep(value: Any) -> bool:
    """Whether more than `MAX_DEPTH` arrays and objects lie in each other."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    return bool(level)


def _by_line(block: bytes, schema: pa.Schema, text: str) -> pa.Table:
    problems: list[str | None] = []
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for value, reason in _parsed(block):
        row: Mapping[str, Any] = value or {}
        found = row.get(text)
        if found is not None and not isinstance(found, str):
            reason = f"the text is a JSON {_json_type(found)}, not a string"
            row = {**row, text: None}
        for name, kind in zip(schema.names, schema.types, strict=True):
            fitted = _fit(row.get(name), kind)
            if not _encodes(fitted):
                reason = "the line has a lone surrogate, which no UTF-8 can hold"
                fitted = None
            columns[name].append(fitted)
        problems.append(reason)
    arrays = [pa.array(columns[name], kind) for name, kind in zip(schema.names, schema.types, strict=True)]
    return pa.table([*arrays, pa.array(problems, pa.string())], names=[*schema.names, PROBLEM])


def _encodes(value: Any) -> bool:
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "array" if isinstance(value, list) else "object"


def _kind(value: Any) -> pa.DataType:
    """The Arrow type of a JSON value."""
    if value is None or value == {}:
        return pa.null()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -(1 << 63) <= value < 1 << 63 else pa.string()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, list):
        kind = pa.null()
        for item in value:
            kind = _merged(kind, _kind(item))
        return _list(kind)
    fields: Fields = {}
    _merge_fields(fields, ((name, _kind(item)) for name, item in value.items()))
    return _struct(fields)


def _list(kind: pa.DataType) -> pa.DataType:
    return kind if pa.types.is_null(kind) else pa.list_(kind)


def _struct(fields: Fields) -> pa.DataType:
    return pa.struct(list(fields.items())) if fields else pa.null()


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that `_kind` gives to values which Arrow read as this one: JSON has no timestamps."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return _list(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return _struct({field.name: _plain(field.type) for field in kind})
    return kind


def _merge_fields(fields: Fields, found: Iterable[tuple[str, pa.DataType]]) -> None:
    for name, kind in found:
        if _encodes(name):
            fields[name] = _merged(fields[name], kind) if name in fields else kind


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that holds the values of both."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _list(_merged(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields: Fields = {field.name: field.type for field in one}
        _merge_fields(fields, ((field.name, field.type) for field in other))
        return _struct(fields)
    return pa.string()


def _fit(value: Any, kind: pa.DataType) -> Any:
    """A JSON value as a value of an Arrow type that `_merged` gave for it."""
    if value is None or pa.types.is_null(kind):
        return None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if (value == {} and not pa.types.is_struct(kind)) or (isinstance(value, list) and not pa.types.is_list(kind)):
        return None  # what holds no value goes with any type
    if pa.types.is_list(kind):
        return [_fit(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _fit(value.get(field.name), field.type) for field in kind}
    return float(value) if pa.types.is_floating(kind) else value


def wanted_fields(fields: pa.Schema, text: str, id_field: str | None, columns: Sequence[str] | None) -> pa.Schema:
    """The fields of a corpus that are to be imported.

    Raises:
        InputError: no line has the text field, or none has a string there; or a field has a name that is ours.
    """
    if text not in fields.names:
        raise InputError(
            f"no line has a field {text!r}; the fields are: {', '.join(fields.names) or 'none'}",
            hint="Name the text field, e.g. --set text=content, or `annotate duplicates --text content`.",
        )
    found = fields.field(text).type
    if not (pa.types.is_string(found) or pa.types.is_null(found)):
        raise InputError(f"the field {text!r} has type {found}, expected string", hint="Name another field.")
    named = {text, id_field, *(columns or ())}
    chosen = [field for field in fields if columns is None or field.name in named]
    if PROBLEM in [field.name for field in chosen]:
        raise InputError(
            f"the field {PROBLEM!r} has a name that this project uses",
            hint="Choose the fields that travel with Corpus(columns=(...)).",
        )
    return pa.schema([(field.name, _settled(field.type)) for field in chosen])


def _settled(kind: pa.DataType, *, nested: bool = False) -> pa.DataType:
    """A type without nulls inside objects, which Arrow miscounts when it casts: strings can be null as well."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _settled(field.type, nested=True)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_settled(kind.value_type, nested=True))
    return pa.string() if nested and pa.types.is_null(kind) else kind
