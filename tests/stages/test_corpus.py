"""The corpus stage: documents as people have them, what goes to quarantine, what is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.corpus.arrow_types import travelling
from annotate.corpus.footers import Footer
from annotate.corpus.rows import RowReader
from annotate.engine.source import open_source
from annotate.errors import ConfigError, InputError
from annotate.graph import graph, lineages
from annotate.stages.corpus import Corpus
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, file_rows, read_units
from annotate.storage.refusals import Refusal, file_identity, put_refusal
from annotate.storage.store import Directory


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def documents(corpus: Corpus, *, extra: tuple[str, ...] | None = ()) -> pa.Table:
    """All documents of a corpus, unit by unit, with extra columns; None for all that travel."""
    tables = []
    for file, footer in corpus.footers(corpus.files()):
        assert isinstance(footer, Footer)
        for unit in corpus.units(file, footer):
            names = corpus.reader.travelling(file.directory, unit) if extra is None else extra
            tables.append(corpus.reader.documents(file.directory, unit, extra=names))
    return pa.concat_tables(tables)


def of(tmp_path: Path, table: pa.Table, **settings: Any) -> Corpus:
    return Corpus(str(write(tmp_path / "a.parquet", table)), **settings)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_any_string_type_can_be_text_and_id(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(["one", "two", "one"]).cast(kind)
    found = documents(of(tmp_path, pa.table({"text": values, "id": values})))
    assert contract("corpus").check(found, "here")["text"].to_pylist() == ["one", "two", "one"]
    assert found["id"].to_pylist() == ["one", "two", "one"]
    assert found.schema.field("id").type == pa.large_string()


def test_a_column_with_a_name_of_ours_is_read_by_the_name_that_it_travels_by(tmp_path: Path) -> None:
    corpus = of(tmp_path, pa.table({"text": ["one"], "id": ["1"], "phase": ["x"]}))
    assert documents(corpus, extra=("corpus_phase",))["corpus_phase"].to_pylist() == ["x"]
    with pytest.raises(InputError, match=r"(?s)can't be read as 'phase'.*Read it as 'corpus_phase'"):
        documents(corpus, extra=("phase",))


@pytest.mark.parametrize(
    "kind", [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)], ids=str
)
def test_any_integer_type_can_be_id(tmp_path: Path, kind: pa.DataType) -> None:
    highest = (1 << (kind.bit_width - (not str(kind).startswith("u")))) - 1
    table = pa.table({"text": ["a", "b"], "id": pa.array([0, highest], kind)})
    found = contract("corpus").check(documents(of(tmp_path, table)), "here")
    assert found["id"].to_pylist() == [0, highest]
    assert found.schema.field("id").type == (pa.uint64() if kind == pa.uint64() else pa.int64())


def test_documents_without_ids_are_named_by_their_place(tmp_path: Path) -> None:
    assert documents(of(tmp_path, pa.table({"text": ["a", "b"]}), id=None))["id"].to_pylist() == [
        "a.parquet:0",
        "a.parquet:1",
    ]


def test_a_null_string_id_is_named_by_its_place(tmp_path: Path) -> None:
    found = documents(of(tmp_path, pa.table({"text": ["a", "b"], "id": ["x", None]})))
    assert found["id"].to_pylist() == ["x", "a.parquet:1"]
    assert found["problem"].null_count == 2


def test_ids_that_are_all_null_are_named_by_their_place(tmp_path: Path) -> None:
    found = documents(of(tmp_path, pa.table({"text": ["a"], "id": pa.nulls(1)})))
    assert found["id"].to_pylist() == ["a.parquet:0"]


def test_a_null_integer_id_is_a_problem(tmp_path: Path) -> None:
    found = documents(of(tmp_path, pa.table({"text": ["a", "b"], "id": pa.array([7, None])})))
    assert found["problem"].to_pylist() == [None, "the id is null"]
    assert found["text"].to_pylist() == ["a", None]
    assert found["id"].to_pylist() == [7, 0]


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.list_(pa.string())], ids=str)
def test_other_types_cannot_be_ids(tmp_path: Path, kind: pa.DataType) -> None:
    corpus = of(tmp_path, pa.table({"text": ["a"], "id": pa.nulls(1, kind)}))
    with pytest.raises(InputError, match=r"a\.parquet: id column 'id' has type .*expected a string or an integer"):
        documents(corpus)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_what_a_text_can_be(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [
        b"fine",
        None,
        b"",
        b" \t\n\xc2\xa0\xe3\x80\x80",
        b"\xed\xa0\x80",
        b"a\xff",
        b"\xff\xff",
        b"\xc3(",
        b"\x00nul\x00",
        b"\xf0\x9f\x98\x80",
    ]
    binary = pa.array(texts, pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
    text = pa.Array.from_buffers(kind, len(texts), binary.buffers())
    found = documents(of(tmp_path, pa.table({"text": text}), id=None))
    bad = "the text is not valid UTF-8 (a lone surrogate, or another encoding)"
    assert found["problem"].to_pylist() == [
        None,
        "the text is null",
        "the text is empty",
        "the text has only blanks",
        bad,
        bad,
        bad,
        bad,
        None,
        None,
    ]
    assert found["text"].to_pylist() == ["fine", *[None] * 7, "\x00nul\x00", "\U0001f600"]
    assert b"\xff" not in found["text"].combine_chunks().buffers()[2].to_pybytes()


def test_nested_columns_travel(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b"],
            "struct": [{"x": 1, "y": {"z": ["s"]}}, None],
            "list": [[1, 2], []],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "category": pa.array(["p", "q"]).dictionary_encode(),
            "when": pa.array([0, 1], pa.timestamp("us", "UTC")),
        }
    )
    found = documents(of(tmp_path, table, id=None), extra=None)
    names = sorted(set(table.column_names) - {"text"})
    assert found.column_names == ["row", "id", "text", "problem", *names]
    assert found.select(names).to_pydict() == table.select(names).to_pydict()


def test_columns_travel_in_one_order_whatever_that_of_the_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": ["a"], "x": [1], "b": ["s"]}))
    write(tmp_path / "b.parquet", pa.table({"b": ["t"], "x": [2], "text": ["b"]}))
    assert documents(Corpus(str(tmp_path), id=None), extra=None)["b"].to_pylist() == ["s", "t"]
    chosen = documents(Corpus(str(tmp_path), id=None, columns=("x",)), extra=None)
    assert chosen.column_names == ["row", "id", "text", "problem", "x"]


def commit(corpus: Corpus, tmp_path: Path) -> Manifest:
    manifest = open_source(corpus, Directory.at(tmp_path / "out")).manifest
    assert manifest is not None
    return manifest


@pytest.mark.parametrize("name", ["row", "id", "text", "problem", "placements", "gaps"])
def test_an_extra_column_with_a_name_of_ours_travels_under_another(tmp_path: Path, name: str) -> None:
    table = pa.table({"body": ["a", "b"], name: [7, 8], "n": [1, 2]})
    corpus = of(tmp_path, table, text="body", id=None)
    found = documents(corpus, extra=None)
    assert set(found.column_names) == {"row", "id", "text", "problem", f"corpus_{name}", "n"}
    assert contract("corpus").check(found, "here")["text"].to_pylist() == ["a", "b"]
    assert found[f"corpus_{name}"].to_pylist() == [7, 8]
    assert documents(corpus, extra=(f"corpus_{name}",))[f"corpus_{name}"].to_pylist() == [7, 8]
    assert corpus.remarks(commit(corpus, tmp_path)) == [
        f"the column {name!r} travels as 'corpus_{name}': annotate itself uses its name"
    ]
    chosen = of(tmp_path, table, text="body", id=None, columns=("n",))
    assert documents(chosen, extra=None).column_names == ["row", "id", "text", "problem", "n"]
    assert chosen.remarks(commit(chosen, tmp_path)) == []


def test_an_extra_column_whose_other_name_is_taken_is_an_error(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "row": [1], "corpus_row": [2]})
    with pytest.raises(
        InputError, match=r"a\.parquet: column 'row' has .*would be called 'corpus_row'; but there is a column"
    ):
        documents(of(tmp_path, table, id=None))
    for column, value in (("row", 1), ("corpus_row", 2)):
        corpus = of(tmp_path, table, id=None, columns=(column,))
        ((file, footer),) = corpus.footers(corpus.files())
        assert isinstance(footer, Footer)
        ((some,),) = [corpus.reader.slices(file.directory, unit) for unit in corpus.units(file, footer)]
        assert some.table.to_pydict() == {"corpus_row": [value]}


def test_a_scorer_can_have_the_id_column(tmp_path: Path) -> None:
    found = documents(of(tmp_path, pa.table({"text": ["a"], "uid": ["x"]}), id="uid"), extra=("uid", "text", "id"))
    assert found["uid"].to_pylist() == found["id"].to_pylist() == ["x"]


def damage(path: Path, column: str) -> None:
    """Overwrite the pages of a column in the second row group."""
    leaf = next(
        leaf
        for leaf in (pq.read_metadata(path).row_group(1).column(i) for i in range(pq.read_metadata(path).num_columns))
        if leaf.path_in_schema.split(".")[0] == column
    )
    data = bytearray(path.read_bytes())
    data[leaf.data_page_offset : leaf.data_page_offset + leaf.total_compressed_size] = bytes(leaf.total_compressed_size)
    path.write_bytes(data)


IDS = {
    "string": [f"d{i}" for i in range(6)],
    "integer": pa.array(range(10, 16), pa.int64()),
    "none": None,
}
MORE = {
    "list": [[i] for i in range(6)],
    "struct": [{"x": {"y": str(i)}} for i in range(6)],
    "category": pa.array(list("ababab")).dictionary_encode(),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("column", ["text", "id", "list"])
def test_documents_in_damaged_pages_go_to_quarantine(tmp_path: Path, kind: str, column: str) -> None:
    if column == "id" and kind == "none":
        column = "struct"
    named = {} if IDS[kind] is None else {"id": IDS[kind]}
    table = pa.table({"text": [f"text {i}" for i in range(6)], **named, **MORE})
    path = write(tmp_path / "a.parquet", table, row_group_size=3, compression="zstd", use_dictionary=False)
    damage(path, column)
    settings: dict[str, Any] = {"id": "id" if named else None, "unit_bytes": 1}
    with pytest.raises(InputError, match="truncated or damaged Parquet"):
        documents(Corpus(str(path), **settings), extra=None)
    corpus = Corpus(str(path), unreadable="quarantine", **settings)
    found = documents(corpus, extra=None)
    assert contract("corpus").check(found, "here").num_rows == 6
    assert found["row"].to_pylist() == list(range(6))
    problems = found["problem"].to_pylist()
    assert problems[:3] == [None] * 3
    assert all(problem.startswith("the file can't be read here: ") for problem in problems[3:])
    assert str(tmp_path) not in str(problems)
    assert found["list"].to_pylist() == [[0], [1], [2], None, None, None]
    assert [found.schema.field(name).type for name in MORE] == [
        travelling(table.schema.field(name).type) for name in MORE
    ]
    lost = column in ("text", "id")
    # Where only others are damaged, stages that don't read these had the text.
    assert found["text"].to_pylist() == [f"text {i}" if i < 3 or not lost else None for i in range(6)]
    ids = {"string": list(IDS["string"]), "integer": list(range(10, 16)), "none": []}[kind]
    if not named or (lost and kind == "string"):
        ids[3 if named else 0 :] = [f"a.parquet:{i}" for i in range(3 if named else 0, 6)]
    elif lost:
        ids[3:] = [0, 0, 0]
    assert found["id"].to_pylist() == ids
    # Without the other columns, each stage sees the same texts.
    assert documents(corpus).select(["id", "text"]) == found.select(["id", "text"])
    assert documents(corpus)["problem"].null_count == (3 if lost else 6)


def test_a_unit_whose_reader_ends_its_process_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"id": list(range(6)), "text": [f"text {i}" for i in range(6)], "n": list(range(6))})
    corpus = of(tmp_path, table, unreadable="quarantine")
    directory = Directory.at(tmp_path / "notes")
    directory.create()
    (unit,) = open_source(corpus, directory).units()
    own = lineages(graph([corpus]))[corpus]
    put_refusal(directory.child(corpus.dataset), Refusal(unit.shard, 4, file_identity(file_rows(unit)), own))
    (noted,) = open_source(corpus, Directory.at(tmp_path / "out"), refused_by=[own], notes=directory).units()
    assert noted.identity != unit.identity and file_rows(noted).unreadable and not file_rows(unit).unreadable
    monkeypatch.setattr(RowReader, "read", lambda *where: pytest.fail("it was read"))
    found = corpus.reader.documents(directory, noted, extra=["n"])
    assert found["text"].null_count == found["n"].null_count == 6 and found["id"].to_pylist() == [0] * 6
    assert set(found["problem"].to_pylist()) == {"the file can't be read here: a process that reads it ends, each time"}
    (whole,) = corpus.reader.slices(directory, noted)
    assert whole.rows == range(6) and whole.problem.null_count == 0
    assert corpus.crashed(noted) is None
    error = of(tmp_path, table).crashed(noted)
    assert error is not None and "a.parquet, rows 0 to 5 can't be read" in error.message


def test_damaged_ids_are_no_ids(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        pa.table({"text": list("abcdef"), "id": list("uvwxyz")}),
        row_group_size=3,
        compression="zstd",
        use_dictionary=False,
    )
    damage(path, "id")
    corpus = Corpus(str(path), unreadable="quarantine", unit_bytes=1)
    ((file, footer),) = corpus.footers(corpus.files())
    assert isinstance(footer, Footer)
    named = [corpus.reader.named(file.directory, unit) for unit in corpus.units(file, footer)]
    assert pa.concat_tables(named).to_pylist() == [{"row": i, "id": "uvw"[i]} for i in range(3)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n": ["x"]}, "column 'n' is string, expected int64"),
        ({}, "column 'n' is no such column, expected int64"),
        ({"n": [1], "m": [1]}, "column 'm' is int64, expected no such column"),
        ({"n": [1], "id": [1]}, "column 'id' is int64, expected string"),
    ],
)
def test_files_that_differ_are_named_with_column_and_types(
    tmp_path: Path, other: dict[str, list[Any]], message: str
) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": ["a"], "id": ["x"], "n": [1]}))
    write(tmp_path / "b.parquet", pa.table({"text": ["b"], "id": ["x"], **other}))
    with pytest.raises(InputError, match=rf"/b\.parquet differs from .*/a\.parquet: {message}"):
        documents(Corpus(str(tmp_path)))
    if "id" not in other:
        assert documents(Corpus(str(tmp_path), columns=())).num_rows == 2


def test_files_may_differ_in_how_they_hold_strings_and_integers(tmp_path: Path) -> None:
    write(
        tmp_path / "a.parquet", pa.table({"text": pa.array(["a"], pa.large_string()), "id": pa.array([1], pa.int8())})
    )
    write(tmp_path / "b.parquet", pa.table({"text": pa.array(["b"]).dictionary_encode(), "id": [1 << 40]}))
    assert documents(Corpus(str(tmp_path)))["id"].to_pylist() == [1, 1 << 40]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "content"}, "has no column 'content'; it has: text, n"),
        ({"id": "uid"}, "has no column 'uid'; it has: text, n"),
        ({"id": None, "columns": ("m",)}, "has no column 'm'; it has: text, n"),
    ],
)
def test_a_missing_column_is_an_error_that_names_those_there_are(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        documents(of(tmp_path, pa.table({"text": ["a"], "n": [1]}), **settings))


@pytest.mark.parametrize("table", [{"text": pa.array([], pa.string())}, {"text": pa.array([], pa.large_string())}])
def test_a_corpus_without_rows_is_an_error(tmp_path: Path, table: dict[str, pa.Array]) -> None:
    corpus = of(tmp_path, pa.table(table), id=None)
    with pytest.raises(InputError, match=r"a\.parquet has no rows in 1 file"):
        open_source(corpus, Directory.at(tmp_path / "out"))


def test_files_without_rows_among_others_are_passed(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": pa.array([], pa.string())}))
    write(tmp_path / "b.parquet", pa.table({"text": ["b"]}))
    corpus = Corpus(str(tmp_path / "*.parquet"), id=None)
    dataset = open_source(corpus, Directory.at(tmp_path / "out"))
    assert dataset.manifest is not None
    assert [unit.shard for unit in read_units(dataset.directory, dataset.manifest)] == ["b.parquet"]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no Parquet at all", "truncated"])
def test_an_unreadable_file_stops_the_run_or_is_passed_over(tmp_path: Path, data: bytes | str) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": ["a", "b"]}))
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20] if isinstance(data, str) else data)
    write(tmp_path / "c.parquet", pa.table({"text": ["c"]}))
    path, out = str(tmp_path / "*.parquet"), Directory.at(tmp_path / "out")
    corpus = Corpus(path, id=None)
    with pytest.raises(InputError, match=r"b\.parquet is"):
        open_source(corpus, out)
    corpus = Corpus(path, id=None, unreadable="quarantine")
    manifest = open_source(corpus, out).manifest
    assert manifest is not None
    assert dict(manifest.counts) == {"documents": 3, "unreadable_files": 1}
    assert any(note.startswith("unreadable: b.parquet: ") for note in manifest.notes)
    assert str(tmp_path) not in manifest.to_bytes().decode()
    (remark,) = corpus.remarks(manifest)
    assert remark.startswith("1 file can't be read and was passed over, e.g. b.parquet: ")


def test_a_file_that_is_passed_over_makes_another_dataset(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": ["a"]}))
    corpus = Corpus(str(tmp_path / "*.parquet"), id=None, unreadable="quarantine")
    whole = commit(corpus, tmp_path)
    assert corpus.remarks(whole) == []
    for name in ("b", "c"):
        (tmp_path / f"{name}.parquet").write_bytes(b"broken")
    broken = commit(corpus, tmp_path)
    assert dict(broken.counts) == {"documents": 1, "unreadable_files": 2}
    assert broken.fingerprint != whole.fingerprint
    (remark,) = corpus.remarks(broken)
    assert remark == (
        "2 files can't be read and were passed over, "
        "e.g. b.parquet: not Parquet: it has 6 bytes and starts with b'brok'"
    )


def test_only_unreadable_files_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    corpus = Corpus(str(tmp_path / "*.parquet"), unreadable="quarantine")
    with pytest.raises(InputError, match="no rows in 1 file, 1 of them unreadable"):
        open_source(corpus, Directory.at(tmp_path / "out"))


def test_a_wrong_schema_is_never_passed_over(tmp_path: Path) -> None:
    corpus = of(tmp_path, pa.table({"content": ["a"]}), unreadable="quarantine")
    with pytest.raises(InputError, match="has no column 'text'"):
        documents(corpus)


def test_a_file_that_changes_after_it_was_planned_is_an_error(tmp_path: Path) -> None:
    corpus = of(tmp_path, pa.table({"text": ["a"]}), id=None)
    ((file, footer),) = corpus.footers(corpus.files())
    assert isinstance(footer, Footer)
    (unit,) = corpus.units(file, footer)
    write(tmp_path / "a.parquet", pa.table({"text": ["b"]}))
    with pytest.raises(InputError, match="changed while it was being read"):
        corpus.read(file.directory, unit)


def test_units_of_a_row_group_are_read_together_and_tile_the_corpus(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i:0100}" for i in range(1000)]})
    write(tmp_path / "a.parquet", table, row_group_size=1000, use_dictionary=False)
    write(tmp_path / "b.parquet", table, row_group_size=10, use_dictionary=False)
    corpus = Corpus(str(tmp_path / "*.parquet"), id=None, unit_bytes=10_000)
    footers = dict(corpus.footers(corpus.files()))
    units = [
        unit for file, footer in footers.items() if isinstance(footer, Footer) for unit in corpus.units(file, footer)
    ]
    assert {(unit.shard, file_rows(unit).group) for unit in units} == {("a.parquet", 0), ("b.parquet", None)}
    assert len(units) > 15
    found = documents(corpus)
    assert found["text"].to_pylist() == table["text"].to_pylist() * 2
    assert found["row"].to_pylist() == list(range(1000)) * 2


def test_the_ids_alone_can_be_read(tmp_path: Path) -> None:
    corpus = of(tmp_path, pa.table({"text": ["a", "b", "c"], "id": ["x", None, "z"]}))
    ((file, footer),) = corpus.footers(corpus.files())
    assert isinstance(footer, Footer)
    (unit,) = corpus.units(file, footer)
    assert corpus.reader.named(file.directory, unit).to_pylist() == [{"row": 0, "id": "x"}, {"row": 2, "id": "z"}]


def test_where_a_corpus_lies_is_not_in_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = Corpus("data/*.parquet")
    assert corpus.path == str(tmp_path / "data/*.parquet")
    assert corpus.recipe == Corpus("s3://bucket/elsewhere/*.parquet").recipe
    assert corpus.recipe != Corpus("data/*.parquet", unit_bytes=1).recipe


@pytest.mark.parametrize("settings", [{"unit_bytes": 0}, {"ids": "some"}, {"unreadable": "ignore"}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(settings.values())))):
        Corpus("a.parquet", **settings)
