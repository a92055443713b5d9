"""JSON lines: fields and types over blocks, bad lines that keep their row, compression, long lines, memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.corpus import jsonl
from annotate.corpus.jsonl import PROBLEM, convert, merge_schemas, scan, wanted_fields
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import InputError
from annotate.storage.store import Directory


def source(path: Path) -> SourceFile:
    return SourceFile(Directory.at(path.parent), path.name, path.name, path.stat().st_size)


def imported(path: Path, data: bytes | None = None, *, id: str | None = "id") -> pa.Table:
    """Scan and convert a file, and read the Parquet file that this gives."""
    if data is not None:
        path.write_bytes(data)
    fields = wanted_fields(scan(source(path), id), "text", id, None)
    target = path.with_name("imported.parquet")
    rows = convert(source(path), fields, "text", target)
    table = pq.read_table(target)
    assert table.num_rows == rows
    return table


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line is a block of its own."""
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 1)


def test_fields_and_values_arrive(path: Path) -> None:
    rows = [
        {"id": "x", "text": "one", "n": 1, "nested": {"a": [1, 2], "b": None}, "date": "2024-01-01"},
        {
            "id": "y",
            "text": "two\n\u0000zwei \U0001f600",
            "n": None,
            "nested": {"a": [], "b": "s"},
            "date": "2024-01-02",
        },
    ]
    table = imported(path, lines(*rows))
    assert table.drop_columns([PROBLEM]).to_pylist() == rows
    assert table.schema.field("text").type == pa.large_string()
    assert table.schema.field("date").type == pa.string()  # as it is written, not as a timestamp
    assert table[PROBLEM].null_count == 2


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.ndjson", bytes),
        ("a.jsonl.zst", zstandard.compress),
        ("a.jsonl.gz", gzip.compress),
        ("a.JSONL.ZST", zstandard.compress),
    ],
)
def test_compressed_files_are_read(tmp_path: Path, name: str, pack: Any) -> None:
    data = lines(*({"text": f"document {i}"} for i in range(1000)))
    table = imported(tmp_path / name, pack(data[: len(data) // 2]) + pack(data[len(data) // 2 :]), id=None)
    assert table["text"].to_pylist() == [f"document {i}" for i in range(1000)]


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.zst", zstandard.compress), ("a.jsonl.gz", gzip.compress)])
@pytest.mark.parametrize("damage", ["cut", "tail", "other"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, name: str, pack: Any, damage: str) -> None:
    data = pack(lines(*({"text": f"document {i * i}"} for i in range(100_000))))
    damaged = {"cut": data[: len(data) // 2], "tail": data[:-3], "other": b'{"text": "plain"}\n'}[damage]
    (tmp_path / name).write_bytes(damaged)
    said = f"{name} is not (zstd|gzip): it starts with" if damage == "other" else f"{name} is truncated or damaged"
    with pytest.raises(UnreadableFile, match=said):
        scan(source(tmp_path / name), "id")


BAD = {
    b'{"text": "a"': "the line is not valid JSON",
    b'{"text": "a"} x': "the line is not valid JSON",
    b'{"text": "a"}{"text": "b"}': "the line is not valid JSON",
    b"[1, 2]": "the line is not a JSON object",
    b'"text"': "the line is not a JSON object",
    b"null": "the line is not a JSON object",
    b'{"text": 5, "id": "i"}': "the text is a JSON number, not a string",
    b'{"text": true}': "the text is a JSON boolean, not a string",
    b'{"text": ["a"]}': "the text is a JSON array, not a string",
    b'{"text": {"a": 1}}': "the text is a JSON object, not a string",
    b'{"text": "a \\ud800 b"}': "the line has a lone surrogate, which no UTF-8 can hold",
    b'{"text": "fine", "more": ["\\udfff"]}': "the line has a lone surrogate, which no UTF-8 can hold",
    b'{"text": "\xff\xfe"}': "the line is not valid UTF-8",
    b'{"text": "\xed\xa0\x80"}': "the line is not valid UTF-8",
    b'{"text": "a", "more": ' + b"[" * 500 + b"]" * 500 + b"}": "the line is nested too deep",
    b'{"text": "a", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "the line is nested too deep",
}


@pytest.mark.parametrize("block", [1, 1 << 20], ids=["block of its own", "one block"])
def test_a_bad_line_keeps_its_row_and_its_reason(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", block)
    good = [b'{"text": "good %d", "id": "%d"}' % (i, i) for i in range(len(BAD))]
    table = imported(path, b"\n".join(line for pair in zip(good, BAD, strict=True) for line in pair))
    texts, reasons = table["text"].to_pylist(), table[PROBLEM].to_pylist()
    assert texts[::2] == [f"good {i}" for i in range(len(BAD))]
    assert reasons[::2] == [None] * len(BAD)
    assert dict(zip(BAD, reasons[1::2], strict=True)) == BAD
    assert set(table["id"].to_pylist()[1::2]) == {None, "i"}  # what is known of a bad line is kept


@pytest.mark.usefixtures("small_blocks")
def test_lines_are_told_apart_though_arrow_reads_across_them(path: Path) -> None:
    # As many values as lines, but not one a line.
    data = b'{"text":"a"}{"text":"b"}\n{"text":\n"c"}\n'
    table = imported(path, data + lines({"text": "d"}), id=None)
    assert table["text"].to_pylist() == [None, None, None, "d"]
    assert set(table[PROBLEM].to_pylist()[:3]) == {"the line is not valid JSON"}


def test_lines_are_told_apart_in_one_block(path: Path) -> None:
    table = imported(path, b'{"text":"a"}{"text":"b"}\n{"text":{}\n}\n{"text":"d"}\n', id=None)
    assert table["text"].to_pylist() == [None, None, None, "d"]


def test_blank_lines_are_not_rows(path: Path) -> None:
    table = imported(path, b'\n\r\n  \n{"text": "a"}\r\n\n \t {"text": "b"}  \n{"text": "c"}', id=None)
    assert table["text"].to_pylist() == ["a", "b", "c"]
    assert table[PROBLEM].null_count == 3


def test_a_byte_order_mark_is_passed_over(path: Path) -> None:
    assert imported(path, b"\xef\xbb\xbf" + lines({"text": "a"}))["text"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([None, 3], pa.int64(), [None, 3]),
        ([1, "x"], pa.string(), ["1", "x"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([{"a": 1}, "x"], pa.string(), ['{"a": 1}', "x"]),
        ([{}, {"a": 1}], pa.struct([("a", pa.int64())]), [None, {"a": 1}]),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())]), None),
        ([{"a": 1}, {"a": [2]}], pa.struct([("a", pa.string())]), [{"a": "1"}, {"a": "[2]"}]),
        ([[1], ["a"], []], pa.list_(pa.string()), [["1"], ["a"], []]),
        ([[1, None], None], pa.list_(pa.int64()), [[1, None], None]),
        ([{}, None], pa.null(), [None, None]),
        (["2024-01-01", "later"], pa.string(), ["2024-01-01", "later"]),
        (["2024-01-01", "2024-01-02T00:00:00"], pa.string(), ["2024-01-01", "2024-01-02T00:00:00"]),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20], ids=["a block each", "one block"])
def test_types_that_differ_are_brought_together(
    path: Path, block: int, values: list[Any], kind: pa.DataType, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", block)
    table = imported(path, lines(*({"text": "a", "more": value} for value in values)), id=None)
    assert table[PROBLEM].null_count == len(values)
    assert table.schema.field("more").type == kind
    if expected is not None:
        # Arrow keeps an empty object apart from null where the field has others.
        found = [None if value == {"a": None} else value for value in table["more"].to_pylist()]
        assert found == expected


@pytest.mark.usefixtures("small_blocks")
def test_a_field_that_appears_late_is_null_before(path: Path) -> None:
    table = imported(path, lines({"text": "a"}, {"text": "b", "late": [{"x": 1}]}, {"late": [], "text": "c"}), id=None)
    assert table["late"].to_pylist() == [None, [{"x": 1}], []]
    assert table.column_names == ["text", "late", PROBLEM]


def test_the_last_of_equal_fields_counts(path: Path) -> None:
    assert imported(path, b'{"text": "a", "text": "b"}\n', id=None)["text"].to_pylist() == ["b"]


def test_ids_of_any_size_are_exact(path: Path) -> None:
    large = (1 << 64) - 1
    table = imported(path, lines({"id": 1, "text": "a"}, {"id": large, "text": "b"}))
    assert table["id"].to_pylist() == ["1", str(large)]


def test_integer_ids_stay_integers(path: Path) -> None:
    table = imported(path, lines({"id": (1 << 63) - 1, "text": "a"}, {"id": -1, "text": "b"}, {"text": "c"}))
    assert table["id"].to_pylist() == [(1 << 63) - 1, -1, None]


def test_a_file_that_is_no_json_lines_is_named(path: Path) -> None:
    path.write_bytes(b"PAR1\x15\x04\n\x00\x01PAR1")
    with pytest.raises(UnreadableFile, match=r"a\.jsonl is not JSON lines: none of its 2 lines is a JSON object"):
        scan(source(path), "id")


def test_an_empty_file_has_no_fields(path: Path) -> None:
    path.write_bytes(b"")
    assert scan(source(path), "id").names == []
    assert imported_with(path, pa.schema([("text", pa.string())])).num_rows == 0


def imported_with(path: Path, fields: pa.Schema) -> pa.Table:
    target = path.with_name("imported.parquet")
    convert(source(path), fields, "text", target)
    return pq.read_table(target)


def test_files_are_given_the_columns_of_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a", "n": 1}))
    (tmp_path / "b.jsonl").write_bytes(lines({"m": "x", "text": "b", "n": 1.5}))
    fields = merge_schemas(scan(source(tmp_path / name), None) for name in ("a.jsonl", "b.jsonl"))
    assert imported_with(tmp_path / "a.jsonl", fields).to_pylist() == [
        {"text": "a", "n": 1.0, "m": None, PROBLEM: None}
    ]
    assert imported_with(tmp_path / "b.jsonl", fields).to_pylist() == [{"text": "b", "n": 1.5, "m": "x", PROBLEM: None}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content": pa.string(), "n": pa.int64()}, "no line has a field 'text'; the fields are: content, n"),
        ({}, "the fields are: none"),
        ({"text": pa.int64()}, "the field 'text' has type int64, expected string"),
        (
            {"text": pa.string(), PROBLEM: pa.string()},
            "has a field '_problem', a name that annotate itself uses",
        ),
    ],
)
def test_fields_that_cannot_be_imported(fields: dict[str, pa.DataType], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wanted_fields(pa.schema(fields), "text", "id", None)


def test_only_the_columns_that_travel_are_imported() -> None:
    fields = pa.schema([("a", pa.int64()), ("text", pa.string()), ("id", pa.string()), (PROBLEM, pa.string())])
    assert wanted_fields(fields, "text", "id", ()).names == ["text", "id"]
    assert wanted_fields(fields, "text", None, ("a",)).names == ["a", "text"]


def test_equal_content_gives_equal_bytes_however_it_is_packed(tmp_path: Path) -> None:
    data = lines(*({"text": f"document {i}", "n": i} for i in range(1000)))
    (tmp_path / "a").mkdir()
    imported(tmp_path / "a.jsonl.zst", zstandard.compress(data))
    imported(tmp_path / "a" / "b.jsonl", data)
    assert (tmp_path / "imported.parquet").read_bytes() == (tmp_path / "a" / "imported.parquet").read_bytes()


@pytest.mark.slow
def test_a_line_of_50_mb_among_short_ones(path: Path) -> None:
    long = "word " * (10 << 20)
    table = imported(path, lines({"text": "a"}, {"text": long, "n": 1}, {"text": "b"}), id=None)
    assert table["text"].to_pylist() == ["a", long, "b"]


def test_row_groups_are_of_about_8_mb(path: Path) -> None:
    imported(path, lines(*({"text": f"{i:04}" * 1024} for i in range(5000))), id=None)
    metadata = pq.read_metadata(path.with_name("imported.parquet"))
    sizes = [metadata.row_group(i).column(0).total_uncompressed_size for i in range(metadata.num_row_groups)]
    assert all(6 << 20 < size <= 8 << 20 for size in sizes[:-1])
    assert len(sizes) == 3


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(["2024-01-01", "[{", "\\", '"}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"text": st.text(st.characters(exclude_categories=["Cs"]))},
            optional={"more": json_values, "n": json_values},
        ),
        min_size=1,
        max_size=8,
    ),
    block=st.sampled_from([1, 100, 1 << 20]),
)
def test_no_line_that_is_json_is_lost(
    rows: list[dict[str, Any]], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK_BYTES", block)
        table = imported(path, lines(*rows), id=None)
    assert table["text"].to_pylist() == [row["text"] for row in rows]
    assert table[PROBLEM].null_count == len(rows)
    for name in ("more", "n"):
        found = table[name].to_pylist() if name in table.column_names else [None] * len(rows)
        for value, row in zip(found, rows, strict=True):
            expected = row.get(name)
            if isinstance(expected, str):
                assert value == expected
            elif isinstance(expected, int | float | bool) and isinstance(value, str):
                assert json.loads(value) == expected
            elif isinstance(expected, int | float | bool):
                assert value == pytest.approx(expected)
            else:
                assert (value is None) <= (_void(expected))


def _void(value: Any) -> bool:
    """Whether a value holds nothing that a column could."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return all(item is None or (isinstance(item, dict | list) and _void(item)) for item in inner)


@pytest.mark.slow
def test_memory_is_bounded_by_the_block_and_not_by_the_file(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from annotate.corpus.source_files import SourceFile
        from annotate.corpus.jsonl import convert, scan, wanted_fields
        from annotate.storage.store import Directory
        def run(name):
            path = Path(sys.argv[1]) / name
            file = SourceFile(Directory.at(path.parent), name, name, path.stat().st_size)
            convert(file, wanted_fields(scan(file, "id"), "text", "id", None), "text", path.with_suffix(".parquet"))
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        small = run("small.jsonl")
        print(run("large.jsonl") - small)
        """
    )
    line = lines({"id": "an id", "text": "some words of text " * 200, "more": {"a": [1, 2, 3]}})
    (tmp_path / "small.jsonl").write_bytes(line * 4_000)  # 16 MB
    (tmp_path / "large.jsonl").write_bytes(line * 40_000)  # 160 MB
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    more = int(done.stdout) * (1 if sys.platform == "linux" else 1 / 1024)
    assert more < 32 << 10  # KiB
