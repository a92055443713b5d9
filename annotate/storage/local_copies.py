"""Local copies of what others can read only from a local disk: models, tokenizers, probes, lists, at a URL.

A copy is made once on each machine, below the folder that ANNOTATE_CACHE names (~/.cache/annotate), and is known by the
sizes and versions of what it was made from: what is written anew at the URL is copied anew.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from annotate.errors import ConfigError

if TYPE_CHECKING:
    from annotate.storage.store import Directory


def local_copy(location: str, wanted: tuple[str, ...] = ("*",)) -> Path:
    """The local path of a file or a folder; of a URL, that of a copy, which is looked for once a process.

    Args:
        location: a path, or a URL such as `s3://bucket/models/mine`.
        wanted: of a folder at a URL, patterns of the files to copy, as `fnmatch` has them.

    Raises:
        ConfigError: there is nothing at the URL, or no copy can be written.
        StorageError: the URL can't be read.
    """
    if "://" not in location:
        return Path(location).expanduser()
    return _copied(location.rstrip("/"), wanted)


@functools.lru_cache(maxsize=64)
def _copied(url: str, wanted: tuple[str, ...]) -> Path:
    from annotate.storage.store import Directory, checksum  # only here: models run where there is no object store

    folder = Directory.at(url)
    paths = sorted(path for path, _ in folder.sizes("") if any(fnmatch.fnmatch(path, each) for each in wanted))
    file = "" if paths else url.rpartition("/")[2]
    if file:
        folder, paths = Directory.at(url.rpartition("/")[0]), [file]
    versions = [(path, folder.size(path), folder.version(path)) for path in paths]
    if file and versions[0][2] is None:
        raise ConfigError(f"there is nothing at {url}", hint="Check the address: a file or a folder.")
    name = checksum(json.dumps([url, versions]).encode())
    try:
        place = _cache() / name
        if not place.is_dir():
            with _locked(place.with_suffix(".lock")):  # workers of one machine start together
                if not place.is_dir():
                    _copy(folder, paths, place)
    except OSError as error:
        raise ConfigError(
            f"the copy of {url} can't be written to {_cache()}: {error}",
            hint="Make room there, or name another folder in ANNOTATE_CACHE, in the environment of all nodes.",
        ) from error
    return place / file


def _cache() -> Path:
    own = os.environ.get("ANNOTATE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own).expanduser() if own else Path(shared) / "annotate"


def _copy(folder: Directory, paths: list[str], place: Path) -> None:
    """Copy objects into a folder that is there only when it is whole."""
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    for path in paths:
        file = part / path
        if not file.resolve().is_relative_to(part.resolve()):
            raise ConfigError(f"the name of {folder.url}/{path} leads out of its folder", hint="Give it another name.")
        file.parent.mkdir(parents=True, exist_ok=True)
        with folder.open_stream(path) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 4 << 20)
    part.rename(place)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of the kernel, which ends with this process; without one where the system has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        with contextlib.suppress(ImportError, OSError):  # some network file systems have no locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
