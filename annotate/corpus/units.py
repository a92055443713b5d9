"""Makes the units of a corpus: reads and checks the footers of its files, and cuts the files into row ranges."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from annotate.corpus.column_types import ColumnTypes, told_types
from annotate.corpus.columns import Columns
from annotate.corpus.footers import Footer, cut, read_footer
from annotate.corpus.source_files import SourceFile, UnreadableFile, unsupported
from annotate.storage.manifests import FileRows, Unit

FOOTERS = 1024  # footers that are read ahead at most


def read_footers(
    columns: Columns,
    files: Sequence[SourceFile],
    types: ColumnTypes | None = None,
    readers: Mapping[str, str] | None = None,
    *,
    pass_over: bool,
    threads: int = 16,
) -> Iterator[tuple[SourceFile, Footer | UnreadableFile]]:
    """Stream the files in order, each with its footer, or with the error if it can't be read and is passed over.

    Args:
        columns: the columns that are read.
        files: Parquet files, sorted by shard name.
        types: collects the types of each file's columns.
        readers: the columns that stages read, each with the name of such a stage.
        pass_over: whether a file that can't be read is passed over.
        threads: how many threads read footers.

    Raises:
        InputError: a file can't be read, lacks a column, or has one that can't travel; or two files have different
            columns.
    """
    types = types if types is not None else ColumnTypes()
    read = functools.partial(_footer, columns, pass_over=pass_over)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), FOOTERS):
            some = files[start : start + FOOTERS]
            for file, footer in zip(some, pool.map(read, some), strict=True):
                if isinstance(footer, Footer):
                    columns.check(file, footer.schema)
                    columns.check_read(file, footer.schema, readers or {})
                    types.add(file, columns.types(file, footer.schema, readers or {}))
                yield file, footer


def units_of(
    columns: Columns,
    file: SourceFile,
    footer: Footer,
    unit_bytes: int,
    widened: Mapping[str, pa.DataType] | None = None,
) -> Iterator[Unit]:
    """Cut one file into units. They record the `widened` type of each column that has another type in the file."""
    told = told_types(columns.types(file, footer.schema, widened), widened) if widened else {}
    for rows in cut(footer, unit_bytes):
        source = FileRows(
            path=file.path,
            size=file.size,
            checksum=footer.checksum,
            content=file.content,
            text=columns.text,
            group=rows.row_group,
            other_bytes=rows.other_bytes,
            types=told,
        )
        yield Unit(file.shard, rows.start, rows.stop, rows.text_bytes, source=source)


def _footer(columns: Columns, file: SourceFile, *, pass_over: bool) -> Footer | UnreadableFile:
    try:
        footer = read_footer(file, columns.text, functools.partial(columns.travelling, file))
        for name in (columns.id or columns.text, *columns.travelling(file, footer.schema)):
            if name in footer.codecs:
                raise unsupported(file, f"column {name!r} is compressed with {footer.codecs[name]}")
        return footer
    except UnreadableFile as error:
        if pass_over:
            return error
        raise
