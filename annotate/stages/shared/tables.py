"""Helpers on tables that several stages share: document hashes, span texts, quarantine rows, joins by position."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from annotate.errors import ConfigError, InputError
from annotate.storage.contracts import contract
from annotate.text.arrays import lists_by_row, one_array


def chosen(table: pa.Table, mask: npt.NDArray[np.bool_]) -> pa.Table:
    """The rows where `mask`, bool `[n_rows]`, is true; `filter` would copy all of them where all are."""
    return table if mask.all() else table.filter(pa.array(mask))


def as_texts(column: pa.ChunkedArray, name: str, shard: str) -> pa.Array:
    """A column of the corpus as strings, for the rules of a scheme.

    Raises:
        ConfigError: it is of no texts and no integers; names column, file and type.
    """
    try:
        if pa.types.is_floating(column.type):
            raise pa.ArrowInvalid("Two numbers that look alike may differ: compare them as an axis, by column_scorer.")
        return column.cast(pa.string()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"a rule reads the column {name!r} of {shard}, whose type {column.type} is no text",
            hint=f"Name a column of texts or integers. {error}",
        ) from error


def text_buffer(texts: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Buffer]:
    """Offsets (int64 `[n + 1]`) and data of a large_string array, without a copy."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return offsets, texts.buffers()[2] or pa.py_buffer(b"")


def text_hashes(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """XXH3 of the UTF-8 of each text (0 for null): uint64 `[n]`.

    This is the one loop over documents: 0.2 us a document beside the hash itself, which reads at memory speed.
    """
    offsets, data = text_buffer(texts)
    view = memoryview(data)
    edges = offsets.tolist()
    hashes = [xxhash.xxh3_64_intdigest(view[a:b]) for a, b in itertools.pairwise(edges)]
    result = np.array(hashes, np.uint64)
    if texts.null_count:
        result[texts.is_null().to_numpy(zero_copy_only=False)] = 0
    return result


def span_numbers(spans: pa.Table, rows: range) -> npt.NDArray[np.int32]:
    """Number of each span in its document: int32 `[n_spans]`."""
    counts = np.bincount(spans["row"].to_numpy() - rows.start, minlength=len(rows))
    firsts = np.cumsum(counts) - counts
    return (np.arange(spans.num_rows) - np.repeat(firsts, counts)).astype(np.int32)


def numbered_spans(spans: pa.Table, rows: range) -> pa.Table:
    """The spans of a unit, with their numbers in a column `span`."""
    return spans.append_column("span", pa.array(span_numbers(spans, rows)))


def as_table(frame: pl.DataFrame, schema: str) -> pa.Table:
    """The columns of a contract, of its types."""
    expected = contract(schema).schema
    return frame.select(expected.names).to_arrow().cast(expected)


def span_texts(documents: pa.Table, spans: pa.Table, rows: range, shard: str) -> pa.Array:
    """The text of each span, as views of the documents' bytes: no text is copied.

    Args:
        documents: a unit of a corpus.
        spans: spans of the unit, all or some documents', in order.
        rows: the rows of the unit.
        shard: for the error.

    Raises:
        InputError: a document is not the one that was split.
    """
    check_hashes(documents, spans, rows, shard)
    offsets, data = text_buffer(one_array(documents["text"]))
    base = offsets[spans["row"].to_numpy() - rows.start]
    starts, ends = base + spans["byte_start"].to_numpy(), base + spans["byte_end"].to_numpy()
    return sliced(starts, ends, data)


def sliced(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], data: pa.Buffer) -> pa.Array:
    """Byte ranges of a buffer as strings; without a copy where each range starts at the end of the one before."""
    if len(starts) == 0:
        return pa.array([], pa.large_string())
    if np.array_equal(starts[1:], ends[:-1]):
        edges = pa.py_buffer(np.append(starts, ends[-1]))
        return pa.LargeStringArray.from_buffers(len(starts), edges, data)
    # Ranges with gaps: take every second of the pieces that tile the buffer.
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[0:-1:2], edges[1::2], edges[-1] = starts, ends, ends[-1]
    pieces = pa.LargeStringArray.from_buffers(2 * len(starts), pa.py_buffer(edges), data)
    return pieces.take(pa.array(np.arange(0, 2 * len(starts), 2)))


def check_hashes(documents: pa.Table, spans: pa.Table, rows: range, shard: str) -> None:
    """Check that each document is the one that was split.

    Raises:
        InputError: it is not; names the file and row.
    """
    hashes = text_hashes(one_array(documents["text"]))
    differs = hashes[spans["row"].to_numpy() - rows.start] != spans["text_hash"].to_numpy()
    if differs.any():
        row = int(spans["row"].to_numpy()[np.argmax(differs)])
        raise InputError(
            f"{shard}, row {row}: the text is not the one that was split into spans",
            hint="The shard was changed, but its size and footer were not, so the run took it for unchanged. Write it "
            "so that the footer differs, or choose another work directory, and run again.",
        )


def quarantine(
    shard: str,
    rows: Sequence[int] | pa.Array,
    reasons: Sequence[str] | pa.Array,
    *,
    ids: pa.Array | None = None,
    spans: Sequence[int] | None = None,
    axes: Sequence[str | None] | None = None,
) -> pa.Table:
    """A quarantine table."""
    n = len(rows)
    return pa.table(
        [
            pa.array([shard] * n, pa.string()),
            pa.array(rows, pa.int64()),
            pa.array(spans, pa.int32()) if spans is not None else pa.nulls(n, pa.int32()),
            ids.cast(pa.string()) if ids is not None else pa.nulls(n, pa.string()),
            pa.array(axes, pa.string()) if axes is not None else pa.nulls(n, pa.string()),
            pa.array(reasons, pa.string()),
        ],
        schema=contract("quarantine").schema,
    )


def bad_documents(documents: pa.Table, shard: str) -> pa.Table:
    """Quarantine rows of the documents that cannot be used."""
    bad = documents.filter(pc.is_valid(documents["problem"]))
    return quarantine(
        shard,
        bad["row"].combine_chunks(),
        bad["problem"].combine_chunks(),
        ids=_known_ids(bad),
    )


def _known_ids(documents: pa.Table) -> pa.Array:
    """Ids; null for documents that have none, where a column of integers holds a 0."""
    ids = documents["id"].combine_chunks()
    if not pa.types.is_integer(ids.type):
        return ids
    # A line or a page that could not be read has no id either.
    reasons = documents["problem"].combine_chunks()
    unknown = pc.match_substring_regex(reasons, "^(the id is null|the line|the file can't be read)")
    unknown = pc.and_(pc.equal(ids, 0), unknown)
    return pc.if_else(unknown, pa.scalar(None, ids.type), ids)


def within(at: npt.NDArray[np.int64], rows: range) -> tuple[int, int]:
    """The first place of a range of rows in a sorted array of rows, and how many of them are there."""
    first, stop = np.searchsorted(at, [rows.start, rows.stop]).tolist()
    return first, stop - first


def between(table: pa.Table, begin: float, end: float) -> pa.Table:
    """The rows of an interval of times."""
    time = table["time"].to_numpy()
    return chosen(table, (time >= begin) & (time < end))


def in_order(sent: Sequence[pa.Table]) -> pa.Table:
    """The documents of what was sent, in the order of their times."""
    whole = pa.concat_tables(sent)
    order = np.argsort(whole["time"].to_numpy(), kind="stable")
    return pa.Table.from_struct_array(whole["document"]).take(pa.array(order))


def packed(table: pa.Table) -> pa.Array:
    """The columns of a table as one struct column."""
    return pa.StructArray.from_arrays([one_array(column) for column in table.columns], fields=list(table.schema))


def placement_lists(placed: pa.Table, documents: int) -> pa.Array:
    """Placements by document, list<struct> `[documents]` as the contract of training shards has them."""
    kind = contract("text-shards").schema.field("placements").type
    fields = pa.schema([pa.field("row", pa.int64()), *kind.value_type])
    return lists_by_row(placed.select(fields.names).cast(fields), documents).cast(kind)


def flat(lists: pa.ChunkedArray) -> pa.Table:
    """The rows of all documents, with the `row` of each."""
    lists = one_array(lists)
    rows = pc.list_parent_indices(lists).cast(pa.int64())
    return pa.Table.from_struct_array(lists.flatten()).add_column(0, "row", rows)
