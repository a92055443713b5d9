"""Reads and writes objects on local disk, S3, GCS or Azure, through obstore. No other module moves bytes.

Messages hold nothing of a store's answer but its code: an answer may repeat a token that it did not accept.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import xxhash
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError

from annotate import credentials, tally
from annotate.errors import ConfigError, StorageError
from annotate.storage import connections, retries
from annotate.storage.answers import failure
from annotate.storage.connections import calls, opened

Result = TypeVar("Result")


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


TAIL_BYTES = 1 << 16
"""Bytes at the end of an object that are read at once, and kept while it is open: files have their indices there."""
_PAGE = 1000  # objects in a page of a listing, as S3 gives


@dataclass(frozen=True)
class Directory:
    """A folder of objects: an absolute local path, or a URL such as `s3://bucket/prefix`."""

    url: str

    @staticmethod
    def at(location: str | PathLike[str]) -> Directory:
        """Make a local path absolute; leave a URL as it is.

        Raises:
            ConfigError: it is a URL with a credential in it.
        """
        text = str(location)
        if credentials.in_url(text):
            raise ConfigError(
                f"a URL with a credential in it: {text}",
                hint="Set credentials in the environment of this process and of Ray's nodes, as docs/object-stores.md "
                "says. What is in a URL gets into commands, logs and files.",
            )
        return Directory(text.rstrip("/")) if "://" in text else Directory(str(Path(text).expanduser().resolve()))

    @staticmethod
    def of_file(location: str | PathLike[str]) -> tuple[Directory, str]:
        """The directory of a file, which may be at a URL, and its name there."""
        text = str(location)
        if "://" not in text:
            path = Path(text).expanduser().resolve()
            return Directory(str(path.parent)), path.name
        above, _, name = text.rpartition("/")
        return Directory.at(above), name

    @property
    def local(self) -> Path | None:
        """The local path, or None for an object store."""
        if "://" not in self.url:
            return Path(self.url)
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None

    def create(self) -> None:
        """Make the directory if it does not exist, and check that a run can work in it.

        It must be writable, and an object must not be created where there is one: else two processes could both commit
        a unit. Some object stores ignore that condition and say nothing.

        Raises:
            StorageError: it can't be made, isn't writable, or its store ignores the condition.
        """
        probe = f".writable-{uuid.uuid4().hex}"  # removed below, so nobody else may have a file of this name
        try:
            if self.local is not None:
                self.local.mkdir(parents=True, exist_ok=True)
            conditional = self._created(probe, b"first") and not self._created(probe, b"second")
        except (BaseError, OSError) as error:
            with contextlib.suppress(StorageError), retries.within(0):  # the answer to a write may have got lost
                self.delete([probe])
            raise self._failed("is not writable", "", error) from None
        self.delete([probe])
        if not conditional:
            raise StorageError(
                f"the store of {self.url} does not honour conditional writes: it created an object twice (it ignores "
                "If-None-Match)",
                hint="Two processes could both commit the same work unit there. Use a store that has conditional "
                "writes, as S3, GCS and Azure do, or a newer version of this one.",
            )

    def get(self, path: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it can't be read.
        """
        if self._absent():
            raise FileNotFoundError(f"{self.url}/{path}")
        return self._asked(lambda store: _whole(store, path), "cannot be read", path)

    def put(self, path: str, data: bytes | memoryview | Path) -> None:
        """Write an object atomically; an object of that name is replaced.

        Raises:
            StorageError: it can't be written.
        """
        size = data.stat().st_size if isinstance(data, Path) else memoryview(data).nbytes
        pieces = self.local is None and size > connections.WHOLE_BYTES
        how: Any = {}
        if self.local is None:
            how = {"use_multipart": pieces, "chunk_size": connections.PIECE_BYTES}
            how["max_concurrency"] = connections.PIECES_AT_ONCE

        def attempt(_: int) -> None:
            store = opened(self.url, pieces=pieces)
            _request("put", calls(store).put, store, path, data, **how)

        self._tried(attempt, "cannot be written", path)

    def put_new(self, path: str, data: bytes) -> bool:
        """Create an object unless one of that name exists.

        Returns:
            True if the object is ours: this call created it. False if another writer was first. If an answer to this
            call got lost, and another writer creates an object of the same bytes, this call can't tell which of the
            two was first, and returns True.

        Raises:
            StorageError: it can't be written.
        """
        try:
            return self._created(path, data)
        except (BaseError, OSError) as error:
            raise self._failed("cannot be written", path, error) from None

    def _created(self, path: str, data: bytes) -> bool:
        def attempt(earlier: int) -> bool:
            store = opened(self.url)
            try:
                _request("create", calls(store).put, store, path, data, mode="create")
            except AlreadyExistsError as error:
                if retries.kind_of(error) is not None:  # it is being written: S3 asks to try again
                    raise
                # An earlier try may have created it, although its answer was an error, or got lost.
                return earlier > 0 and _whole(store, path) == data
            return True

        return self._again(attempt)

    def size(self, path: str) -> int | None:
        """Size of an object in bytes, or None if there is none."""
        found = self._head(path)
        return None if found is None else int(found["size"])

    def version(self, path: str) -> str | None:
        """A value that changes when an object is written: its entity tag, or its time. None if there is no object."""
        found = self._head(path)
        return None if found is None else str(found["e_tag"] or found["last_modified"])

    def _head(self, path: str) -> Any:
        if self._absent():
            return None
        try:
            return self._asked(lambda store: _request("head", calls(store).head, store, path), "cannot be read", path)
        except FileNotFoundError:
            return None

    def sizes(self, prefix: str, *, deep: bool = True) -> Iterator[tuple[str, int]]:
        """List path and size of the objects below `prefix`, unsorted; without `deep`, not those in deeper folders.

        Raises:
            StorageError: it can't be listed.
        """
        if self._absent() or (self.local is not None and not (self.local / prefix).is_dir()):
            return
        pages = self._pages(prefix) if deep else iter([self._level(prefix)["objects"]])
        for page in pages:
            yield from ((str(item["path"]), int(item["size"])) for item in page)

    def _pages(self, prefix: str) -> Iterator[Any]:
        """The pages of a listing. One that fails is asked for again, by the last path before it."""
        last, ordered = "", True
        listing: Any = None

        def page(earlier: int) -> Any:
            nonlocal listing
            if earlier and not ordered:
                raise OSError("a page of the listing failed, and this store does not list in order, so it can't go on")
            if listing is None or earlier:
                store = opened(self.url)
                listing = calls(store).list(store, prefix or None, offset=last or None, chunk_size=_PAGE)
            return _request("list", next, listing, None)

        while (found := self._tried(page, "cannot be listed", prefix)) is not None:
            yield found
            paths = [last, *(str(item["path"]) for item in found)]
            last, ordered = paths[-1], ordered and paths == sorted(paths)

    def _level(self, prefix: str) -> Any:
        def level(store: Any) -> Any:
            return _request("list", calls(store).list_with_delimiter, store, prefix or None)

        return self._tried(lambda _: level(opened(self.url)), "cannot be listed", prefix)

    def folders(self) -> list[str]:
        """Names of the folders that lie directly in this one, sorted.

        Raises:
            StorageError: it can't be listed.
        """
        if self._absent():
            return []
        if self.local is not None:
            try:
                return sorted(path.name for path in self.local.iterdir() if path.is_dir())
            except OSError as error:
                raise self._failed("cannot be listed", "", error) from None
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._level("")["common_prefixes"])

    def delete(self, paths: list[str]) -> None:
        """Remove objects; those that do not exist are passed over.

        Raises:
            StorageError: one can't be removed.
        """
        if not paths:
            return
        try:
            self._asked(lambda s: _request("delete", calls(s).delete, s, paths), "cannot be removed", paths[0])
        except FileNotFoundError:
            # On a local disk another run has removed one of them; those after it in the list are still there.
            if len(paths) > 1:
                for path in paths:
                    self.delete([path])

    def open(self, path: str, size: int | None = None) -> io.RawIOBase:
        """Open an object for random reads. Only the bytes of one read are held, and the last `TAIL_BYTES`."""
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

    def _asked(self, ask: Callable[[Any], Result], what: str, path: str) -> Result:
        """Ask the store about an object, again if need be; that there is none is an answer (FileNotFoundError)."""
        try:
            return self._again(lambda _: ask(opened(self.url)))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}/{path}") from None
        except (BaseError, OSError) as error:
            raise self._failed(what, path, error) from None

    def _tried(self, work: Callable[[int], Result], what: str, path: str) -> Result:
        try:
            return self._again(work)
        except (BaseError, OSError) as error:
            raise self._failed(what, path, error) from None

    def _again(self, work: Callable[[int], Result]) -> Result:
        return work(0) if self.local is not None else retries.again(work, self.url)

    def _failed(self, what: str, path: str, error: Exception) -> StorageError:
        text = str(error)
        reason = failure(error, local=self.local is not None)
        where = f"{self.url}/{path}" if path else self.url
        if "os error 28" in reason or "No space left" in reason:
            return StorageError(
                f"no space left on the device that holds {where}",
                hint="Free some space and run the same command again: committed work is kept.",
            )
        if self.local is None and (lacks := connections.missing(self.url, text)) is not None:
            return StorageError(f"{where} {what}: {lacks[0]}", hint=lacks[1])
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
        self._tail: Any = None

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
        tail = max(0, self._size - TAIL_BYTES)
        if self._at < tail:
            data = self._read(self._at, length)
        else:
            if self._tail is None:
                self._tail = self._read(tail, self._size - tail)
            data = memoryview(self._tail)[self._at - tail : self._at - tail + length]
        self._at += length
        # Not bytes(data), which would be one more copy: Arrow copies it too.
        return memoryview(data)  # type: ignore[return-value]

    def _read(self, start: int, length: int) -> Any:
        return self._directory._tried(lambda _: self._bytes(start, length), "cannot be read", self._path)

    def _bytes(self, start: int, length: int) -> Any:
        store = opened(self._directory.url)
        data = _request("get", calls(store).get_range, store, self._path, start=start, length=length)
        if len(data) != length:
            raise retries.ShortRead(f"asked for {length:,} bytes at {start:,}, got {len(data):,}")
        tally.count(tally.BYTES_READ, length)
        return data

    def readall(self) -> bytes:
        return bytes(self.read())

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _request(kind: str, function: Callable[..., Result], *arguments: Any, **how: Any) -> Result:
    """Make a request to a store, and count it. A file that is put in pieces is counted as one."""
    tally.count(tally.REQUESTS + kind)
    return function(*arguments, **how)


def _whole(store: Any, path: str) -> bytes:
    found = _request("get", calls(store).get, store, path)
    size, data = int(found.meta["size"]), bytes(found.bytes())
    if len(data) != size:
        raise retries.ShortRead(f"the object has {size:,} bytes, got {len(data):,}")
    tally.count(tally.BYTES_READ, size)
    return data
