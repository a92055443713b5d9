"""Reads datasets on the Hugging Face hub, such as `hf://datasets/ORG/NAME@REVISION/data`, through fsspec.

It has those functions of obstore that reading needs, with the same arguments and results. The hub's own client reads
the token for a gated dataset from HF_TOKEN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, TypeVar

from annotate.storage.answers import failure

Given = ParamSpec("Given")
Result = TypeVar("Result")

SCHEME = "hf://"


class HubError(OSError):
    """A request to the hub failed; `kind` is that of `retries.kind_of`."""

    def __init__(self, message: str, kind: str | None) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Hub:
    """A folder on the hub; `root` is its path there."""

    root: str

    def at(self, path: str | None) -> str:
        """The path on the hub of what is at `path` here."""
        return f"{self.root}/{path}".rstrip("/") if path else self.root

    def below(self, path: str) -> str:
        """The path here of what is at `path` on the hub."""
        return path.lstrip("/").removeprefix(self.root).lstrip("/")


@dataclass(frozen=True)
class _Object:
    data: bytes

    @property
    def meta(self) -> dict[str, int]:
        return {"size": len(self.data)}

    def bytes(self) -> bytes:
        return self.data


def _asked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Turn what the hub's client raises into `HubError`; that something is not there stays FileNotFoundError."""

    @functools.wraps(function)
    def wrapped(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise HubError(_said(error), _kind(error)) from None

    return wrapped


def _said(error: Exception) -> str:
    """What an error says: if the hub has answered, only the status, since the client puts the answer into its text."""
    status, name = _status(error), type(error).__name__
    return f"{name}: {failure(error)}" if status is None else f"{name}: status {status}"


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _kind(error: Exception) -> str | None:
    status = _status(error)
    if status is None:
        sent = type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3", "aiohttp")
        return "connection" if sent or isinstance(error, ConnectionError | TimeoutError) else None
    if status in (429, 503):
        return "throttled"
    return "server error" if status >= 500 else None


def _hub() -> Any:
    import fsspec

    return fsspec.filesystem("hf")


@_asked
def get(store: Hub, path: str) -> _Object:
    """Read a file."""
    with _hub().open(store.at(path), "rb", cache_type="none") as file:
        return _Object(file.read())


@_asked
def get_range(store: Hub, path: str, *, start: int, length: int) -> bytes:
    """Read a part of a file, and nothing beside it."""
    with _hub().open(store.at(path), "rb", cache_type="none") as file:
        file.seek(start)
        return bytes(file.read(length))


@_asked
def head(store: Hub, path: str) -> dict[str, Any]:
    """Size and version of a file."""
    found = _hub().info(store.at(path))
    if found["type"] != "file":
        raise FileNotFoundError(path)
    version = next((found[name] for name in ("blob_id", "etag", "created") if found.get(name)), None)
    return {"size": found["size"], "e_tag": None if version is None else str(version), "last_modified": None}


@_asked
def list(store: Hub, prefix: str | None, *, offset: str | None, chunk_size: int) -> Iterator[Any]:
    """The files below a folder in one page, sorted; those after `offset`."""
    found = _hub().find(store.at(prefix), detail=True)
    files = sorted((store.below(path), about["size"]) for path, about in found.items() if about["type"] == "file")
    page = [{"path": path, "size": size} for path, size in files if offset is None or path > offset]
    return iter([page] if page else [])


@_asked
def list_with_delimiter(store: Hub, prefix: str | None) -> dict[str, Any]:
    """The files and folders that lie directly in a folder."""
    found = _hub().ls(store.at(prefix), detail=True)
    return {
        "objects": [
            {"path": store.below(item["name"]), "size": item["size"]} for item in found if item["type"] == "file"
        ],
        "common_prefixes": [store.below(item["name"]) for item in found if item["type"] == "directory"],
    }


def put(store: Hub, path: str, data: Any, **how: Any) -> NoReturn:
    """Refuse: `hf://` is read only."""
    raise HubError("hf:// is for reading alone", None)


def delete(store: Hub, paths: Any) -> NoReturn:
    """Refuse: `hf://` is read only."""
    raise HubError("hf:// is for reading alone", None)
