"""What an error in reading a file is said to be: only what the file itself is can be damage."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
import zstandard
from obstore.exceptions import GenericError, PermissionDeniedError

from annotate.corpus import compressed
from annotate.corpus.footers import read_footer
from annotate.corpus.jsonl import blocks, scan
from annotate.corpus.rows import RowReader
from annotate.corpus.source_files import SourceFile, UnreadableFile
from annotate.errors import InputError, StorageError
from annotate.storage import connections
from annotate.storage.slice_reader import Slices
from annotate.storage.slices import put_slices
from annotate.storage.store import Directory

LINES = b"".join(b'{"text": "line %d"}\n' % i for i in range(2000))


def source(path: Path) -> SourceFile:
    return SourceFile(Directory.at(path.parent), path.name, path.name, path.stat().st_size)


def written(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return source(path)


def parquet(path: Path, **options: Any) -> SourceFile:
    pq.write_table(pa.table({"text": ["a"] * 100, "n": range(100)}), path, **options)
    return source(path)


def packed(window_log: int, data: bytes = LINES) -> bytes:
    settings = zstandard.ZstdCompressionParameters(window_log=window_log, enable_ldm=False)
    sink = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=settings).stream_writer(sink, closefd=False) as writer:
        writer.write(data)  # as a stream, so that the frame says its window and not its size
    return sink.getvalue()


@pytest.mark.parametrize("window_log", [10, 27, 28, 31])
def test_windows_of_any_length_are_read(tmp_path: Path, window_log: int) -> None:
    file = written(tmp_path / "a.jsonl.zst", packed(window_log))
    assert b"".join(blocks(file)) == LINES


@pytest.mark.parametrize("block", [1, 7, 19, 20, 1 << 20])
def test_several_frames_and_members_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("annotate.corpus.jsonl.BLOCK_BYTES", block)
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    data = LINES[:170] + compressed._END  # which is no end where it stands in a file
    zst = packed(20, data[:50]) + skippable + packed(20, b"") + packed(20, data[50:])
    assert b"".join(blocks(written(tmp_path / "a.jsonl.zst", zst))) == data
    gz = gzip.compress(data[:50]) + gzip.compress(data[50:])
    assert b"".join(blocks(written(tmp_path / "a.jsonl.gz", gz))) == data


@pytest.mark.parametrize("cut", [4, 5, 20, -1, -5])
@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.zst", lambda x: packed(20, x)), ("a.jsonl.gz", gzip.compress)])
def test_what_is_cut_off_is_damage(tmp_path: Path, name: str, pack: Callable[[bytes], bytes], cut: int) -> None:
    with pytest.raises(UnreadableFile, match="truncated or damaged: "):
        list(blocks(written(tmp_path / name, pack(LINES)[:cut])))


def test_a_window_that_the_library_cannot_read_is_said_and_no_damage(tmp_path: Path) -> None:
    frame = bytearray(packed(31))
    assert frame[4] == 0  # no size of the content, no checksum: the window's length comes next
    frame[5] = (36 - 10) << 3
    with pytest.raises(UnreadableFile, match=r"window of more than 2 GiB, which is not supported") as found:
        list(blocks(written(tmp_path / "a.jsonl.zst", bytes(frame))))
    assert "remove" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl.zst", gzip.compress(LINES), "is not zstd: .*, as gzip does"),
        ("a.jsonl.gz", packed(20), "is not gzip: .*, as zstd does"),
        ("a.jsonl.gz", LINES, "is not gzip: it starts with"),
        ("a.jsonl.zst", bz2.compress(LINES), "is not zstd: .*, as bzip2 does"),
    ],
)
def test_a_name_that_says_another_compression(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(UnreadableFile, match=said) as found:
        list(blocks(written(tmp_path / name, data)))
    assert "remove" not in str(found.value) and "damaged" not in str(found.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_lines_that_are_packed_without_saying_so(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UnreadableFile, match=r"it starts as (gzip|bzip2) does") as found:
        scan(written(tmp_path / "a.jsonl", pack(LINES)), None)
    assert "remove" not in str(found.value)
    with pytest.raises(UnreadableFile, match=r"starts with .*, as (gzip|bzip2) does") as found:
        read_footer(written(tmp_path / "a.parquet", pack(LINES)), "text")
    assert "remove" not in str(found.value)


class _Keys(pe.KmsClient):
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_said_to_be_that(tmp_path: Path, *, plaintext_footer: bool) -> None:
    """In a process of its own: asking for the metadata of an encrypted column ends it."""
    path, table = tmp_path / "a.parquet", pa.table({"text": ["a"], "n": [1]})
    settings = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"k": ["text"]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda _: _Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    script = (
        "import sys; from annotate.corpus.footers import *; from annotate.corpus.source_files import *\n"
        "from annotate.storage.store import Directory\n"
        "file = SourceFile(Directory.at(sys.argv[1]), 'a.parquet', 'a.parquet', int(sys.argv[2]))\n"
        "try: read_footer(file, 'text')\n"
        "except UnreadableFile as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(path.stat().st_size)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "has encrypted columns, which are not supported" in done.stdout
    assert "remove" not in done.stdout and "damaged" not in done.stdout


def lzo(path: Path) -> SourceFile:
    """A file whose columns say that they are compressed with LZO."""
    parquet(path, compression="snappy", use_dictionary=False, write_statistics=False, store_schema=False)
    data = bytearray(path.read_bytes())
    at = -1
    while (at := data.find(b"\x15\x02", at + 1)) >= 0:  # thrift: an i32 field, of 1
        other = bytes(data[: at + 1]) + b"\x06" + bytes(data[at + 2 :])
        try:
            group = pq.ParquetFile(io.BytesIO(other)).metadata.row_group(0)
        except (OSError, pa.ArrowInvalid):
            continue
        if group.column(0).compression == "LZO":
            return written(path, other)
    raise AssertionError("no codec found in the footer")


def test_a_codec_that_is_not_supported_is_found_in_the_footer(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableFile, match="uses an unsupported feature: column 'text' is compressed with LZO"
    ) as found:
        read_footer(lzo(tmp_path / "a.parquet"), "text")
    assert "remove" not in str(found.value) and "Write the file anew" in str(found.value)


def test_a_column_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], "zzqq": [1]}), path, store_schema=False)
    with pytest.raises(UnreadableFile, match="a column whose name is not valid UTF-8"):
        read_footer(written(path, path.read_bytes().replace(b"zzqq", b"\xff\xfeqq")), "text")


def test_int96_timestamps_are_what_they_were(tmp_path: Path) -> None:
    import datetime as dt

    days = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), dt.datetime(2024, 5, 6, 7, 8, 9, 123456), None]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": list("abcd"), "seen": pa.array(days, pa.timestamp("us")), "n": range(4)})
    table = table.append_column("nested", pa.array([[day] for day in days], pa.list_(pa.timestamp("us"))))
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    footer = read_footer(source(path), "text")
    assert footer.int96 == ("seen", "nested")
    found = RowReader(source(path), footer.checksum).read(0, 4, ["seen", "nested"])
    assert found["seen"].to_pylist() == days
    assert found["nested"].to_pylist() == [[day] for day in days]


def test_a_file_that_vanishes_or_changes_is_said_to_have(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl.zst", packed(20))
    (tmp_path / "a.jsonl.zst").write_bytes(b"another")
    with pytest.raises(InputError, match="changed while it was being read"):
        list(blocks(file))
    (tmp_path / "a.jsonl.zst").unlink()
    with pytest.raises(InputError, match=r"a\.jsonl\.zst is gone since the run began"):
        list(blocks(file))
    table = parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(InputError, match=r"a\.parquet is gone"):
        read_footer(table, "text")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (PermissionDeniedError("no"), "permission denied"),
        (GenericError("connection reset"), "connection reset"),
    ],
)
def test_a_store_that_fails_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    """Nothing is called damaged, of corpora and of our own parts, and no hint says to remove or delete anything."""
    lines, table = written(tmp_path / "a.jsonl.gz", gzip.compress(LINES)), parquet(tmp_path / "a.parquet")
    footer = read_footer(table, "text").checksum
    sent = pa.table({"to": pa.array([0, 1], pa.int32()), "time": [0.5, 0.5], "document": [{"a": 1}, {"a": 2}]})
    folder = Directory.at(tmp_path / "work")
    part = put_slices(folder, "k", [sent], schema="sent-documents").part

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(obstore, "get_range", fails)
    assert connections.obstore is obstore
    for read in (
        lambda: list(blocks(lines)),
        lambda: read_footer(table, "text"),
        lambda: RowReader(table, footer).read(0, 10, ["text"]),
        lambda: Slices(folder, [part], range(1), schema="sent-documents").table(0, 0),
    ):
        with pytest.raises(StorageError, match=said) as found:
            read()
        message = str(found.value)
        assert not any(word in message for word in ("damaged", "remove", "elete")), message
    monkeypatch.undo()
    (tmp_path / "work" / part.path).write_bytes(b"short")
    with pytest.raises(StorageError, match="missing or truncated"):
        Slices(folder, [part], range(1), schema="sent-documents").table(0, 0)
