"""Files that are one corpus to their owner: a column has one type in all, whatever the order and the limit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.corpus.column_types import types_told
from annotate.engine.datasets import Dataset
from annotate.engine.source import open_source
from annotate.errors import InputError
from annotate.stages.corpus import Corpus
from annotate.stages.split import Split
from annotate.storage.store import Directory


def write(path: Path, kind: pa.DataType | None = None, values: Any = ("x", None), **columns: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    more = {"more": pa.array(values, kind)} if values is not None else {}
    pq.write_table(
        pa.table({"text": ["one", "two"], "id": [f"{path.stem}1", f"{path.stem}2"], **more, **columns}), path
    )


def opened(folder: Path, limit: int | None = None, **settings: Any) -> tuple[Corpus, Dataset]:
    corpus = Corpus(str(folder), **settings)
    return corpus, open_source(corpus, Directory.at(folder.with_name("work")), limit=limit)


def read(corpus: Corpus, dataset: Dataset) -> pa.Table:
    work = Directory.at(Path(dataset.directory.url).parent)
    return pa.concat_tables(
        [corpus.reader.documents(work, unit, extra=corpus.reader.travelling(work, unit)) for unit in dataset.units()]
    )


def test_strings_of_any_layout_and_nulls_are_one_type(tmp_path: Path) -> None:
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    for i, kind in enumerate(kinds):
        plain = pa.array(["x", None])
        write(tmp_path / "c" / f"{i}.parquet", values=plain if kind == pa.string() else plain.cast(kind))
    write(tmp_path / "c" / "null.parquet", pa.null(), [None, None])
    pl.DataFrame({"more": ["x", None], "text": ["one", "two"], "id": ["p1", "p2"]}).write_parquet(
        tmp_path / "c" / "polars.parquet"
    )
    corpus, dataset = opened(tmp_path / "c")
    found = read(corpus, dataset)
    assert found.schema.field("more").type == pa.large_string()
    assert found["more"].to_pylist() == ["x", None] * 4 + [None, None] + ["x", None]
    told = {unit.shard: dict(types_told(unit)) for unit in dataset.units()}
    assert {shard for shard, types in told.items() if types} == {"null.parquet"}  # layouts are one type by themselves


def test_text_and_ids_of_any_layout_go_together(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for i, kind in enumerate(
        [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    ):
        texts = pa.array(["one", "two"]).cast(kind)
        pq.write_table(pa.table({"text": texts, "id": texts}), tmp_path / "c" / f"{i}.parquet")
    nulls = pa.nulls(2)
    pq.write_table(pa.table({"text": nulls, "id": nulls}), tmp_path / "c" / "4.parquet")
    found = read(*opened(tmp_path / "c"))
    assert found["text"].to_pylist() == ["one", "two"] * 4 + [None, None]
    assert found["id"].to_pylist() == ["one", "two"] * 4 + ["4.parquet:0", "4.parquet:1"]
    assert found["problem"].to_pylist() == [None] * 8 + ["the text is null"] * 2


def test_neither_the_order_of_files_nor_the_limit_changes_types(tmp_path: Path) -> None:
    kinds = [pa.int32(), pa.uint8(), pa.int64(), pa.null()]
    said = set()
    for i, order in enumerate(itertools.permutations(kinds)):
        folder = tmp_path / f"{i}" / "c"
        folder.parent.mkdir()
        for name, kind in zip("abcd", order, strict=True):
            write(folder / f"{name}.parquet", kind, [None if pa.types.is_null(kind) else 7, None])
        for limit in (None, 1, 3):
            corpus, dataset = opened(folder, limit)
            assert read(corpus, dataset).schema.field("more").type == pa.int64()
        assert dataset.manifest is not None
        remarks = corpus.remarks(dataset.manifest)
        said |= {remark.partition(",")[0] for remark in remarks if not remark.startswith("--limit")}
    assert said == {"the column 'more' travels as int64"}


def test_a_remark_says_how_many_files_have_a_column_as_which_type(tmp_path: Path) -> None:
    kinds = {"a": pa.int32(), "b": pa.uint8(), "c": pa.int32(), "d": pa.int64(), "e": pa.int64(), "f": pa.int32()}
    for name, kind in {**kinds, "g": pa.int8()}.items():
        write(tmp_path / "c" / f"{name}.parquet", kind, [7, None])
    corpus, dataset = opened(tmp_path / "c")
    assert dataset.manifest is not None
    assert corpus.remarks(dataset.manifest) == [
        "the column 'more' travels as int64, because its type differs between the files: int32 in 3 files, such as "
        "a.parquet; int64 in 2 files, such as d.parquet; uint8 in 1 file, such as b.parquet; other types in 1 file"
    ]


def test_a_corpus_that_grows_by_another_type_makes_only_what_holds_the_column_again(tmp_path: Path) -> None:
    write(tmp_path / "c" / "a.parquet", pa.int32(), [1, 2], other=[1, 2])
    corpus, dataset = opened(tmp_path / "c")
    [before] = dataset.units()
    write(tmp_path / "c" / "b.parquet", pa.int32(), [1, 2], other=[1, 2])
    assert next(opened(tmp_path / "c")[1].units()) == before
    write(tmp_path / "c" / "c.parquet", pa.int64(), [1, 2], other=[1, 2])
    corpus, grown = opened(tmp_path / "c")
    after, _, last = grown.units()
    # Spans and scores stay: they are made of the text. A stage that reads the column, and shards, have other names.
    types = Split(corpus).types_read
    assert after.identity_for(types) == before.identity_for(types)
    assert after.identity_for(("other",)) == before.identity
    assert after.identity_for(("more",)) != before.identity
    assert after.identity_for(None) != before.identity
    assert last.identity_for(None) == last.identity
    assert dataset.fingerprint != grown.fingerprint
    assert read(corpus, grown).schema.field("more").type == pa.int64()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.float64()),
        (pa.uint64(), pa.int8()),
        (pa.string(), pa.int64()),
        (pa.timestamp("us"), pa.timestamp("ns")),
        (pa.timestamp("us", "UTC"), pa.timestamp("us")),
    ],
    ids=str,
)
def test_what_no_type_holds_is_refused_with_both_files_and_the_remedy(
    tmp_path: Path, one: pa.DataType, other: pa.DataType
) -> None:
    write(tmp_path / "c" / "a.parquet", one, [None, None])
    write(tmp_path / "c" / "b.parquet", pa.null(), [None, None])
    write(tmp_path / "c" / "c.parquet", other, [None, None])
    with pytest.raises(InputError, match=r"/c\.parquet differs from .*/a\.parquet: column 'more' is ") as found:
        opened(tmp_path / "c")
    assert f"is {other}, expected {one}" in found.value.message and "columns=" in str(found.value)
    assert read(*opened(tmp_path / "c", columns=())).num_rows == 6


def test_names_with_dots_cases_and_nothing(tmp_path: Path) -> None:
    columns = {"a.b": [1, 2], "a": [{"b": "x"}, {"b": "y"}], "A": [3, 4], "": [5, 6], "spaß": [7, 8]}
    write(tmp_path / "c" / "a.parquet", values=None, **columns)
    found = read(*opened(tmp_path / "c"))
    assert {name: found[name].to_pylist() for name in columns} == columns


def test_nullability_and_notes_of_fields_are_no_difference(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for name, field in (
        ("a", pa.field("more", pa.struct([pa.field("n", pa.int8(), nullable=False)]), nullable=False)),
        ("b", pa.field("more", pa.struct([pa.field("n", pa.int8(), metadata={"a": "b"})]), metadata={"x": "y"})),
    ):
        schema = pa.schema([("text", pa.string()), ("id", pa.string()), field])
        data = {"text": ["one"], "id": [name], "more": [{"n": 1}]}
        pq.write_table(pa.Table.from_pydict(data, schema), tmp_path / "c" / f"{name}.parquet")
    assert read(*opened(tmp_path / "c"))["more"].to_pylist() == [{"n": 1}] * 2


def test_a_file_without_rows_has_a_say_in_types(tmp_path: Path) -> None:
    write(tmp_path / "c" / "a.parquet", pa.int8(), [1, 2])
    schema = pa.schema([("text", pa.string()), ("id", pa.string()), ("more", pa.int64())])
    pq.write_table(schema.empty_table(), tmp_path / "c" / "b.parquet")
    assert read(*opened(tmp_path / "c")).schema.field("more").type == pa.int64()


def test_what_int96_may_cut_is_said(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    table = pa.table({"text": ["one"], "id": ["a"], "seen": pa.array([0], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "c" / "a.parquet", use_deprecated_int96_timestamps=True)
    corpus, dataset = opened(tmp_path / "c")
    assert dataset.manifest is not None
    assert corpus.remarks(dataset.manifest) == [
        "the column 'seen' has timestamps of the type INT96: they travel in microseconds, anything finer is cut"
    ]
    corpus, dataset = opened(tmp_path / "c", columns=())
    assert dataset.manifest is not None and corpus.remarks(dataset.manifest) == []
