"""Chunks as one array: equal values, and no copy where there is one chunk."""

import pyarrow as pa
import pytest

from annotate.text.arrays import large_string, lists_by_row, one_array


def address(array: pa.Array) -> int:
    return array.buffers()[-1].address


def test_one_chunk_is_not_copied() -> None:
    array = pa.array(["a", None, "bc"], pa.large_string())
    for column in (array, pa.chunked_array([array])):
        assert address(one_array(column)) == address(large_string(column)) == address(array)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_chunks_of_any_kind_of_text(kind: pa.DataType) -> None:
    column = pa.chunked_array([pa.array(["a", None], pa.string()).cast(kind), pa.array(["bc"], pa.string()).cast(kind)])
    found = large_string(column)
    assert found.type == pa.large_string() and found.to_pylist() == ["a", None, "bc"]
    assert large_string(pa.chunked_array([], kind)).to_pylist() == []
    assert one_array(pa.chunked_array([[1], [2, 3]])).to_pylist() == [1, 2, 3]


def test_lines_become_lists_of_their_rows() -> None:
    table = pa.table({"a": pa.chunked_array([["x"], ["y", "z"]]), "row": [0, 2, 2], "b": [1, 2, 3]})
    assert lists_by_row(table, 4).to_pylist() == [
        [{"a": "x", "b": 1}],
        [],
        [{"a": "y", "b": 2}, {"a": "z", "b": 3}],
        [],
    ]
    assert lists_by_row(table.slice(0, 0), 2).to_pylist() == [[], []]
