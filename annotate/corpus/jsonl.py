"""JSON lines: the fields of a file and their types, and its conversion to Parquet, a block of lines at a time.

Each line that is not blank is a row. A block is parsed by columns. It is parsed line by line only if a line is not a
JSON object, or if a field has values of several types. A line that can't be used is a row of nulls, and the column
`_problem` says why.

A field has one type over all lines:

* Integers and floats together are float64.
* Null, `{}` and `[]` go with any type. They are null where that type can't hold them.
* Objects and lists are merged field by field.
* In any other mixture the field is a string; values that are not strings are written in it as JSON.

If a line has a field twice, the last value counts. An integer that does not fit into int64 becomes a float, as in
JavaScript; in an id it becomes a string.
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
MAX_DEPTH = 64  # Arrow crashes when it infers the type of ten thousand nested brackets
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
    """The fields of several files, in the order of the files, each with a type that holds all its values."""
    fields: Fields = {}
    for schema in schemas:
        _merge_fields(fields, ((field.name, field.type) for field in schema))
    return pa.schema(fields)


def convert(file: SourceFile, schema: pa.Schema, text: str, path: Path) -> int:
    """Write a file of JSON lines as Parquet.

    Args:
        file: what to read.
        schema: the fields to write; the text field is written as large_string.
        text: name of the text field.
        path: where to write, on local disk.

    Returns:
        Rows written. The file has the columns of `schema`, null where a line lacks the field, and `_problem`.

    Raises:
        UnreadableFile: the file is truncated.
    """
    schema = schema.set(schema.names.index(text), pa.field(text, pa.large_string()))
    target = schema.append(pa.field(PROBLEM, pa.string()))
    rows = size = 0
    pending: list[pa.Table] = []
    # Without dictionaries the sizes in the footer are those of the text.
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
    """Cut a file into blocks of whole lines, about `BLOCK_BYTES` each, or one line if it is longer."""
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
    # A field whose values are all null or {} has no type that the parser takes: its column is added below.
    void = [field.name for field in schema if pa.types.is_null(field.type)]
    table = columnar(block, pa.schema([field for field in schema if field.name not in void]))
    if table is None:
        return _by_line(block, schema, text)
    for name in void:
        table = table.append_column(name, pa.nulls(table.num_rows))
    return table.append_column(PROBLEM, pa.nulls(table.num_rows, pa.string()))


def columnar(block: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """Parse a block by columns; without a schema, types are inferred. None if it has to be parsed line by line."""
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
        table.validate()  # Arrow reads [null, null] as a list that lacks its values
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return table if table.num_rows == lines else None


_NESTING = np.zeros(256, np.int8)
_NESTING[[ord("["), ord("{")]] = 1
_NESTING[[ord("]"), ord("}")]] = -1


def _plain_lines(block: bytes, *, shallow: bool) -> int | None:
    """Count the lines of a block that are not empty, if each begins with `{` and ends with `}`; else None.

    A value that spans such lines would have `}`, a line end and `{` inside, which JSON allows between values only. So
    if the parser finds as many values as there are lines, each line is one value.

    Args:
        block: whole lines.
        shallow: also None if a line has more than `MAX_DEPTH` open brackets, even in strings.
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
    """Whether ids were read as floats, as Arrow does to integers that do not fit into int64."""
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
    """Whether arrays and objects are nested deeper than `MAX_DEPTH`."""
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
    """The type that `_kind` gives to the values of a type that Arrow inferred: JSON has no timestamps."""
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
        return None  # an empty object or list goes with any type
    if pa.types.is_list(kind):
        return [_fit(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _fit(value.get(field.name), field.type) for field in kind}
    return float(value) if pa.types.is_floating(kind) else value


def wanted_fields(fields: pa.Schema, text: str, id_field: str | None, columns: Sequence[str] | None) -> pa.Schema:
    """The fields of a corpus to import.

    Raises:
        InputError: no line has the text field, or it is no string; or a field has the name of a column of ours.
    """
    if text not in fields.names:
        raise InputError(
            f"no line has a field {text!r}; the fields are: {', '.join(fields.names) or 'none'}",
            hint="Name the text field, e.g. --set text=content, or `annotate duplicates --text content`.",
        )
    found = fields.field(text).type
    if not (pa.types.is_string(found) or pa.types.is_null(found)):
        raise InputError(
            f"the field {text!r} has type {found}, expected string",
            hint="Name the text field, e.g. --set text=content, or `annotate duplicates --text content`.",
        )
    named = {text, id_field, *(columns or ())}
    chosen = [field for field in fields if columns is None or field.name in named]
    if PROBLEM in [field.name for field in chosen]:
        raise InputError(
            f"the corpus has a field {PROBLEM!r}, a name that annotate itself uses",
            hint="Rename the field, or choose the other fields to import with Corpus(columns=(...)).",
        )
    return pa.schema([(field.name, _settled(field.type)) for field in chosen])


def _settled(kind: pa.DataType, *, nested: bool = False) -> pa.DataType:
    """Replace the type null inside objects by string: Arrow miscounts nulls there when it casts."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _settled(field.type, nested=True)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_settled(kind.value_type, nested=True))
    return pa.string() if nested and pa.types.is_null(kind) else kind
