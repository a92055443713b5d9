"""Decompresses a file of JSON lines, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import zstandard

from annotate.corpus.source_files import PASS_OVER, SourceFile, UnreadableFile, changed, packing
from annotate.errors import InputError, StorageError

MAX_WINDOW = 1 << 31  # bytes: the most that the zstd library reads, and that `zstd --long=31` writes
_END = b"the end of the file"
_END_FRAME = zstandard.ZstdCompressor().compress(_END)


def unpacked(file: SourceFile, block_bytes: int) -> Iterator[bytes]:
    """The bytes of a file, unpacked if its name ends with `.zst` or `.gz`, in blocks of at most about `block_bytes`.

    A `.zst` file may have several frames and windows of up to 2 GiB, a `.gz` file several members.

    Raises:
        UnreadableFile: the file is truncated or damaged, or its compression is not supported.
        InputError: the file changed or is gone, or its window does not fit into memory.
    """
    name = file.path.lower()
    stream: Any = file.directory.open_stream(file.path, file.size)
    try:
        if name.endswith(".zst"):
            yield from _zstd(stream, block_bytes)
            return
        if name.endswith(".gz"):
            stream = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "gzip")
        while block := stream.read(block_bytes):
            yield block
    except (OSError, zstandard.ZstdError, StorageError) as error:
        raise _explained(file, error) from error


def _zstd(stream: Any, block_bytes: int) -> Iterator[bytes]:
    """Unpack zstd frames. The reader can't tell the end from a truncated frame, so one of ours follows it."""
    held = b""
    source: Any = _Followed(stream)
    with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
        source, read_across_frames=True
    ) as reader:
        while block := reader.read(block_bytes):
            block = held + block
            held = block[-len(_END) :]
            if len(block) > len(_END):
                yield block[: -len(_END)]
    if held != _END:
        raise OSError("Truncated compressed stream")


class _Followed:
    """A stream with `_END_FRAME` after its end."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._ended = stream, False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        if not data and not self._ended:
            self._ended = True
            return _END_FRAME
        return data


def _explained(file: SourceFile, error: Exception) -> Exception:
    if file.directory.size(file.path) != file.size:
        return changed(file)
    if isinstance(error, StorageError):
        return error
    if "not enough memory" in str(error):
        return InputError(f"{file} needs more memory than there is: {error}", hint="Compress it with a smaller window.")
    if "too much memory" in str(error):
        return UnreadableFile(
            f"{file} has a compression window of more than {MAX_WINDOW >> 30} GiB, which is not supported",
            hint=f"Compress the file anew, without --ultra and --long, or {PASS_OVER}",
        )
    start = bytes(file.directory.open(file.path, file.size).read(5))
    expected, found = "zstd" if file.path.lower().endswith(".zst") else "gzip", packing(start)
    if found != expected and file.size:
        what = f", as {found} does" if found else ""
        return UnreadableFile(
            f"{file} is not {expected}: it starts with {start!r}{what}",
            hint=f"Give the file the ending of its compression, or {PASS_OVER}",
        )
    return UnreadableFile(
        f"{file} is truncated or damaged: {error}", hint=f"Replace or remove the file, or {PASS_OVER}"
    )
