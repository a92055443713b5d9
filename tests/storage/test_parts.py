"""Commits: the first create wins, putting twice is harmless, and damage is found when a part is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.errors import StorageError
from annotate.storage.contracts import contract
from annotate.storage.parts import (
    Entry,
    UnitOutput,
    chain,
    commit,
    commit_all,
    commit_file,
    find_all,
    intact,
    put_output,
    read_entry,
    read_part,
)
from annotate.storage.store import Directory


def output(*ids: str, bad: int = 0) -> UnitOutput:
    table = pa.table(
        [list(ids), pa.array([2] * len(ids), pa.int64()), ["a:0"] * len(ids), ["a:1"] * len(ids)],
        schema=contract("repeated-ids").schema,
    )
    rows = [{"shard": "a", "row": row, "reason": "why"} for row in range(bad)]
    return UnitOutput(
        table, pa.Table.from_pylist(rows, schema=contract("quarantine").schema), {"n": len(ids)}, {"k": "v"}
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Directory:
    return Directory.at(tmp_path / "ids-1234")


def local(dataset: Directory, path: str) -> Path:
    assert dataset.local is not None
    return dataset.local / path


def test_what_is_committed_is_read_back(dataset: Directory) -> None:
    made = output("x", "y", bad=2)
    entry = commit(dataset, "key", made, schema="repeated-ids")
    assert read_entry(dataset, "key") == entry
    assert read_part(dataset, entry.part, schema="repeated-ids") == made.table
    assert entry.part.rows == 2
    assert (dict(entry.counts), dict(entry.notes)) == ({"n": 2}, {"k": "v"})
    assert entry.quarantine is not None
    assert read_part(dataset, entry.quarantine, schema="quarantine") == made.quarantine
    assert Entry.from_json(entry.to_json()) == entry


def test_without_bad_rows_there_is_no_quarantine_part(dataset: Directory) -> None:
    assert commit(dataset, "key", output("x"), schema="repeated-ids").quarantine is None
    assert list(dataset.sizes("quarantine")) == []


def test_committing_twice_changes_nothing(dataset: Directory) -> None:
    first = commit(dataset, "key", output("x", bad=1), schema="repeated-ids")
    before = sorted(dataset.sizes(""))
    assert commit(dataset, "key", output("x", bad=1), schema="repeated-ids") == first
    assert sorted(dataset.sizes("")) == before


def test_of_two_outputs_the_first_stands(dataset: Directory) -> None:
    first = commit(dataset, "key", output("x"), schema="repeated-ids")
    assert commit(dataset, "key", output("y"), schema="repeated-ids") == first
    assert read_part(dataset, first.part, schema="repeated-ids")["id"].to_pylist() == ["x"]


def test_of_writers_at_once_all_go_on_from_one(dataset: Directory) -> None:
    barrier = threading.Barrier(8)

    def write(i: int) -> Entry:
        barrier.wait()
        return commit(dataset, "key", output(str(i)), schema="repeated-ids")

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(write, range(8)))
    assert set(map(repr, entries)) == {repr(entries[0])}
    assert intact(dataset, entries[0])


@pytest.mark.parametrize("damage", ["missing", "truncated"])
@pytest.mark.parametrize("which", ["part", "quarantine"])
def test_a_lost_part_is_seen_and_healed_by_the_same_bytes(dataset: Directory, damage: str, which: str) -> None:
    entry = commit(dataset, "key", output("x", bad=1), schema="repeated-ids")
    path = local(dataset, getattr(entry, which).path)
    data = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(data[:-1])
    assert not intact(dataset, entry)
    assert commit(dataset, "key", output("x", bad=1), schema="repeated-ids") == entry
    assert path.read_bytes() == data
    assert intact(dataset, entry)


def test_a_lost_part_is_not_healed_by_other_bytes(dataset: Directory) -> None:
    entry = commit(dataset, "key", output("x"), schema="repeated-ids")
    local(dataset, entry.part.path).unlink()
    with pytest.raises(StorageError, match="names a part that is missing or damaged, and the part that was made again"):
        commit(dataset, "key", output("y"), schema="repeated-ids")


def test_a_unit_of_several_parts_goes_on_with_those_that_a_killed_task_left_only_if_they_are_cut_alike(
    dataset: Directory,
) -> None:
    def made(*parts: UnitOutput, killed: bool = False) -> tuple[Entry, ...]:
        """Commit a unit of these parts; `killed` after the entry of the first is created."""

        def put() -> Iterator[Entry]:
            for number, part in enumerate(parts):
                yield put_output(dataset, "key", part, schema="repeated-ids")
                if killed and number == 1:
                    raise KeyboardInterrupt

        return commit_all(dataset, "key", put())

    x, y, z = (output(name) for name in "xyz")
    with pytest.raises(KeyboardInterrupt):
        made(output("x", "y"), z, killed=True)
    assert find_all(dataset, "key") is None
    with pytest.raises(StorageError, match="units/key-0 is of a unit that another task cut into other parts"):
        made(x, y, z)  # it would have y twice
    assert find_all(dataset, "key") is None
    entries = made(output("x", "y"), z)
    assert find_all(dataset, "key") == entries and [entry.part.rows for entry in entries] == [2, 1]
    with pytest.raises(StorageError, match="units/key is of a unit that another task cut into other parts"):
        made(output("x", "y"), output(), z)


def test_damage_is_found_when_a_part_is_read(dataset: Directory) -> None:
    entry = commit(dataset, "key", output("x" * 1000), schema="repeated-ids")
    path = local(dataset, entry.part.path)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(
        StorageError, match=f"is damaged: it has {len(data) - 1} bytes .*committed with {len(data)} bytes"
    ):
        read_part(dataset, entry.part, schema="repeated-ids")
    path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    assert intact(dataset, entry)  # a listing does not see it
    with pytest.raises(StorageError, match=r"is damaged: .* checksum"):
        read_part(dataset, entry.part, schema="repeated-ids")
    path.unlink()
    with pytest.raises(StorageError, match="is missing"):
        read_part(dataset, entry.part, schema="repeated-ids")


def test_a_part_is_checked_against_its_contract(dataset: Directory) -> None:
    entry = commit(dataset, "key", output("x"), schema="repeated-ids")
    with pytest.raises(StorageError, match=rf"{entry.part.path} breaks the contract 'quarantine'") as caught:
        read_part(dataset, entry.part, schema="quarantine")
    assert "another version of annotate wrote it. Run the pipeline again" in str(caught.value.hint)
    with pytest.raises(StorageError, match="units/other breaks the contract 'quarantine'"):
        commit(dataset, "other", output("x"), schema="quarantine")
    assert read_entry(dataset, "other") is None


def test_columns_can_be_chosen(dataset: Directory) -> None:
    entry = commit(dataset, "key", output("x"), schema="repeated-ids")
    assert read_part(dataset, entry.part, schema="repeated-ids", columns=["count"]).to_pydict() == {"count": [2]}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"key": "key"}', b"\xff"])
def test_a_damaged_entry_is_named(dataset: Directory, data: bytes) -> None:
    dataset.put("units/key", data)
    with pytest.raises(StorageError, match="units/key is damaged") as error:
        read_entry(dataset, "key")
    assert error.value.hint is not None
    assert "Delete this file" in error.value.hint


def test_a_file_is_committed_as_a_table_is(dataset: Directory, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(output("x").table, path)
    entry = commit_file(dataset, "key", path, 1)
    assert read_part(dataset, entry.part, schema="repeated-ids")["id"].to_pylist() == ["x"]
    assert commit_file(dataset, "key", path, 1) == entry
    local(dataset, entry.part.path).unlink()
    assert commit_file(dataset, "key", path, 1) == entry
    assert intact(dataset, entry)


def test_a_chain_ends_where_an_entry_is_missing(dataset: Directory) -> None:
    entries = [commit(dataset, f"key-{n}", output(str(n)), schema="repeated-ids") for n in (0, 1, 3)]
    assert list(chain(dataset, "key")) == entries[:2]
    assert entries[0] != replace(entries[0], key="key-1")
