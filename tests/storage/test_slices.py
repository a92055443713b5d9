"""Parts that are written once and read in slices, a slice for each partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate import tally
from annotate.errors import StorageError
from annotate.storage.contracts import contract
from annotate.storage.parts import Part
from annotate.storage.slice_reader import BLOCK, TOGETHER_BYTES, KeptSums, Slices, _found
from annotate.storage.slices import _index, _small, by_partition, put_slices
from annotate.storage.store import TAIL_BYTES, Directory

SCHEMA = "sent-links"


def links(to: list[int], start: int = 0) -> pa.Table:
    numbers = pa.array(np.arange(start, start + len(to), dtype=np.uint64))
    return pa.table([pa.array(to, pa.int32()), numbers, numbers], schema=contract(SCHEMA).schema)


def read_slice(folder: Directory, part: Part, to: int, schema: str = SCHEMA) -> pa.Table:
    return Slices(folder, [part], range(to, to + 1), schema=schema).table(0, to)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=4))
def test_each_partition_gets_its_rows_in_order(tmp_path_factory: pytest.TempPathFactory, sent: list[list[int]]) -> None:
    folder = Directory.at(tmp_path_factory.mktemp("slices"))
    tables = [links(to, 10 * i) for i, to in enumerate(sent)]
    entry = put_slices(folder, "k", [by_partition(table) for table in tables], schema=SCHEMA)
    whole = pa.concat_tables(tables)
    assert entry.part.rows == whole.num_rows
    for partition in range(6):
        found = read_slice(folder, entry.part, partition)
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
        sums.add(Slices(folder, [part], range(1), schema=SCHEMA).sum(0))
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
        assert read_slice(folder, part, 1, "sent-documents").schema == sent.schema
        sums.append(Slices(folder, [part], range(1, 2), schema="sent-documents").sum(1))
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
        _small.cache_clear()
        path.write_bytes(data)
        try:
            found = [read_slice(folder, entry.part, partition) for partition in range(3)]
        except StorageError as error:
            assert str(path) in str(error)
            return True
        assert [table.num_rows for table in found] == [20, 20, 0]
        return False

    assert not damaged(whole)
    _small.cache_clear()
    path.write_bytes(whole[: len(whole) // 8])  # while its index is known
    with pytest.raises(StorageError, match="missing or truncated") as caught:
        read_slice(folder, entry.part, 0)
    assert caught.value.hint is not None
    for at in range(len(whole)):
        assert damaged(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]), at
    for length in (0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1):
        assert damaged(whole[:length])
    assert not damaged(whole + b"\0")  # nothing that is read has changed
    path.unlink()
    _index.cache_clear()
    _small.cache_clear()
    with pytest.raises(StorageError, match="missing"):
        read_slice(folder, entry.part, 0)


def test_an_index_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)
    entry = put_slices(folder, "k", [by_partition(links(list(range(2000))))], schema=SCHEMA)
    assert read_slice(folder, entry.part, 1999)["a"].to_pylist() == [1999]
    assert _index(folder, entry.part).nbytes > TAIL_BYTES


def test_neighbours_are_read_in_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rng = Directory.at(tmp_path), np.random.default_rng(0)
    tables = [links(rng.integers(0, 8, 40_000).tolist(), 10**6 * i) for i in range(3)]
    parts = [put_slices(folder, f"{i}", [by_partition(each)], schema=SCHEMA).part for i, each in enumerate(tables)]
    assert all(part.bytes > TAIL_BYTES for part in parts)
    whole = pa.concat_tables(tables)
    for most, requests in ((TOGETHER_BYTES, 3 + 3 * 2), (0, 3 + 3 * 6)):
        monkeypatch.setattr("annotate.storage.slice_reader.TOGETHER_BYTES", most)
        _index.cache_clear()
        tally.taken()
        found = Slices(folder, parts, range(8), schema=SCHEMA)
        wanted = [1, 2, 3, 5, 6, 7]
        found.read_together(wanted)
        for to in wanted:
            assert pa.concat_tables(found.tables(to)).equals(whole.filter(pa.array(whole["to"].to_numpy() == to)))
        assert tally.taken()["requests: get"] == requests


def test_a_small_part_is_read_in_one_request(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)
    part = put_slices(folder, "k", [by_partition(links([0, 1, 2, 5]))], schema=SCHEMA).part
    tally.taken()
    assert [read_slice(folder, part, to).num_rows for to in range(6)] == [1, 1, 1, 0, 0, 1]
    assert tally.taken()["requests: get"] == 1


def test_indices_of_parts_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)

    def sent(number: int, start: int) -> Part:
        return put_slices(
            folder, f"{number}-{start}", [by_partition(links([0, 0, 3], 10 * number + start))], schema=SCHEMA
        ).part

    def sums(parts: list[Part], *, look: bool, keep: bool = False) -> tuple[list[str], int]:
        """The sums of slices, and how many requests they took in a new process."""
        for cached in (_index, _small, _found):
            cached.cache_clear()
        tally.taken()
        slices = Slices(folder, parts, range(4), schema=SCHEMA, sums=KeptSums(look=look, keep=keep))
        found = [slices.sum(to) for to in range(4)]
        counts = tally.taken()
        return found, int(sum(n for k, n in counts.items() if k.startswith(tally.REQUESTS)))

    parts = [sent(number, 0) for number in range(3 * BLOCK + 5)]
    before, first = sums(parts, look=False, keep=True)
    assert first == len(parts) + 3 * 2  # each part is read, and for each block a part and an entry are put
    assert sums(parts, look=False) == (before, len(parts))
    assert sums(parts, look=True) == (before, 3 * 3 + 5)
    assert before[1] == before[2] not in (before[0], before[3])
    one = [*parts[:70], sent(70, 1), *parts[71:]]
    after, again = sums(one, look=True)
    assert again == 2 * 3 + 1 + BLOCK + 5
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, True, True, False]
    assert sums(one, look=False) == (after, len(parts))


def test_an_index_is_read_once_for_sums_and_rows_of_however_many_parts(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)
    parts = [
        put_slices(folder, f"{n}", [by_partition(links([0], n))], schema=SCHEMA).part
        for n in range(_index.cache_parameters()["maxsize"] + BLOCK)
    ]
    for keep in (False, True):
        for cached in (_index, _small, _found):
            cached.cache_clear()
        slices = Slices(folder, parts, range(1), schema=SCHEMA, sums=KeptSums(keep=keep))
        slices.sum(0)
        tally.taken()
        assert slices.held(0) > 0
        assert "requests: get" not in tally.taken()


def test_a_small_part_that_is_made_again_is_read_again(tmp_path: Path) -> None:
    """A process has read it while it was damaged, but not the slice that was."""
    folder = Directory.at(tmp_path)
    part = put_slices(folder, "k", [by_partition(links([0, 1]))], schema=SCHEMA).part
    path = tmp_path / part.path
    good = path.read_bytes()
    path.write_bytes(good[:10] + bytes([good[10] ^ 255]) + good[11:])
    assert read_slice(folder, part, 1).num_rows == 1
    path.write_bytes(good)
    assert read_slice(folder, part, 0).num_rows == 1
