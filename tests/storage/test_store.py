"""Objects on a local disk: atomic creates, listings, ranges, and errors that say what to do."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
import pytest

from annotate.errors import StorageError
from annotate.storage.store import Directory, checksum, checksum_file


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory.at(tmp_path / "out")


def test_put_get_size_list_delete(directory: Directory) -> None:
    directory.create()
    assert list(directory.sizes("")) == []
    directory.put("parts/a", b"123")
    directory.put("parts/deep/b", memoryview(b"12345"))
    directory.put("parts/a", b"1234")
    assert directory.get("parts/a") == b"1234"
    assert (directory.size("parts/a"), directory.size("parts/c")) == (4, None)
    assert sorted(directory.sizes("parts")) == [("parts/a", 4), ("parts/deep/b", 5)]
    assert list(directory.sizes("parts", deep=False)) == [("parts/a", 4)]
    assert list(directory.sizes("units")) == []
    directory.delete(["parts/a", "parts/never was", "parts/deep/b"])
    assert list(directory.sizes("")) == []


def test_a_file_is_put_without_being_held(directory: Directory, tmp_path: Path) -> None:
    data = np.arange(1 << 20, dtype=np.uint64).tobytes()
    (tmp_path / "file").write_bytes(data)
    directory.put("a", tmp_path / "file")
    assert directory.get("a") == data
    assert checksum_file(tmp_path / "file") == (checksum(data), len(data))


def test_reading_makes_nothing(directory: Directory) -> None:
    assert directory.size("a") is None
    assert directory.version("a") is None
    assert list(directory.sizes("")) == []
    with pytest.raises(FileNotFoundError):
        directory.get("a")
    assert directory.local is not None
    assert not directory.local.exists()


def test_of_writers_at_once_exactly_one_creates(directory: Directory) -> None:
    writers = 8
    barrier = threading.Barrier(writers)

    def create(data: bytes, path: str) -> bool:
        barrier.wait()
        return directory.put_new(path, data)

    with ThreadPoolExecutor(writers) as pool:
        for turn in range(50):
            path = f"units/{turn}"
            data = [bytes([i]) * 10_000 for i in range(writers)]
            created = list(pool.map(create, data, [path] * writers))
            assert sum(created) == 1
            assert directory.get(path) == data[created.index(True)]
            assert not directory.put_new(path, b"late")


def test_directories_made_at_once_are_writable(directory: Directory) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: directory.create(), range(200)))
    assert list(directory.sizes("")) == []


def test_a_directory_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/out is not writable"):
        Directory.at(tmp_path / "file" / "out").create()
    with pytest.raises(StorageError, match=r"file/out/a cannot be written"):
        Directory.at(tmp_path / "file" / "out").put("a", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_said_to_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="permission denied"):
        Directory.at(tmp_path / "out").create()


@pytest.mark.parametrize("act", [lambda d: d.put("a", b"1"), lambda d: d.put_new("a", b"1"), lambda d: d.create()])
def test_a_full_disk_is_said_to_be(directory: Directory, act: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(obstore, "put", full)
    with pytest.raises(StorageError, match="no space left on the device") as error:
        act(directory)  # type: ignore[operator]
    assert error.value.hint is not None
    assert "committed work is kept" in error.value.hint


def test_an_open_object_reads_ranges(directory: Directory) -> None:
    data = bytes(range(256)) * 10
    directory.put("a", data)
    file = directory.open("a")
    assert (file.seek(-10, io.SEEK_END), bytes(file.read(4)), file.tell()) == (2550, data[-10:-6], 2554)
    assert bytes(file.read()) == data[-6:]
    assert bytes(file.read(5)) == b""
    assert (file.seek(100), bytes(file.read(3))) == (100, data[100:103])
    assert directory.open_stream("a", buffer=100).read() == data
    with pytest.raises(FileNotFoundError):
        directory.open("b")


def test_an_object_that_is_gone_when_it_is_read_is_an_error(directory: Directory) -> None:
    directory.put("a", b"123")
    file = directory.open("a")
    directory.delete(["a"])
    with pytest.raises(StorageError, match="a cannot be read"):
        file.read(1)


def test_the_version_of_an_object_changes_when_it_is_written(directory: Directory) -> None:
    directory.put("a", b"123")
    before = directory.version("a")
    assert before == directory.version("a")
    directory.put("a", b"124")
    assert directory.version("a") != before


def test_a_location_is_absolute_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Directory.at("out").url == str(tmp_path / "out")
    assert Directory.at("s3://bucket/prefix/").url == "s3://bucket/prefix"
    assert Directory.at("s3://bucket").local is None
    assert Directory.at("s3://bucket").child("a").url == "s3://bucket/a"
