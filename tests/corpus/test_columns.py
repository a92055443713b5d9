"""Every Arrow type travels, with equal values that pyarrow and Polars can read, or is refused by its name."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import lib

from annotate.corpus.arrow_types import UnsupportedType, converted, malformed, one_type, travelling, without
from annotate.engine.source import open_source
from annotate.errors import InputError
from annotate.stages.corpus import Corpus
from annotate.stages.shared.tables import packed
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput, commit
from annotate.storage.slice_reader import Slices
from annotate.storage.slices import by_partition, put_slices
from annotate.storage.store import Directory

WHEN = dt.datetime(2024, 5, 6, 7, 8, 9)
DAYS = [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]
TIMES = [dt.time(1, 2, 3), None, dt.time(0)]
SPANS = [dt.timedelta(seconds=5), None, dt.timedelta(days=-3)]
TEXTS = ["a", None, "é" * 20]
LISTS = [[1, None], None, []]
NESTED = [["a", None], None, []]


def zoned(unit: str, zone: str | None) -> tuple[pa.DataType, list[Any]]:
    tz = None if zone is None else dt.UTC
    return pa.timestamp(unit, zone), [WHEN.replace(tzinfo=tz), None, dt.datetime(1900, 1, 1, tzinfo=tz)]


def samples() -> list[tuple[pa.DataType, list[Any]]]:
    """Types with values of each: of all that pyarrow has, in several forms where they matter."""
    whole = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
    found: list[tuple[pa.DataType, list[Any]]] = [
        (pa.null(), [None] * 3),
        (pa.bool_(), [True, None, False]),
        *((kind, [100, None, 0]) for kind in whole),
        (pa.uint64(), [(1 << 64) - 1, None, 0]),
        *((kind, [1.5, None, -0.0]) for kind in (pa.float16(), pa.float32(), pa.float64())),
        *((kind, TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())),
        *((kind, [b"\xff", None, b"x" * 20]) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
        (pa.binary(3), [b"abc", None, b"\xff\0a"]),
        (pa.date32(), DAYS),
        (pa.date64(), DAYS),
        *((kind, TIMES) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))),
        *(zoned(u, zone) for u in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Paris", "+05:30")),
        *((pa.duration(unit), SPANS) for unit in ("s", "ms", "us", "ns")),
        *(
            (kind, [decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")])
            for kind in (pa.decimal32(7, 2), pa.decimal64(15, 2), pa.decimal128(38, 2), pa.decimal256(38, 2))
        ),
        *((kind, LISTS) for kind in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_view(pa.int8()))),
        *((kind, NESTED) for kind in (pa.list_(pa.string_view()), pa.large_list_view(pa.string()))),
        (pa.list_(pa.float32(), 2), [[1.0, None], None, [2.0, 3.0]]),
        (pa.list_(pa.list_(pa.string(), 1)), [[["a"], None], None, []]),
        (
            pa.struct([("a", pa.int8()), ("b.c", pa.string_view())]),
            [{"a": 1, "b.c": "x"}, None, {"a": None, "b.c": None}],
        ),
        (pa.struct([pa.field("a", pa.list_(pa.int8()), nullable=False)]), [{"a": [1]}, {"a": []}, {"a": [2]}]),
        (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None, [("b", None), ("c", 2)]]),
        (pa.map_(pa.string_view(), pa.list_(pa.string())), [[("a", ["b"])], None, []]),
        (pa.month_day_nano_interval(), [(1, 2, 3), None, (0, 0, 0)]),
    ]
    stored = [
        (pa.uuid(), [uuid.UUID(int=7).bytes, None, uuid.UUID(int=1 << 100).bytes]),
        (pa.bool8(), [1, None, 0]),
        (pa.json_(), ["{}", None, "[1]"]),
        (pa.json_(pa.string_view()), ["{}", None, "[1]"]),
        (pa.opaque(pa.binary(), "kind", "vendor"), [b"a", None, b"b"]),
        (pa.fixed_shape_tensor(pa.float32(), [2]), [[1, 2], None, [3, 4]]),
    ]
    return [*found, *((kind, values) for kind, values in stored)]


def made() -> list[pa.Array]:
    """The samples as arrays, and those that no list of values gives."""
    arrays = []
    for kind, values in samples():
        if isinstance(kind, pa.BaseExtensionType):
            arrays.append(pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type)))
        else:
            arrays.append(pa.array(values, kind))
    few = pa.array([0, None, 1], pa.int8())
    dictionaries = (pa.array(["a", "b"]), pa.array(["a", "b"], pa.large_string()), pa.array([5, 6]))
    arrays += [pa.DictionaryArray.from_arrays(few, values) for values in dictionaries]
    arrays.append(pa.array(TEXTS).dictionary_encode())
    arrays.append(pa.ListArray.from_arrays([0, 2, 2, 3], arrays[-4]))
    arrays.append(pc.run_end_encode(pa.array(["a", None, "a"])))
    tags, places = pa.array([0, 0, 1], pa.int8()), pa.array([0, 1, 0], pa.int32())
    arrays.append(pa.UnionArray.from_dense(tags, places, [pa.array([1, 2]), pa.array(["x"])]))
    arrays.append(pa.UnionArray.from_sparse(tags, [pa.array([1, 2, 3]), pa.array(["x", "y", "z"])]))
    arrays.append(pa.array([{}, None, {}], pa.struct([])))
    arrays.append(pa.array([1, None, 3], pa.decimal256(60, 2)))
    return arrays


MADE = made()
NAMES = [f"{i}-{array.type}" for i, array in enumerate(MADE)]
REFUSED = {
    "month_day_nano_interval": "the type month_day_nano_interval is one that can't be written to Parquet",
    "run_end_encoded<run_ends: int32, values: string>": "can't be written to Parquet",
    "dense_union<0: int64=0, 1: string=1>": "can't be written to Parquet",
    "sparse_union<0: int64=0, 1: string=1>": "can't be written to Parquet",
    "struct<>": "an object without fields can't be written to Parquet",
    "decimal256(60, 2)": "Polars could not read the type .*, of more than 38 digits",
}


def test_all_types_of_pyarrow_are_looked_at() -> None:
    """One that a new version has fails here until its fate is decided."""
    ids = {getattr(lib, name): name for name in dir(lib) if name.startswith("Type_")}
    seen = {array.type.id for array in MADE}
    # Intervals of months, and of days and milliseconds, can't be made in Python.
    assert {name for id, name in ids.items() if id not in seen} <= {"Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME"}
    extensions = {kind for kind in vars(lib).values() if isinstance(kind, type) and kind.__module__ == "pyarrow.lib"}
    extensions = {kind for kind in extensions if issubclass(kind, pa.BaseExtensionType)}
    users = {"BaseExtensionType", "ExtensionType", "UnknownExtensionType", "PyExtensionType"}
    assert {kind.__name__ for kind in extensions} - users == {
        type(array.type).__name__ for array in MADE if isinstance(array.type, pa.BaseExtensionType)
    }


@pytest.mark.parametrize("array", MADE, ids=NAMES)
def test_a_type_travels_with_equal_values_or_is_refused_by_name(array: pa.Array, tmp_path: Path) -> None:
    """As shards do it: read, filtered, sent in slices, taken in another order, written."""
    if str(array.type) in REFUSED:
        with pytest.raises(UnsupportedType, match=REFUSED[str(array.type)]):
            travelling(array.type)
        return
    kind = travelling(array.type)
    assert travelling(kind) == kind
    assert converted(array, kind).to_pylist() == array.to_pylist()
    assert one_type(kind, pa.null()) == one_type(pa.null(), kind) == one_type(kind, kind) == kind
    table = pa.table({"text": ["one", "two", "three"], "id": ["a", "b", "c"], "x": array})
    # The writer can't cut views, and reads no part of a row group.
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3 if "view" in str(array.type) else 2)
    corpus = Corpus(str(tmp_path / "a.parquet"), unit_bytes=1)
    work = Directory.at(tmp_path / "work")
    units = list(open_source(corpus, work).units())
    assert len(units) == 3
    found = pa.concat_tables(
        [corpus.reader.documents(work, unit, extra=corpus.reader.travelling(work, unit)) for unit in units]
    )
    assert found["problem"].null_count == 3
    values = pq.read_table(tmp_path / "a.parquet")["x"].to_pylist()
    assert values == array.to_pylist()  # but for what Parquet itself has not, such as nanoseconds of a second
    assert found["x"].to_pylist() == values
    assert found.slice(1)["x"].to_pylist() == values[1:]
    assert without(found["x"], np.array([True, False, False])).to_pylist() == [None, *values[1:]]
    twice = pa.concat_tables([found, found]).combine_chunks().filter(pa.array([True, True, True, False, True, True]))
    sent = pa.table({"to": pa.array([0, 1, 0, 1, 0], pa.int32()), "time": np.zeros(5), "document": packed(twice)})
    part = put_slices(work, "k", [by_partition(sent)], schema="sent-documents").part
    shard = pa.concat_tables([Slices(work, [part], range(2), schema="sent-documents").table(0, to) for to in (1, 0)])
    documents = pa.Table.from_struct_array(shard["document"]).take(pa.array([4, 0, 3, 1, 2]))
    placements = pa.array([[]] * 5, contract("text-shards").type_of("placements"))
    output = documents.drop_columns(["row", "problem"]).append_column("placements", placements)
    entry = commit(work, "u", UnitOutput(output), schema="text-shards")
    path = tmp_path / "work" / entry.part.path
    back = pq.read_table(path)
    assert back.schema.field("x").type == found.schema.field("x").type
    assert back["text"].to_pylist() == ["three", "two", "three", "two", "one"]
    assert back["x"].to_pylist() == [values[i] for i in (2, 1, 2, 1, 0)]
    frame = pl.read_parquet(path)["x"]
    if isinstance(array.type, pa.BaseExtensionType):
        assert frame.to_list() == back["x"].combine_chunks().storage.to_pylist()
    elif pa.types.is_map(kind):
        assert [None if v is None else dict(v) for v in frame.to_list()] == [
            None if v is None else dict(v) for v in back["x"].to_pylist()
        ]
    else:
        assert frame.to_list() == back["x"].to_pylist()


def test_a_dictionary_may_hold_null() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.uint64()), pa.array(["a", None], pa.string_view()))
    assert converted(array, travelling(array.type)).to_pylist() == ["a", None, None]


KINDS = sorted(
    {travelling(array.type) for array in MADE if str(array.type) not in REFUSED}
    | {pa.decimal128(20, 18), pa.struct([("b", pa.int16()), ("a", pa.int8())]), pa.struct([("a", pa.null())])}
    | {pa.list_(pa.int32(), 3), pa.large_list(pa.uint64()), pa.large_list(pa.null())},
    key=str,
)


def test_the_order_of_files_does_not_matter() -> None:
    """A type for all of three files is the same in any order, or there is none in any."""
    joined = {(one, other): one_type(one, other) for one in KINDS for other in KINDS}
    assert all(kind == joined[other, one] for (one, other), kind in joined.items())
    for one, other, third in itertools.product(KINDS, repeat=3):
        left, right = joined[one, other], joined[other, third]
        found = None if left is None else one_type(left, third)
        assert found == (None if right is None else one_type(one, right)), (one, other, third)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_column_of_nulls_becomes_any_type(kind: pa.DataType) -> None:
    found = converted(pa.nulls(3), kind)
    assert found.type == kind and found.to_pylist() == [None] * 3


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MADE), st.sampled_from(MADE))
def test_values_are_equal_in_the_type_that_holds_both(one: pa.Array, other: pa.Array) -> None:
    if str(one.type) in REFUSED or str(other.type) in REFUSED:
        return
    joined = one_type(travelling(one.type), travelling(other.type))
    if joined is not None:
        for array in (one, other):
            found = converted(array, joined).to_pylist()
            expected = array.to_pylist()
            if pa.types.is_struct(array.type) and pa.types.is_struct(joined):
                missing = dict.fromkeys(field.name for field in joined)
                expected = [None if value is None else missing | value for value in expected]
            assert found == expected


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.uint64(), pa.int64(), None),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float64(), None),
        (pa.bool_(), pa.int8(), None),
        (pa.timestamp("us"), pa.timestamp("ns"), None),
        (pa.timestamp("us", "UTC"), pa.timestamp("us"), None),
        (pa.time32("ms"), pa.time64("us"), pa.time64("us")),
        (pa.decimal128(10, 2), pa.decimal128(12, 8), pa.decimal128(16, 8)),
        (pa.decimal128(38, 0), pa.decimal128(38, 10), None),
        (pa.large_list(pa.int8()), pa.list_(pa.int16(), 2), pa.large_list(pa.int16())),
        (pa.large_string(), pa.large_binary(), None),
        (
            pa.struct([("b", pa.int8()), ("a", pa.null())]),
            pa.struct([("c", pa.int8()), ("a", pa.large_string())]),
            pa.struct([("a", pa.large_string()), ("b", pa.int8()), ("c", pa.int8())]),
        ),
    ],
)
def test_which_types_are_one(one: pa.DataType, other: pa.DataType, joined: pa.DataType | None) -> None:
    assert one_type(one, other) == one_type(other, one) == joined


def invalid(values: pa.Array) -> pa.Array:
    """An array of strings of which those with a `!` are no UTF-8."""
    buffers = values.buffers()
    data = buffers[2].to_pybytes().replace(b"!", b"\xff")
    return pa.Array.from_buffers(values.type, len(values), [*buffers[:2], pa.py_buffer(data)])


def nested_with_invalid() -> dict[str, pa.Array]:
    """Columns of six rows: what is in the third and fifth is no UTF-8."""
    plain = invalid(pa.array(["a", "é", "!", None, "b!", "c"]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 3, 5, 6], pa.int32()), plain)
    return {
        "plain": plain,
        "large": invalid(pa.array(["a", "é", "!", None, "b!", "c"], pa.large_string())),
        "list": lists,
        "list in list": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4, 5, 6], pa.int32()), lists),
        "struct": pa.StructArray.from_arrays([pa.array(range(6)), plain], names=["n", "s"]),
        "struct of list": pa.StructArray.from_arrays([lists], names=["l"]),
        "fixed": pa.FixedSizeListArray.from_arrays(plain, 1),
        "map": pa.MapArray.from_arrays(pa.array(range(7), pa.int32()), pa.array(list("abcdef")), plain),
        "keys": pa.MapArray.from_arrays(
            pa.array([0, 1, 2, 3, 3, 4, 5], pa.int32()),
            invalid(pa.array(["a", "é", "!", "b!", "c"])),
            pa.array(range(5)),
        ),
        "dictionary": pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 2, None, 2, 0], pa.int8()), invalid(pa.array(["a", "b", "!"]))
        ),
        "list of dictionary": pa.ListArray.from_arrays(
            pa.array([0, 1, 2, 3, 3, 5, 6], pa.int32()),
            pa.DictionaryArray.from_arrays(
                pa.array([0, 1, 2, None, 2, 0], pa.int8()), invalid(pa.array(["a", "b", "!"]))
            ),
        ),
        "json": pa.ExtensionArray.from_storage(pa.json_(), plain),
    }


@pytest.mark.parametrize("name", nested_with_invalid())
def test_rows_with_strings_that_are_not_utf8_go_to_quarantine_by_column(tmp_path: Path, name: str) -> None:
    array = nested_with_invalid()[name]
    kind = travelling(array.type)
    assert malformed(converted(array, kind)).tolist() == [False, False, True, False, True, False]
    assert malformed(converted(array.slice(2, 3), kind)).tolist() == [True, False, True]
    table = pa.table({"text": [f"text {i}" for i in range(6)], "id": [str(i) for i in range(6)], "more": array})
    pq.write_table(table, tmp_path / "a.parquet")
    corpus = Corpus(str(tmp_path / "a.parquet"))
    work = Directory.at(tmp_path / "work")
    [unit] = open_source(corpus, work).units()
    if "dictionary" in name:  # which Arrow doesn't read
        with pytest.raises(
            InputError, match=r"a\.parquet has a dictionary of strings that are not valid UTF-8"
        ) as error:
            corpus.reader.documents(work, unit, extra=corpus.reader.travelling(work, unit))
        assert "damaged" not in str(error.value) and "remove" not in str(error.value)
        return
    found = corpus.reader.documents(work, unit, extra=corpus.reader.travelling(work, unit))
    reason = "the column 'more' holds a string that is not valid UTF-8"
    assert found["problem"].to_pylist() == [None, None, reason, None, reason, None]
    assert found["text"].null_count == 0  # others have read it
    pq.write_table(found, tmp_path / "shard.parquet")
    assert len(pl.read_parquet(tmp_path / "shard.parquet")) == 6
    assert corpus.read(work, unit)["problem"].null_count == 6


def test_an_id_that_is_not_utf8_is_a_bad_row_for_all_stages(tmp_path: Path) -> None:
    ids = invalid(pa.array(["a", "b!", "c"]))
    pq.write_table(pa.table({"text": ["one", "two", "three"], "id": ids}), tmp_path / "a.parquet")
    corpus = Corpus(str(tmp_path))
    work = Directory.at(tmp_path / "work")
    [unit] = open_source(corpus, work).units()
    found = corpus.read(work, unit)
    assert found["id"].to_pylist() == ["a", "a.parquet:1", "c"]
    assert found["problem"].to_pylist() == [None, "the column 'id' holds a string that is not valid UTF-8", None]
    assert corpus.reader.named(work, unit).to_pydict() == {"row": [0, 2], "id": ["a", "c"]}


def test_a_type_that_cannot_travel_is_refused_from_the_footer(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "id": ["a"], "n": pa.array([[1]], pa.list_(pa.decimal256(60, 2)))})
    pq.write_table(table, tmp_path / "a.parquet")
    corpus = Corpus(str(tmp_path))
    with pytest.raises(
        InputError, match=r"a\.parquet: column 'n' can't travel: Polars could not read the type"
    ) as found:
        open_source(corpus, Directory.at(tmp_path / "work"))
    assert "columns=" in str(found.value)
    without_it = Corpus(str(tmp_path), columns=())
    assert open_source(without_it, Directory.at(tmp_path / "work")).manifest is not None
