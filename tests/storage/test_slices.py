"""Parts that are written once and read in slices, a slice for each partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import StorageError
from annotate.storage import slices
from annotate.storage.contracts import contract
from annotate.storage.slices import _index, by_partition, put_slices, read_slice, slice_checksum, slice_index
from annotate.storage.store import Directory

SCHEMA = "sent-links"


def links(to: list[int], start: int = 0) -> pa.Table:
    numbers = pa.array(np.arange(start, start + len(to), dtype=np.uint64))
    return pa.table([pa.array(to, pa.int32()), numbers, numbers], schema=contract(SCHEMA).schema)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=4))
def test_each_partition_gets_its_rows_in_order(tmp_path_factory: pytest.TempPathFactory, sent: list[list[int]]) -> None:
    folder = Directory.at(tmp_path_factory.mktemp("slices"))
    tables = [links(to, 10 * i) for i, to in enumerate(sent)]
    entry = put_slices(folder, "k", [by_partition(table) for table in tables], schema=SCHEMA)
    whole = pa.concat_tables(tables)
    assert entry.part.rows == whole.num_rows
    for partition in range(6):
        found = read_slice(folder, entry.part, partition, schema=SCHEMA)
        expected = whole.filter(pa.array(whole["to"].to_numpy() == partition))
        assert found.equals(expected)


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    parts = []
    for name in ("one", "two"):
        tables = [by_partition(links([3, 1, 2])), by_partition(links([1, 3, 0], 3))]
        parts.append(put_slices(Directory.at(tmp_path / name), "k", tables, schema=SCHEMA).part)
    assert parts[0] == parts[1]
    assert (tmp_path / "one" / parts[0].path).read_bytes() == (tmp_path / "two" / parts[1].path).read_bytes()


def test_the_checksum_of_a_slice_is_of_its_rows_alone(tmp_path: Path) -> None:
    """So a partition keeps its unit when rows for its neighbours change."""
    folder, sums = Directory.at(tmp_path), set()
    for to in ([0, 1], [0, 2], [0, 1, 1], [0]):
        part = put_slices(folder, "k", [by_partition(links(to))], schema=SCHEMA).part
        sums.add(slice_checksum(slice_index(folder, part, range(1)), 0))
    assert len(sums) == 1


def test_the_schema_of_a_contract_is_not_said_another_one_is(tmp_path: Path) -> None:
    """So parts are those of versions before, and what nothing was sent to is known by its columns too."""
    folder, sums = Directory.at(tmp_path), []
    plain = put_slices(folder, "k", [by_partition(links([0]))], schema=SCHEMA)
    assert not _index(folder, plain.part).schema.metadata
    for name in ("a", "b"):
        document = pa.StructArray.from_arrays([pa.array(["x"])], names=[name])
        sent = pa.table({"to": pa.array([0], pa.int32()), "time": [0.5], "document": document})
        part = put_slices(folder, name, [sent], schema="sent-documents").part
        assert read_slice(folder, part, 1, schema="sent-documents").schema == sent.schema
        sums.append(slice_checksum(slice_index(folder, part, range(1, 2)), 1))
    assert sums[0] != sums[1]


@pytest.mark.slow
def test_any_damage_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)
    entry = put_slices(folder, "k", [by_partition(links([0, 1] * 20))], schema=SCHEMA)
    path = tmp_path / entry.part.path
    whole = path.read_bytes()

    def damaged(data: bytes) -> bool:
        """Whether a slice is an error; else each is what it was."""
        _index.cache_clear()
        path.write_bytes(data)
        try:
            found = [read_slice(folder, entry.part, partition, schema=SCHEMA) for partition in range(3)]
        except StorageError as error:
            assert str(path) in str(error)
            return True
        assert [table.num_rows for table in found] == [20, 20, 0]
        return False

    assert not damaged(whole)
    path.write_bytes(whole[: len(whole) // 8])  # while its index is known
    with pytest.raises(StorageError, match="missing or truncated") as caught:
        read_slice(folder, entry.part, 0, schema=SCHEMA)
    assert caught.value.hint is not None
    for at in range(len(whole)):
        assert damaged(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]), at
    for length in (0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1):
        assert damaged(whole[:length])
    assert not damaged(whole + b"\0")  # nothing that is read has changed
    path.unlink()
    _index.cache_clear()
    with pytest.raises(StorageError, match="missing"):
        read_slice(folder, entry.part, 0, schema=SCHEMA)


def test_an_index_longer_than_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Directory.at(tmp_path)
    entry = put_slices(folder, "k", [by_partition(links(list(range(500))))], schema=SCHEMA)
    monkeypatch.setattr(slices, "_TAIL", 100)
    _index.cache_clear()
    assert read_slice(folder, entry.part, 499, schema=SCHEMA)["a"].to_pylist() == [499]
