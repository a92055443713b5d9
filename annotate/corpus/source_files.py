"""One file of a corpus: its names, how it is opened, and the error that a user sees if it can't be read.

The error says the cause: the file is damaged, it changed, it is gone, there is no permission, the network fails, or the
file uses a feature that is not supported.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import AnnotateError, InputError, StorageError
from annotate.storage.store import Directory


@dataclass(frozen=True)
class SourceFile:
    """A file of a corpus: `shard` is its name in the corpus, `path` its path below `directory`.

    The two are equal, unless the file was imported: then `path` is that of the Parquet part that was made from it, and
    `content` is the checksum of that part. For other files `content` is empty.
    """

    directory: Directory
    path: str
    shard: str
    size: int
    content: str = ""

    @property
    def imported(self) -> bool:
        """Whether this is the Parquet part that was made from a file of JSON lines."""
        return self.path != self.shard

    def __str__(self) -> str:
        return self.shard if self.imported else f"{self.directory.url}/{self.path}"


class UnreadableFile(InputError):
    """A file is damaged, unsupported, or not of the format that its name says: a corpus may pass over it."""

    def reason(self, directory: Directory, shard: str) -> str:
        """The problem on one line, without the folder of the file: datasets must not hold it."""
        message = self.message.split("\n", 1)[0].replace(f"{directory.url}/", "")
        return message.removeprefix(shard).strip().removeprefix("is ")


READ_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError, StorageError)
"""The errors of opening or reading a file, which `explained` takes."""
PASS_OVER = 'let the run pass it over with Corpus(unreadable="quarantine").'
_SIGNATURE = 28  # bytes that a file with encrypted columns has after the footer
_PACKED = {b"\x1f\x8b": "gzip", b"(\xb5/\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22M\x18": "lz4"}


def open_parquet(file: SourceFile, **options: Any) -> tuple[pq.ParquetFile, bytes]:
    """Open a Parquet file of a corpus, and read its footer.

    Timestamps of the old type INT96 are read in microseconds. Arrow's default is nanoseconds, in which the year 9999
    silently becomes 1816.

    Raises:
        UnreadableFile: the file is not Parquet, is damaged, is encrypted, or uses an unsupported feature.
        InputError: the file changed or is gone.
        StorageError: the store can't be read.
    """
    try:
        source = file.directory.open(file.path, file.size)
        parquet = pq.ParquetFile(source, pre_buffer=False, coerce_int96_timestamp_unit="us", **options)
        footer = footer_bytes(file, source)
        # Encryption must be found before metadata of a column are read: Arrow would end the process.
        if len(footer) - parquet.metadata.serialized_size == _SIGNATURE:
            raise _encrypted(file)
        assert parquet.schema_arrow is not None  # reading it finds bad names and types
    except READ_ERRORS as error:
        raise explained(file, error) from error
    return parquet, footer


def footer_bytes(file: SourceFile, source: io.RawIOBase) -> bytes:
    """The footer of an open Parquet file, without its length."""
    source.seek(file.size - 8)
    length = int.from_bytes(source.read(4) or b"", "little")
    source.seek(file.size - 8 - length)
    return bytes(source.read(length) or b"")


def explained(file: SourceFile, error: Exception) -> AnnotateError:
    """The error to raise for one of `READ_ERRORS` that occurred while a Parquet file was read.

    Raises:
        StorageError: the store can't be read.
    """
    if file.directory.size(file.path) != file.size:
        return changed(file)
    if isinstance(error, StorageError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return UnreadableFile(
            f"{file} has a column whose name is not valid UTF-8", hint=f"Rename the column, or {PASS_OVER}"
        )
    if "Invalid UTF8" in str(error):  # Arrow checks only the values of dictionaries
        return UnreadableFile(
            f"{file} has a dictionary of strings that are not valid UTF-8",
            hint=f"Write the column as plain strings, choose others with Corpus(columns=(...)), or {PASS_OVER}",
        )
    source = file.directory.open(file.path, file.size)
    start = bytes(source.read(5))
    if start.startswith(b"PARE"):
        return _encrypted(file)
    if not start.startswith(b"PAR1"):
        packed = packing(start)
        return UnreadableFile(
            f"{file} is not Parquet: it has {file.size} bytes and starts with {start[:4]!r}"
            + (f", as {packed} does" if packed else ""),
            hint=f"{'Unpack' if packed else 'Replace or remove'} the file, or {PASS_OVER} A corpus is Parquet, or JSON "
            "lines by the name: .jsonl, .jsonl.gz, .jsonl.zst.",
        )
    if isinstance(error, pa.ArrowNotImplementedError) or "not supported" in str(error):
        return unsupported(file, str(error))
    return UnreadableFile(
        f"{file} is truncated or damaged Parquet: {error}", hint=f"Replace or remove the file, or {PASS_OVER}"
    )


def packing(start: bytes) -> str | None:
    """The compression, such as `gzip`, whose files begin with these bytes; None if it is none that we know."""
    return next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)


def changed(file: SourceFile) -> InputError:
    """The error for a file that changed, or is gone, since the run listed it."""
    if file.directory.size(file.path) is None:
        return InputError(
            f"{file} is gone since the run began",
            hint="Run again: the files of a corpus are listed at the start of a run.",
        )
    return InputError(f"{file} changed while it was being read", hint="Run again: changed shards are redone.")


def unsupported(file: SourceFile, what: str) -> UnreadableFile:
    """The error for a sound file that uses a feature that is not supported."""
    return UnreadableFile(
        f"{file} uses an unsupported feature: {what}",
        hint=f"Write the file anew, with zstd compression for example, or {PASS_OVER}",
    )


def _encrypted(file: SourceFile) -> UnreadableFile:
    return UnreadableFile(
        f"{file} has encrypted columns, which are not supported",
        hint=f"Write the file without encryption, or {PASS_OVER}",
    )
