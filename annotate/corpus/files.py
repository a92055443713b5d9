"""The files of a corpus: finding them, reading their footers, cutting them into row ranges, reading a row range.

Work units come from footers in sorted order of shard names, never from how a cluster happens to cut blocks. A shard is
known by its path below the fixed part of the glob, so moving a corpus changes nothing.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.corpus.source_files import READ_ERRORS, SourceFile, changed, explained, open_parquet, unsupported
from annotate.errors import InputError
from annotate.storage.marker import check_corpus_place, datasets_among, written_by_runs
from annotate.storage.store import Directory, checksum

PARQUET = (".parquet", ".pq")
JSONL = tuple(name + packed for name in (".jsonl", ".ndjson", ".json") for packed in ("", ".zst", ".gz"))
MAX_ROWS_PER_UNIT = 1 << 16  # a dictionary-encoded footer can understate its text many times over
ROW_BYTES = 128  # of text that a row counts for at least
READ_BUFFER = 1 << 20
BATCH_BYTES = 1 << 20
BATCH_ROWS = 4096
CODED_ROWS = 256  # of a column with a dictionary that are read at once, however long a value may be
_WIDTHS = {"BOOLEAN": 1 / 8, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


@dataclass(frozen=True)
class Footer:
    """What a Parquet footer tells: identity, schema; rows, bytes of text and of other columns of each row group.

    `int96` are the columns that have timestamps of that type, `codecs` are compressions that are not supported, by
    column.

    `checksum` is `<size>-<hash of the footer>`, and of an imported file `<size>-<hash of the footer>.<its content>`:
    two files that differ in a few words can have equal footers.
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
    """Rows `[start, stop)` of a shard, the work of one unit, and the bytes of them that the footer states."""

    start: int
    stop: int
    text_bytes: int
    other_bytes: int
    row_group: int | None = None  # where the range is a part of one


def corpus_directory(path: str) -> Directory:
    """The fixed part of a corpus path, below which shards are named."""
    return _place(path)[0]


def _place(path: str) -> tuple[Directory, str]:
    """Split a corpus path into the directory and the glob below it (empty: everything)."""
    fixed, pattern = _split_glob(path)
    directory = Directory.at(fixed)
    if directory.local is not None and directory.local.is_file():
        return Directory.at(directory.local.parent), _escaped(directory.local.name)
    return directory, pattern


def find_files(path: str) -> list[SourceFile]:
    """Find the files of a corpus: a file, a directory (all below it), or a glob with `*`, `?`, `[...]` and `**`.

    Names that begin with a dot or an underscore are passed over, unless the path names the file itself. In a directory
    a `.json` file is taken for metadata; as JSON lines it has to be named, or matched. Of a work directory that lies in
    a directory, what runs wrote is passed over, and nothing else; named or matched, a file in a dataset is refused.

    Returns:
        Files sorted by shard name, all of one format.

    Raises:
        InputError: the path is missing or a work directory, nothing matches, both Parquet and JSON lines match, or a
            file lies in a dataset of ours.
    """
    directory, pattern = _place(path)
    if directory.local is not None and not directory.local.exists():
        raise InputError(f"no such file or directory: {path}", hint="Check the corpus path, and quote globs.")
    listed = sorted(directory.sizes("", deep=not pattern or "/" in pattern or "**" in pattern))
    datasets = datasets_among(directory, (name for name, _ in listed))
    if not pattern and any(name.count("/") == 1 for name in datasets):
        raise InputError(
            f"{path} is a work directory, not a corpus", hint=f"Use a glob that matches the corpus: {path}/*.parquet"
        )
    ours = set() if pattern else written_by_runs((name for name, _ in listed), datasets)
    names = [(name, size) for name, size in listed if name not in ours and _matches(name, pattern, path)]
    if not names:
        there = ", ".join(name for name, _ in listed[:5]) or "nothing"
        raise InputError(
            f"no corpus files match {path}; there is: {there}", hint="Name Parquet or .jsonl(.zst, .gz) files."
        )
    if len({is_jsonl(name) for name, _ in names}) > 1:
        raise InputError(f"{path} matches both Parquet and JSON lines", hint="Use a glob that matches one of them.")
    check_corpus_place(path, directory, [name for name, _ in names], datasets)
    return [SourceFile(directory, name, name, size) for name, size in names]


def is_jsonl(name: str) -> bool:
    """Whether a file is one of JSON lines, by its name."""
    return name.lower().endswith(JSONL)


def _matches(name: str, pattern: str, path: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    if not pattern:
        return not hidden and name.lower().endswith(PARQUET + JSONL) and not name.lower().endswith(".json")
    exact = name == _unescaped(pattern)
    return exact or (not hidden and _compiled(pattern, path).fullmatch(name) is not None)


@functools.lru_cache(maxsize=8)
def _compiled(pattern: str, path: str) -> re.Pattern[str]:
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except re.error as error:
        raise InputError(f"{path} is no glob: {error}", hint="Quote a bracket that is meant as it is: [[]") from error


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


def _escaped(name: str) -> str:
    """A glob that matches just `name`."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _unescaped(pattern: str) -> str:
    """The one name that a pattern from `_escaped` matches."""
    return re.sub(r"\[([*?\[])\]", r"\1", pattern)


def _translate(pattern: str) -> str:
    """Turn a glob into a regular expression in which `*` stops at a slash and `**` does not."""
    plain = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    out = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\]|.", pattern, re.DOTALL):
        if token.startswith("[") and len(token) > 2:
            negated = token.startswith("[!")
            inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", token[1 + negated : -1])
            out += f"[{'^/' if negated else ''}{inner}]"
        else:
            out += plain.get(token) or re.escape(token)
    return out


def read_footer(
    file: SourceFile, text: str, others: Callable[[pa.Schema], Sequence[str]] = lambda schema: ()
) -> Footer:
    """Read a Parquet footer.

    Args:
        file: a Parquet file.
        text: name of the text column, whose sizes are wanted.
        others: the other columns whose sizes are wanted, given the schema.

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
        raise InputError(f"{file}: column {text!r} has type {found}, expected string", hint="Name another column.")
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == text)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    int96, codecs = _physical(schema, groups)
    if text in codecs:
        raise unsupported(file, f"column {text!r} is compressed with {codecs[text]}")
    return Footer(
        checksum=f"{file.size}-{checksum(footer)}" + (f".{file.content}" if file.content else ""),
        schema=schema,
        group_rows=tuple(group.num_rows for group in groups),
        group_bytes=tuple(group.column(leaf).total_uncompressed_size for group in groups),
        group_other_bytes=_column_bytes(groups, metadata.schema, others(schema)),
        int96=int96,
        codecs=codecs,
    )


def _physical(schema: pa.Schema, groups: Sequence[pq.RowGroupMetaData]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which columns are INT96, and which have what unsupported compression: so it is in all row groups of a file."""
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
    wanted = [i for i, path in enumerate(leaves) if _is_of(path, columns)]
    if 2 * len(wanted) <= len(leaves):
        return tuple(sum(group.column(i).total_uncompressed_size for i in wanted) for group in groups)
    # Mostly all columns but a few: a file can have thousands of row groups, and each question costs.
    others = set(range(len(leaves))).difference(wanted)
    sizes = (g.total_byte_size - sum(g.column(i).total_uncompressed_size for i in others) for g in groups)
    return tuple(max(0, size) for size in sizes)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf of a file's schema is one of these columns, or is in it."""
    return f"{path}.".startswith(tuple(f"{column}." for column in columns))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold documents: string, large_string, string_view or a dictionary of these."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def cut(footer: Footer, unit_bytes: int) -> Iterator[RowRange]:
    """Cut a file into row ranges of about `unit_bytes` of text.

    Small row groups are joined and large ones cut evenly. A range has at most one row for each `ROW_BYTES` of a unit:
    what is held of a document counts too, and of texts in a dictionary the footer tells only the different ones. A
    range never has parts of two row groups, unless it has them whole.
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


class RowReader:
    """Reads row ranges of one Parquet file; a row group is decoded once while ranges rise.

    Pages are streamed: a reader holds about `READ_BUFFER` bytes a column and the batches of one range, whatever the
    size of a row group.

    Raises:
        InputError: the file is damaged, or is not the one that had this footer.
    """

    def __init__(self, file: SourceFile, footer_checksum: str) -> None:
        self._file = file
        if file.directory.size(file.path) != file.size:
            raise changed(file)
        self._parquet, footer = open_parquet(file, buffer_size=READ_BUFFER)
        found = f"{file.size}-{checksum(footer)}"
        if found != footer_checksum.partition(".")[0]:
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
        """Read columns of rows `[start, stop)`, at least one.

        Raises:
            UnreadableFile: the file is damaged there, or before it in the row group.
            InputError: the file changed.
        """
        try:
            return self._read(start, stop, tuple(columns), exactly=False)
        except READ_ERRORS:
            self._group = -1
        # A batch can reach beyond the range, how far depends on what was read before, and the damage can be there:
        # whether a range can be read must not depend on that.
        try:
            return self._read(start, stop, tuple(columns), exactly=True)
        except READ_ERRORS as error:
            raise explained(self._file, error) from error
        finally:
            self._group = -1

    def slices(self, start: int, stop: int, columns: Sequence[str], slice_bytes: int) -> Iterator[tuple[int, int]]:
        """Cut rows `[start, stop)` in slices of which these columns have about `slice_bytes`, as the footer tells."""
        groups = range(bisect.bisect_right(self._edges, start) - 1, bisect.bisect_left(self._edges, stop))
        step = min(self._fitting(group, columns, slice_bytes) for group in groups)
        return itertools.pairwise([*range(start, stop, step), stop])

    def _fitting(self, group: int, columns: Sequence[str], size: int) -> int:
        """Rows of a row group of which these columns have about so many bytes, at least one."""
        found = self._parquet.metadata.row_group(group)
        total = coded = 0.0
        for leaf in map(found.column, range(found.num_columns)):
            if not _is_of(leaf.path_in_schema, columns):
                continue
            width = _WIDTHS.get(leaf.physical_type, 0)
            total += max(leaf.total_uncompressed_size, leaf.num_values * width)
            if leaf.has_dictionary_page and not width:
                coded += leaf.total_uncompressed_size * max(1.0, leaf.num_values / max(found.num_rows, 1))
        rows = size * found.num_rows / max(total, 1.0)
        if coded:
            # A value that comes often is there once: all that is sure is that none is longer than its column.
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
        """Start at the first row of a row group: batches that spanned several could hold any number of bytes.

        They have at most so many rows; if `exactly`, one of them ends after so many.
        """
        batch = max(1, min(rows, self._fitting(group, columns, BATCH_BYTES), BATCH_ROWS))
        if exactly:
            batch = next(n for n in range(batch, 0, -1) if rows % n == 0)
        # What a thread of a pool frees stays with that thread, and a worker has one CPU.
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
            self._batches = iter(())  # it would hold the last pages until the next row group is read
