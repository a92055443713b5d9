"""Reads and writes objects on local disk, S3, GCS or Azure, through obstore. No other module moves bytes."""

from __future__ import annotations

import functools
import io
import itertools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import obstore
import xxhash
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import LocalStore, from_url

from annotate.errors import StorageError


def checksum(data: bytes | memoryview) -> str:
    """The checksum that names the content of `data`: 128-bit XXH3, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


def checksum_file(path: Path) -> tuple[str, int]:
    """Checksum and size in bytes of a local file, read in pieces."""
    state, size = xxhash.xxh3_128(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
            size += len(piece)
    return state.hexdigest(), size


def batches(paths: Iterable[str], size: int = 1000) -> Iterator[list[str]]:
    """Cut paths into lists of a size that a store removes in one request."""
    rest = iter(paths)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@functools.lru_cache(maxsize=64)
def _store(url: str) -> Any:
    """The store of a directory; a local directory is made if it does not exist."""
    if "://" in url and not url.startswith("file://"):
        return from_url(url)
    return LocalStore(url.removeprefix("file://"), mkdir=True)


@dataclass(frozen=True)
class Directory:
    """A folder of objects: an absolute local path, or a URL such as `s3://bucket/prefix`."""

    url: str

    @staticmethod
    def at(location: str | PathLike[str]) -> Directory:
        """Make a local path absolute; leave a URL as it is."""
        text = str(location)
        return Directory(text.rstrip("/")) if "://" in text else Directory(str(Path(text).expanduser().resolve()))

    @property
    def local(self) -> Path | None:
        """The local path, or None for an object store."""
        if "://" not in self.url:
            return Path(self.url)
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None

    def create(self) -> None:
        """Make the directory if it does not exist, and check that it is writable.

        Raises:
            StorageError: it can't be made, or isn't writable.
        """
        try:
            if self.local is not None:
                self.local.mkdir(parents=True, exist_ok=True)
            probe = f".writable-{uuid.uuid4().hex}"  # removed below, so nobody else may have a file of this name
            obstore.put(_store(self.url), probe, b"")
            self.delete([probe])
        except (BaseError, OSError) as error:
            raise self._failed("is not writable", "", error) from error

    def get(self, path: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it can't be read.
        """
        if self._absent():
            raise FileNotFoundError(f"{self.url}/{path}")
        try:
            return bytes(obstore.get(_store(self.url), path).bytes())
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise self._failed("cannot be read", path, error) from error

    def put(self, path: str, data: bytes | memoryview | Path) -> None:
        """Write an object atomically; an object of that name is replaced.

        Raises:
            StorageError: it can't be written.
        """
        try:
            obstore.put(_store(self.url), path, data)
        except (BaseError, OSError) as error:
            raise self._failed("cannot be written", path, error) from error

    def put_new(self, path: str, data: bytes) -> bool:
        """Create an object unless one of that name exists; False means that another writer was first.

        Raises:
            StorageError: it can't be written.
        """
        try:
            obstore.put(_store(self.url), path, data, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise self._failed("cannot be written", path, error) from error
        return True

    def size(self, path: str) -> int | None:
        """Size of an object in bytes, or None if there is none."""
        if self._absent():
            return None
        try:
            return int(obstore.head(_store(self.url), path)["size"])
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed("cannot be read", path, error) from error

    def sizes(self, prefix: str, *, deep: bool = True) -> Iterator[tuple[str, int]]:
        """List path and size of the objects below `prefix`, unsorted; without `deep`, not those in deeper folders."""
        if self._absent() or (self.local is not None and not (self.local / prefix).is_dir()):
            return
        try:
            store = _store(self.url)
            batches = obstore.list(store, prefix) if deep else [obstore.list_with_delimiter(store, prefix)["objects"]]
            for batch in batches:
                yield from ((str(item["path"]), int(item["size"])) for item in batch)
        except (BaseError, OSError) as error:
            raise self._failed("cannot be listed", prefix, error) from error

    def folders(self) -> list[str]:
        """Names of the folders that lie directly in this one, sorted."""
        if self._absent():
            return []
        try:
            if self.local is not None:
                return sorted(path.name for path in self.local.iterdir() if path.is_dir())
            found = obstore.list_with_delimiter(_store(self.url))["common_prefixes"]
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)
        except (BaseError, OSError) as error:
            raise self._failed("cannot be listed", "", error) from error

    def version(self, path: str) -> str | None:
        """A value that changes when an object is written: its entity tag, or its time. None if there is no object."""
        if self._absent():
            return None
        try:
            found = obstore.head(_store(self.url), path)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed("cannot be read", path, error) from error
        return str(found["e_tag"] or found["last_modified"])

    def delete(self, paths: list[str]) -> None:
        """Remove objects; those that do not exist are passed over.

        Raises:
            StorageError: one can't be removed.
        """
        try:
            if paths:
                obstore.delete(_store(self.url), paths)
        except FileNotFoundError:
            # On a local disk another run has removed one of them; those after it in the list are still there.
            if len(paths) > 1:
                for path in paths:
                    self.delete([path])
        except (BaseError, OSError) as error:
            raise self._failed("cannot be removed", paths[0], error) from error

    def open(self, path: str, size: int | None = None) -> io.RawIOBase:
        """Open an object for random reads. Only the bytes of one read are held."""
        found = size if size is not None else self.size(path)
        if found is None:
            raise FileNotFoundError(f"{self.url}/{path}")
        return _RangeFile(self, path, found)

    def child(self, name: str) -> Directory:
        """The directory `name` below this one."""
        return Directory(f"{self.url}/{name}")

    def open_stream(self, path: str, size: int | None = None, buffer: int = 4 << 20) -> io.BufferedReader:
        """Open an object to read it from start to end, `buffer` bytes in each request."""
        return io.BufferedReader(self.open(path, size), buffer)

    def _absent(self) -> bool:
        """Whether this is a local directory that does not exist. Reading must not make it, as opening a store would."""
        return self.local is not None and not self.local.is_dir()

    def _failed(self, what: str, path: str, error: Exception) -> StorageError:
        reason = str(error).split("\n", 1)[0]
        where = f"{self.url}/{path}" if path else self.url
        if "os error 28" in reason or "No space left" in reason:
            return StorageError(
                f"no space left on the device that holds {where}",
                hint="Free some space and run the same command again: committed work is kept.",
            )
        if isinstance(error, (PermissionDeniedError, PermissionError)) or "ermission denied" in reason:
            return StorageError(
                f"{where} {what}: permission denied", hint="Check who owns it, or choose another place."
            )
        return StorageError(
            f"{where} {what}: {reason}",
            hint="Check the path, and the network and credentials if it is a URL; then run again.",
        )


class _RangeFile(io.RawIOBase):
    """A seekable file over range requests, with the methods that Arrow needs."""

    def __init__(self, directory: Directory, path: str, size: int) -> None:
        self._directory, self._path, self._size, self._at = directory, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset)
        return self._at

    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        if length == 0:
            return b""
        try:
            data = obstore.get_range(_store(self._directory.url), self._path, start=self._at, length=length)
        except (BaseError, OSError) as error:
            raise self._directory._failed("cannot be read", self._path, error) from error
        self._at += length
        # Not bytes(data), which would be one more copy: Arrow copies it too.
        return memoryview(data)  # type: ignore[return-value]

    def readall(self) -> bytes:
        return bytes(self.read())

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
