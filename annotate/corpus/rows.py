"""Reads row ranges of a Parquet file; the memory for it does not grow with the row groups."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa

from annotate.corpus.footers import is_of
from annotate.corpus.source_files import READ_ERRORS, SourceFile, changed, explained, open_parquet
from annotate.storage.store import checksum

READ_BUFFER = 1 << 20
BATCH_BYTES = 1 << 20
BATCH_ROWS = 4096
CODED_ROWS = 256  # rows of a column with a dictionary that are read at once, however long a value may be
_WIDTHS = {"BOOLEAN": 1 / 8, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


class RowReader:
    """Reads row ranges of one Parquet file. If they are read in rising order, each row group is decoded once.

    Pages are streamed: a reader holds about `READ_BUFFER` bytes for each column and the batches of one range, whatever
    the size of a row group.

    Raises:
        InputError: the file is damaged, or its footer has another checksum.
    """

    def __init__(self, file: SourceFile, footer_checksum: str) -> None:
        self._file = file
        if file.directory.size(file.path) != file.size:
            raise changed(file)
        self._parquet, footer = open_parquet(file, buffer_size=READ_BUFFER)
        if checksum(footer) != footer_checksum:
            raise changed(file)
        metadata = self._parquet.metadata
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._edges = [0, *itertools.accumulate(counts)]
        self._columns: tuple[str, ...] = ()
        self._group = -1
        self._at = 0  # row at which `_rest`, or else the next batch, starts
        self._rest: pa.RecordBatch | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the file."""
        return self._parquet.schema_arrow

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return self._edges[-1]

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of rows `[start, stop)`, at least one row.

        Raises:
            UnreadableFile: the file is damaged there, or before it in the row group.
            InputError: the file changed.
        """
        try:
            return self._read(start, stop, tuple(columns), exactly=False)
        except READ_ERRORS:
            self._group = -1
        # The damage can lie beyond the range, since a batch can reach further; how far depends on the reads before.
        # Whether a range can be read must not depend on those, so it is read again in batches that end where it ends.
        try:
            return self._read(start, stop, tuple(columns), exactly=True)
        except READ_ERRORS as error:
            raise explained(self._file, error) from error
        finally:
            self._group = -1

    def slices(self, start: int, stop: int, columns: Sequence[str], slice_bytes: int) -> Iterator[tuple[int, int]]:
        """Cut rows `[start, stop)` into slices in which these columns have about `slice_bytes`, by the footer."""
        groups = range(bisect.bisect_right(self._edges, start) - 1, bisect.bisect_left(self._edges, stop))
        step = min(self._fitting(group, columns, slice_bytes) for group in groups)
        return itertools.pairwise([*range(start, stop, step), stop])

    def _fitting(self, group: int, columns: Sequence[str], size: int) -> int:
        """How many rows of a row group have about `size` bytes in these columns; at least one."""
        found = self._parquet.metadata.row_group(group)
        total = coded = 0.0
        for leaf in map(found.column, range(found.num_columns)):
            if not is_of(leaf.path_in_schema, columns):
                continue
            width = _WIDTHS.get(leaf.physical_type, 0)
            total += max(leaf.total_uncompressed_size, leaf.num_values * width)
            if leaf.has_dictionary_page and not width:
                coded += leaf.total_uncompressed_size * max(1.0, leaf.num_values / max(found.num_rows, 1))
        rows = size * found.num_rows / max(total, 1.0)
        if coded:
            # A dictionary holds a frequent value once. All that is sure is that no value is longer than its column.
            rows = min(rows, max(CODED_ROWS, 8 * size / coded))
        return max(1, int(rows))

    def _read(self, start: int, stop: int, columns: tuple[str, ...], *, exactly: bool) -> pa.Table:
        taken: list[pa.RecordBatch] = []
        while start < stop:
            group = bisect.bisect_right(self._edges, start) - 1
            end = min(stop, self._edges[group + 1])
            if group != self._group or start < self._at or columns != self._columns:
                self._seek(group, columns, end - (self._edges[group] if exactly else start), exactly=exactly)
            self._take(start, end, taken)
            start = end
        return pa.Table.from_batches(taken)

    def _seek(self, group: int, columns: tuple[str, ...], rows: int, *, exactly: bool) -> None:
        """Go to the first row of a row group. Batches stay inside it: spanning several, they could be of any size.

        A batch has at most `rows` rows. If `exactly`, a batch ends `rows` rows after the start of the row group.
        """
        batch = max(1, min(rows, self._fitting(group, columns, BATCH_BYTES), BATCH_ROWS))
        if exactly:
            batch = next(n for n in range(batch, 0, -1) if rows % n == 0)
        # Without threads: memory that a thread of a pool frees stays with that thread, and a worker has one CPU.
        self._batches = self._parquet.iter_batches(
            batch_size=batch, row_groups=[group], columns=list(columns), use_threads=False
        )
        self._columns, self._group, self._at, self._rest = columns, group, self._edges[group], None

    def _take(self, start: int, stop: int, taken: list[pa.RecordBatch]) -> None:
        while self._at < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise pa.ArrowInvalid("a row group has fewer rows than its footer says")
            low, high = max(start - self._at, 0), min(stop - self._at, batch.num_rows)
            if high > low:
                taken.append(batch.slice(low, high - low))
            self._rest = batch.slice(high) if high < batch.num_rows else None
            self._at += high
        if self._at == self._edges[self._group + 1]:
            self._batches = iter(())  # else the last pages would be held until the next row group is read
