"""Parts that are written once and read in slices, a slice for each partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import StorageError
from annotate.storage.contracts import contract
from annotate.storage.slices import by_partition, commit_slices, read_slice
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
    entry = commit_slices(folder, "k", [by_partition(table) for table in tables], schema=SCHEMA)
    whole = pa.concat_tables(tables)
    assert entry.part.rows == whole.num_rows
    for partition in range(6):
        found = read_slice(folder, entry.part, partition, schema=SCHEMA)
        expected = whole.filter(pa.array(whole["to"].to_numpy() == partition))
        assert found.equals(expected)


def test_equal_rows_give_equal_bytes_however_they_came(tmp_path: Path) -> None:
    to = [3, 1, 2, 1, 3, 0]
    one = commit_slices(Directory.at(tmp_path / "one"), "k", [by_partition(links(to))], schema=SCHEMA)
    cut = [by_partition(links(to[:2])), by_partition(links(to[2:], 2))]
    two = commit_slices(Directory.at(tmp_path / "two"), "k", cut, schema=SCHEMA)
    assert one.part == two.part


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    folder = Directory.at(tmp_path)
    entry = commit_slices(folder, "k", [by_partition(links([0, 1] * 500))], schema=SCHEMA)
    path = tmp_path / entry.part.path
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "flipped":
        data[100] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(StorageError, match=entry.part.path):
        read_slice(folder, entry.part, 0, schema=SCHEMA)
