"""The units of a corpus: the footers of its files, checked, and the row ranges that they are cut into."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from annotate.corpus.column_types import ColumnTypes, told_types
from annotate.corpus.footers import Footer, cut, read_footer
from annotate.corpus.source_files import SourceFile, UnreadableFile, unsupported
from annotate.corpus.travelling import Columns
from annotate.storage.manifests import FileRows, Unit

FOOTERS = 1024  # read ahead at most


def read_footers(
    columns: Columns,
    files: Sequence[SourceFile],
    types: ColumnTypes | None = None,
    readers: Mapping[str, str] | None = None,
    *,
    pass_over: bool,
    threads: int = 16,
) -> Iterator[tuple[SourceFile, Footer | UnreadableFile]]:
    """Stream the footers of Parquet files in order; an error stands for a file that is passed over.

    Args:
        columns: what is read of the files.
        files: sorted by shard name.
        types: is told the types of each file's columns.
        readers: columns that stages read, each with the stage that does.
        pass_over: whether a file that can't be read is passed over.
        threads: that read footers.

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
    """Cut one file into units, which are told the types of those `widened` columns that the file has as others."""
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
