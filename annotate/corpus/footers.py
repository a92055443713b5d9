"""Reads Parquet footers, and cuts files into row ranges by them.

The row ranges depend on the footers alone, so work units are the same on every cluster.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.corpus.source_files import SourceFile, open_parquet, unsupported
from annotate.errors import InputError
from annotate.storage.store import checksum

MAX_ROWS_PER_UNIT = 1 << 16  # a dictionary-encoded footer can understate its text many times over
ROW_BYTES = 128  # a row counts as at least so many bytes of text


@dataclass(frozen=True)
class Footer:
    """The facts that are read from a Parquet footer.

    Attributes:
        checksum: of the footer.
        schema: the Arrow schema of the file.
        group_rows: rows of each row group.
        group_bytes: bytes of text of each row group.
        group_other_bytes: bytes of the other columns of each row group.
        int96: the columns that have timestamps of the type INT96.
        codecs: the columns whose compression is not supported, with that compression.
    """

    checksum: str
    schema: pa.Schema
    group_rows: tuple[int, ...]
    group_bytes: tuple[int, ...]
    group_other_bytes: tuple[int, ...]
    int96: tuple[str, ...] = ()
    codecs: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Documents in the file."""
        return sum(self.group_rows)


@dataclass(frozen=True)
class RowRange:
    """Rows `[start, stop)` of a shard, the work of one unit, and their bytes as the footer states them.

    `row_group` is the number of a row group if the range is only a part of it, else None.
    """

    start: int
    stop: int
    text_bytes: int
    other_bytes: int
    row_group: int | None = None


def read_footer(
    file: SourceFile, text: str, others: Callable[[pa.Schema], Sequence[str]] = lambda schema: ()
) -> Footer:
    """Read a Parquet footer.

    Args:
        file: a Parquet file.
        text: name of the text column.
        others: takes the schema, and gives the other columns whose sizes are wanted.

    Raises:
        InputError: the file is not Parquet or is truncated; or the text column is missing or holds no strings.
    """
    parquet, footer = open_parquet(file)
    metadata, schema = parquet.metadata, parquet.schema_arrow
    parquet.close()
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise InputError(f"{file} has more than one column {twice[0]!r}", hint="Give each column a name of its own.")
    if text not in schema.names:
        raise InputError(
            f"{file} has no column {text!r}; it has: {', '.join(schema.names)}",
            hint="Name the text column, e.g. --set text=content, or `annotate duplicates --text content`.",
        )
    found = schema.field(text).type
    if not (is_text(found) or pa.types.is_null(found)):
        raise InputError(
            f"{file}: column {text!r} has type {found}, expected string",
            hint="Name the text column, e.g. --set text=content, or `annotate duplicates --text content`.",
        )
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == text)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    int96, codecs = _physical(schema, groups)
    if text in codecs:
        raise unsupported(file, f"column {text!r} is compressed with {codecs[text]}")
    return Footer(
        checksum=checksum(footer),
        schema=schema,
        group_rows=tuple(group.num_rows for group in groups),
        group_bytes=tuple(group.column(leaf).total_uncompressed_size for group in groups),
        group_other_bytes=_column_bytes(groups, metadata.schema, others(schema)),
        int96=int96,
        codecs=codecs,
    )


def _physical(schema: pa.Schema, groups: Sequence[pq.RowGroupMetaData]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The columns of type INT96, and those of unsupported compression, from the first row group: all are alike."""
    int96: dict[str, None] = {}
    codecs: dict[str, str] = {}
    for leaf in [groups[0].column(i) for i in range(groups[0].num_columns)] if groups else []:
        known = leaf.compression == "UNCOMPRESSED" or _available(leaf.compression)
        if known and leaf.physical_type != "INT96":
            continue
        for name in schema.names:
            if f"{leaf.path_in_schema}.".startswith(f"{name}."):
                int96 |= {name: None} if leaf.physical_type == "INT96" else {}
                codecs |= {} if known else {name: leaf.compression}
    return tuple(int96), codecs


def _available(codec: str) -> bool:
    try:
        return bool(pa.Codec.is_available(codec))
    except ValueError:  # a name that Arrow doesn't know
        return False


def _column_bytes(
    groups: Sequence[pq.RowGroupMetaData], schema: pq.ParquetSchema, columns: Sequence[str]
) -> tuple[int, ...]:
    """Bytes of some columns in each row group, as the footer states them."""
    leaves = [schema.column(i).path for i in range(len(schema))]
    wanted = [i for i, path in enumerate(leaves) if is_of(path, columns)]
    if 2 * len(wanted) <= len(leaves):
        return tuple(sum(group.column(i).total_uncompressed_size for i in wanted) for group in groups)
    # Nearly all columns are wanted. Subtracting the others is faster: a file can have thousands of row groups.
    others = set(range(len(leaves))).difference(wanted)
    sizes = (g.total_byte_size - sum(g.column(i).total_uncompressed_size for i in others) for g in groups)
    return tuple(max(0, size) for size in sizes)


def is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf of a file's schema is one of these columns, or lies inside one."""
    return f"{path}.".startswith(tuple(f"{column}." for column in columns))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold documents: string, large_string, string_view or a dictionary of these."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def cut(footer: Footer, unit_bytes: int) -> Iterator[RowRange]:
    """Cut a file into row ranges of about `unit_bytes` of text.

    Small row groups are joined, large ones are cut evenly. A range is a part of one row group, or some whole ones. It
    has at most one row for each `ROW_BYTES` of `unit_bytes`, for two reasons: each document takes memory beside its
    text, and if texts are in a dictionary, the footer counts each different text once.
    """
    most = max(1, min(MAX_ROWS_PER_UNIT, unit_bytes // ROW_BYTES))
    first, rows, size, others = 0, 0, 0, 0
    groups = zip(footer.group_rows, footer.group_bytes, footer.group_other_bytes, strict=True)
    for group, (group_rows, group_bytes, group_others) in enumerate(groups):
        if rows and (size + group_bytes > unit_bytes or rows + group_rows > most):
            yield RowRange(first, first + rows, size, others)
            first, rows, size, others = first + rows, 0, 0, 0
        pieces = max(-(-group_bytes // unit_bytes), -(-group_rows // most))
        if pieces > 1:
            edges = [group_rows * i // pieces for i in range(pieces + 1)]
            for start, stop in itertools.pairwise(edges):
                if stop > start:
                    text, other = (
                        sum * stop // group_rows - sum * start // group_rows for sum in (group_bytes, group_others)
                    )
                    yield RowRange(first + start, first + stop, text, other, group)
            first += group_rows
        else:
            rows, size, others = rows + group_rows, size + group_bytes, others + group_others
    if rows:
        yield RowRange(first, first + rows, size, others)
