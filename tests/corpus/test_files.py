"""Finding the files of a corpus, reading footers, cutting units and reading row ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.corpus import rows as rows_module
from annotate.corpus.files import find_files
from annotate.corpus.footers import MAX_ROWS_PER_UNIT, Footer, cut, read_footer
from annotate.corpus.rows import RowReader
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import InputError
from annotate.storage.marker import mark
from annotate.storage.store import Directory

TEXTS = pa.table({"text": ["a", "b", "c"], "id": [1, 2, 3]})


def write(path: Path, table: pa.Table = TEXTS, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def source(path: Path) -> SourceFile:
    return SourceFile(Directory.at(path.parent), path.name, path.name, path.stat().st_size)


def reader(path: Path, text: str = "text") -> RowReader:
    return RowReader(source(path), read_footer(source(path), text).checksum)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.parquet", "a.parquet", "deep/c.pq", "deep/er/d.parquet", "_hidden.parquet", ".x/e.parquet"):
        write(tmp_path / name)
    (tmp_path / "corpus.json").write_text("{}")
    (tmp_path / "README.md").write_text("read me")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["a.parquet", "b.parquet", "deep/c.pq", "deep/er/d.parquet"]),
        ("/", ["a.parquet", "b.parquet", "deep/c.pq", "deep/er/d.parquet"]),
        ("/*.parquet", ["a.parquet", "b.parquet"]),
        ("/**/*.parquet", ["a.parquet", "b.parquet", "deep/er/d.parquet"]),
        ("/deep/**", ["c.pq", "er/d.parquet"]),
        ("/**", ["README.md", "a.parquet", "b.parquet", "deep/c.pq", "deep/er/d.parquet"]),
        ("/[!b].parquet", ["a.parquet"]),
        ("/[b-z].parquet", ["b.parquet"]),
        ("/?.parquet", ["a.parquet", "b.parquet"]),
        ("/*/*", ["deep/c.pq"]),
        ("/**/er/*", ["deep/er/d.parquet"]),
        ("/**/c.pq", ["deep/c.pq"]),
        ("/**.parquet", ["a.parquet", "b.parquet"]),  # `**` is any folders only where it is a whole component
        ("/d*p/*.pq", ["deep/c.pq"]),
        ("/a.parquet", ["a.parquet"]),
        ("/_hidden.parquet", ["_hidden.parquet"]),
        ("/deep/../a.parquet", ["a.parquet"]),
    ],
)
def test_files_are_found_by_file_directory_and_glob(tree: Path, path: str, names: list[str]) -> None:
    if path == "/**":
        (tree / "corpus.json").unlink()  # JSON lines, if a glob says so
    assert [file.shard for file in find_files(f"{tree}{path}")] == names


def test_names_that_look_like_globs_are_taken_as_they_are(tmp_path: Path) -> None:
    names = ["a[1].parquet", "b*.parquet", "c d.parquet", "e%20f.parquet", "g?.parquet", "ü日本#~.parquet"]
    for name in names:
        write(tmp_path / name)
    for name in names:
        (file,) = find_files(f"{tmp_path}/{name}")
        assert file.shard == name
        assert read_footer(file, "text").rows == 3
    assert [file.shard for file in find_files(str(tmp_path))] == sorted(names)


def test_a_glob_without_a_slash_does_not_look_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "deep" / "b.parquet")
    listed: list[bool] = []
    sizes = Directory.sizes

    def spy(self: Directory, prefix: str, *, deep: bool = True) -> object:
        listed.append(deep)
        return sizes(self, prefix, deep=deep)

    monkeypatch.setattr(Directory, "sizes", spy)
    assert [file.shard for file in find_files(f"{tmp_path}/*.parquet")] == ["a.parquet"]
    assert listed == [False]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere.parquet", "no such file or directory"),
        ("/nowhere/*.parquet", "no such file or directory"),
        ("/*.csv", "no corpus files match .*there is: .*a.parquet"),
        ("/[z-a].parquet", "no corpus files match"),
        ("/{a,b}*.parquet", "no corpus files match"),
        ("/!(a)*.parquet", "no corpus files match"),
        ("/.x", "no corpus files match"),
    ],
)
def test_a_path_without_files_is_an_error(tree: Path, path: str, message: str) -> None:
    if path == "/.x":
        (tree / ".x" / "e.parquet").rename(tree / ".x" / "_e.parquet")
    with pytest.raises(InputError, match=message):
        find_files(f"{tree}{path}")


def test_both_formats_are_an_error(tree: Path) -> None:
    (tree / "x.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="both Parquet and JSON lines"):
        find_files(str(tree))
    assert [file.shard for file in find_files(f"{tree}/*.jsonl")] == ["x.jsonl"]


def test_moving_a_corpus_keeps_names_and_checksums(tmp_path: Path) -> None:
    write(tmp_path / "one" / "x" / "a.parquet")
    before = [(f.shard, read_footer(f, "text").checksum) for f in find_files(f"{tmp_path}/one/*/*.parquet")]
    (tmp_path / "one").rename(tmp_path / "two")
    assert before == [(f.shard, read_footer(f, "text").checksum) for f in find_files(f"{tmp_path}/two/*/*.parquet")]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_any_compression_is_read(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.parquet", compression=compression)
    assert reader(path).read(1, 3, ["text"])["text"].to_pylist() == ["b", "c"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_any_string_type_can_hold_text(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", None, "b"]).cast(kind)})
    footer = read_footer(source(write(tmp_path / "a.parquet", table)), "text")
    assert footer.rows == 3
    assert footer.group_bytes[0] > 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"content": ["a"], "id": [1]}), "has no column 'text'; it has: content, id"),
        (pa.table({"text": [1]}), "column 'text' has type int64, expected string"),
        (pa.table({"text": [["a"]]}), "column 'text' has type list"),
        (pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), "more than one column 'text'"),
        (pa.table([["a"], [1], [2]], names=["text", "x", "x"]), "more than one column 'x'"),
    ],
)
def test_a_text_column_that_is_missing_or_no_text_is_an_error(tmp_path: Path, table: pa.Table, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_footer(source(write(tmp_path / "a.parquet", table)), "text")
    assert "a.parquet" in str(error.value)


def test_a_column_name_may_have_dots(tmp_path: Path) -> None:
    table = pa.table({"a.b": ["x", "y"], "c": [{"d": 1}, {"d": 2}]})
    path = write(tmp_path / "a.parquet", table)
    assert read_footer(source(path), "a.b").rows == 2
    assert reader(path, "a.b").read(0, 2, ["a.b", "c"]).select(["a.b", "c"]) == table


@pytest.mark.parametrize("keep", [0, 3, 8, 12, 100])
def test_truncated_parquet_names_the_file(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableFile, match=r"a\.parquet is (truncated or damaged|not) Parquet"):
        read_footer(source(path), "text")


@pytest.mark.parametrize("data", [b"PAR1" * 3, b"%PDF-1.4 and more", b"\x00" * 100, b"PAR1" + b"\xff" * 50 + b"PAR1"])
def test_what_is_not_parquet_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"a\.parquet is"):
        read_footer(source(path), "text")


def test_damage_inside_is_an_input_error_that_names_the_file(tmp_path: Path) -> None:
    table = pa.table({"text": [f"document {i}" * 50 for i in range(2000)]})
    path = write(tmp_path / "a.parquet", table, use_dictionary=False, compression="zstd")
    footer = read_footer(source(path), "text")
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    damaged = RowReader(source(path), footer.checksum)
    for _ in range(2):  # the second time as the first: the reader does not go on from where it broke
        with pytest.raises(InputError, match=r"a\.parquet is truncated or damaged Parquet"):
            damaged.read(0, 2000, ["text"])


def test_a_file_that_changes_between_planning_and_reading_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    planned = source(path)
    footer = read_footer(planned, "text")
    write(path, pa.table({"text": ["a", "b", "d"], "id": [1, 2, 3]}))
    assert path.stat().st_size == planned.size
    with pytest.raises(InputError, match="changed while it was being read"):
        RowReader(planned, footer.checksum)
    write(path, pa.table({"text": ["longer than before"]}))
    with pytest.raises(InputError, match="changed while it was being read"):
        RowReader(planned, footer.checksum)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.parquet is gone"):
        RowReader(planned, footer.checksum)


def footer(groups: list[tuple[int, int]]) -> Footer:
    rows, sizes = [rows for rows, _ in groups], [size for _, size in groups]
    return Footer("", pa.schema([]), tuple(rows), tuple(sizes), tuple(20 * size + 1 for size in sizes))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 1 << 30)), max_size=30),
    st.integers(1, 1 << 26),
)
def test_ranges_tile_the_rows(groups: list[tuple[int, int]], unit_bytes: int) -> None:
    groups = [(rows, size) for rows, size in groups if size // unit_bytes < 50]
    ranges = list(cut(footer(groups), unit_bytes))
    edges = [0, *(r.stop for r in ranges)]
    assert [r.start for r in ranges] == edges[:-1]
    assert edges[-1] == sum(rows for rows, _ in groups)
    if all(rows for rows, _ in groups):
        assert sum(r.text_bytes for r in ranges) == sum(size for _, size in groups)
        assert sum(r.other_bytes for r in ranges) == sum(20 * size + 1 for _, size in groups)
    group_edges = np.cumsum([0] + [rows for rows, _ in groups])
    for r in ranges:
        assert 0 < r.stop - r.start <= MAX_ROWS_PER_UNIT
        inside = [edge for edge in group_edges if r.start < edge < r.stop]
        if inside:  # of several row groups: all of them whole, and not too large
            assert r.start in group_edges
            assert r.stop in group_edges
            assert r.text_bytes <= unit_bytes


def test_one_huge_row_group_is_cut_evenly() -> None:
    ranges = list(cut(footer([(100_000, 100 << 20)]), 8 << 20))
    assert len(ranges) == 13
    assert {r.stop - r.start for r in ranges} <= {7692, 7693}
    assert {r.row_group for r in ranges} == {0}


def test_short_or_repeated_texts_do_not_make_long_ranges() -> None:
    """Of texts in a dictionary the footer tells the different ones: 60,000 rows may have 1 MB by it, and 200 in all."""
    ranges = list(cut(footer([(60_000, 400_000)]), 1 << 20))
    assert max(each.stop - each.start for each in ranges) <= (1 << 20) // 128
    assert sum(each.text_bytes for each in ranges) == 400_000


def test_thousands_of_tiny_row_groups_are_joined() -> None:
    ranges = list(cut(footer([(10, 2000)] * 10_000), 1 << 20))
    assert len(ranges) == 20
    assert {r.row_group for r in ranges} == {None}


def test_few_rows_of_much_text_are_not_cut_below_a_row() -> None:
    ranges = list(cut(footer([(3, 100 << 20)]), 1 << 20))
    assert [(r.start, r.stop) for r in ranges] == [(0, 1), (1, 2), (2, 3)]


def test_a_file_without_rows_has_no_ranges(tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    assert list(cut(read_footer(source(write(tmp_path / "a.parquet", empty)), "text"), 1 << 20)) == []
    assert list(cut(footer([(0, 0), (0, 4)]), 1)) == []


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_ranges_read_what_the_file_holds(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = data.draw(st.integers(1, 60))
    table = pa.table(
        {"text": [f"{i}" * i for i in range(rows)], "n": list(range(rows)), "l": [[i] for i in range(rows)]}
    )
    path = write(tmp_path_factory.mktemp("ranges") / "a.parquet", table, row_group_size=data.draw(st.integers(1, rows)))
    found = reader(path)
    for _ in range(5):
        start = data.draw(st.integers(0, rows - 1))
        stop = data.draw(st.integers(start + 1, rows))
        columns = data.draw(st.sampled_from([["text"], ["text", "l"], ["n"]]))
        assert found.read(start, stop, columns).combine_chunks() == table.slice(start, stop - start).select(columns)


def test_a_row_group_is_decoded_once_while_ranges_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": [f"{i}" * 500 for i in range(4000)]})
    path = write(tmp_path / "a.parquet", table, row_group_size=2000)
    seeks: list[int] = []
    seek = RowReader._seek

    def spy(self: RowReader, group: int, columns: tuple[str, ...], rows: int, *, exactly: bool) -> None:
        seeks.append(group)
        seek(self, group, columns, rows, exactly=exactly)

    monkeypatch.setattr(RowReader, "_seek", spy)
    found = reader(path)
    for start in range(0, 4000, 250):
        assert found.read(start, start + 250, ["text"]) == table.slice(start, 250)
    assert seeks == [0, 1]
    assert found.read(100, 200, ["text"]) == table.slice(100, 100)  # back again
    assert seeks == [0, 1, 0]


@pytest.fixture
def pool() -> Iterator[pa.MemoryPool]:
    """What Arrow allocates from in a test; nothing else does, so that `max_memory` is that of such tests."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    yield pa.system_memory_pool()
    pa.set_memory_pool(usual)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_memory_is_bounded_by_the_range_and_not_by_the_row_group(
    tmp_path: Path, compression: str, request: pytest.FixtureRequest
) -> None:
    random = np.random.default_rng(1)
    rows = 64 << 10
    texts = [random.integers(97, 123, 1024, np.uint8).tobytes().decode() for _ in range(rows)]
    path = tmp_path / "a.parquet"
    write(path, pa.table({"text": texts}), row_group_size=rows, use_dictionary=False, compression=compression)
    del texts
    assert pq.read_metadata(path).num_row_groups == 1
    assert path.stat().st_size > 30 << 20
    pool = request.getfixturevalue("pool")
    found = reader(path)
    for start in range(0, rows, 1024):
        assert found.read(start, start + 1024, ["text"]).nbytes > 1 << 20
    assert pool.max_memory() < 6 << 20


def test_a_reader_holds_no_page_after_the_last_row_of_a_row_group(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "a.parquet"
    write(path, pa.table({"text": ["word " * 200] * 4096}), use_dictionary=False)
    pool = request.getfixturevalue("pool")
    found, before = reader(path), pool.bytes_allocated()
    found.read(0, 2048, ["text"])
    assert pool.bytes_allocated() - before > 1 << 20  # the next range goes on from here
    found.read(2048, 4096, ["text"])
    assert pool.bytes_allocated() - before < 1 << 16


def test_small_documents_before_large_ones_do_not_make_large_batches(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), use_dictionary=False, compression="none") as writer:
        writer.write_table(pa.table({"text": ["small"] * 5000}), row_group_size=5000)
        for _ in range(64):
            writer.write_table(pa.table({"text": ["x" * (1 << 20)]}))
    found = reader(path)
    assert found.read(0, 5000, ["text"]).num_rows == 5000
    pool = request.getfixturevalue("pool")
    for row in range(5000, 5064):
        assert found.read(row, row + 1, ["text"]).nbytes > 1 << 20
    assert pool.max_memory() < 6 << 20


def test_a_document_of_50_mb_is_read(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "word " * (10 << 20), "b"]})
    path = write(tmp_path / "a.parquet", table)
    ranges = list(cut(read_footer(source(path), "text"), 8 << 20))
    found = reader(path)
    read = [found.read(r.start, r.stop, ["text"]) for r in ranges]
    assert pa.concat_tables(read)["text"].combine_chunks() == table["text"].combine_chunks()


def test_batches_are_of_a_megabyte_whatever_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pa.table({"text": ["x" * 10_000] * 3000}), use_dictionary=False)
    batches = reader(path).read(0, 3000, ["text"])["text"].chunks
    assert max(chunk.nbytes for chunk in batches) <= rows_module.BATCH_BYTES


def test_whether_a_range_can_be_read_depends_on_nothing_read_before(tmp_path: Path) -> None:
    """Batches may reach into damaged pages beyond a range: which batches there are depends on the ranges before."""
    rows = 3000
    table = pa.table({"text": [f"{i:04}" * 10 for i in range(rows)]})
    path = write(tmp_path / "a.parquet", table, use_dictionary=False, compression="zstd", data_page_size=1 << 12)
    checksum = read_footer(source(path), "text").checksum
    leaf = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    middle = leaf.data_page_offset + leaf.total_compressed_size // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)

    def readable(found: RowReader, start: int, stop: int) -> bool:
        try:
            return found.read(start, stop, ["text"]) == table.slice(start, stop - start)
        except UnreadableFile:
            return False

    good, bad = 0, rows  # the first so many rows can be read, the first so many cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if readable(RowReader(source(path), checksum), 0, middle) else (good, middle)
    assert 100 < good < rows - 100
    for start in (good - 7, good - 64, good - 99):
        assert readable(RowReader(source(path), checksum), start, good)
        assert not readable(RowReader(source(path), checksum), start, good + 1)
    for first in (7, 97, good - 50, good - 1):
        found = RowReader(source(path), checksum)
        assert readable(found, 0, first)
        assert readable(found, first, good)
        assert not readable(found, good - 1, good + 1)
        assert readable(found, good - 1, good)


@pytest.mark.parametrize(
    "name",
    [
        "spans-0123abcd/dataset.json",
        "spans-0123abcd/manifests/0123456789abcdef0123456789abcdef.json",
        "spans-0123abcd/units/0123456789abcdef01234567-0",
    ],
)
def test_of_work_directories_in_a_corpus_directory_what_runs_wrote_is_no_corpus(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.parquet")
    for workdir in ("out", "deep/er/out"):
        if name.endswith("/dataset.json"):  # before all else: a folder that holds something is not marked any more
            mark(Directory.at(tmp_path / workdir / "spans-0123abcd"), "0123abcd", version=1, settings="")
        write(tmp_path / workdir / "spans-0123abcd" / "parts" / "0123456789abcdef01234567-0123456789abcdef.parquet")
        (tmp_path / workdir / "events").mkdir()
        (tmp_path / workdir / "events" / "20260101T000000-0a1b2c-0.jsonl").write_text("{}\n")
        (tmp_path / workdir / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/dataset.json"):
            (tmp_path / workdir / name).write_text("{}")
        write(tmp_path / workdir / "quarantine" / "annotations-0123abcd-0123abcd.parquet")
    write(tmp_path / "deep" / "output.parquet")
    write(tmp_path / "out" / "wiki-20231101" / "quarantine" / "a.parquet")  # of a work directory, what runs wrote
    (tmp_path / "deep" / "ledger.json").write_text("{}")  # somebody's books
    (tmp_path / "deep" / "latest.json").write_text("{}")  # others have such files too
    assert [file.shard for file in find_files(str(tmp_path))] == [
        "a.parquet",
        "deep/output.parquet",
        "out/wiki-20231101/quarantine/a.parquet",
    ]
    with pytest.raises(InputError, match="is a work directory, not a corpus"):
        find_files(str(tmp_path / "out"))
