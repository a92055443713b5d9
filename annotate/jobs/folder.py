"""What of a pipeline's folder goes to the cluster: the files that a pipeline needs, and no data."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from annotate import amounts
from annotate.corpus.files import JSONL, PARQUET
from annotate.errors import ConfigError
from annotate.storage.layout import LATEST, MARKER

MOST_BYTES = 100_000_000
"""Bytes that are shipped at most. Ray keeps them in the memory of the head, and every node gets a copy."""
MOST_FILES = 10_000
DATA = "files of a corpus"
_NAMED = 5  # files that an error names

_CORPUS = tuple(ending for ending in PARQUET + JSONL if not ending.startswith(".json") or ending.startswith(".jsonl"))


@dataclass(frozen=True)
class Shipped:
    """The files that go to the cluster with a pipeline.

    Attributes:
        folder: of the pipeline.
        files: sizes in bytes, by path below the folder, sorted.
        left_out: what stays here, each with the reason: folders by their path below the folder, and data files in
            folders that go along as `rules/*.jsonl`.
    """

    folder: str
    files: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def choose(folder: Path) -> Shipped:
    """Choose what goes to the cluster of a pipeline's folder.

    Hidden files and folders, caches and virtual environments are left out, and so is what runs wrote. Data files, as a
    corpus has, go along if they lie beside the pipeline itself, since a pipeline may need them, such as labels; those
    in deeper folders are left out. Links to files are followed, links to folders are not.

    Raises:
        ConfigError: there is too much.
    """
    found = Shipped(str(folder))
    for path, size in _files(folder, folder, found.left_out):
        found.files[path.relative_to(folder).as_posix()] = size
        if len(found.files) > MOST_FILES:
            raise ConfigError(
                f"the folder of the pipeline, {folder}, holds over {MOST_FILES:,} files, and a submission ships it",
                hint="Put the pipeline into a folder of its own, with the modules and files that it reads.",
            )
    if found.bytes > MOST_BYTES:
        largest = sorted(found.files, key=lambda name: (-found.files[name], name))[:_NAMED]
        named = ", ".join(f"{name} ({amounts.size(found.files[name])})" for name in largest)
        raise ConfigError(
            f"the folder of the pipeline, {folder}, holds {amounts.size(found.bytes)}, and a submission ships at most "
            f"{amounts.size(MOST_BYTES)}. The largest files: {named}",
            hint="Put data and models into an object store, or move what the pipeline does not need out of its folder.",
        )
    return found


def _files(folder: Path, top: Path, left_out: dict[str, str]) -> Iterator[tuple[Path, int]]:
    """Regular files and their sizes, in the order of their paths."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        try:
            about = path.stat()
        except OSError:  # a link to nothing
            continue
        if stat.S_ISREG(about.st_mode):
            if folder != top and path.name.endswith(_CORPUS):
                kind = next(ending for ending in _CORPUS if path.name.endswith(ending))
                left_out[f"{folder.relative_to(top).as_posix()}/*{kind}"] = DATA
            else:
                yield path, about.st_size
        elif stat.S_ISDIR(about.st_mode):
            if (why := _why_left_out(path)) is not None:
                left_out[path.relative_to(top).as_posix()] = why
            else:
                yield from _files(path, top, left_out)


def _why_left_out(folder: Path) -> str | None:
    """Why a folder stays here; None if it goes to the cluster."""
    if folder.is_symlink():
        return "a link to a folder"
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    if "pyvenv.cfg" in names:
        return "a virtual environment"
    if LATEST in names or MARKER in names:
        return "written by runs"
    data = [name for name in names if name.endswith(_CORPUS)]
    marks = [name for name in names if name.startswith((".", "_")) and not name.endswith(".py")]  # such as _SUCCESS
    if data and len({*data, *marks}) == len(names):
        return DATA
    return None


def pack(shipped: Shipped, archive: Path) -> None:
    """Write the chosen files into a zip archive. Equal files give equal bytes, so that Ray uploads them once.

    Raises:
        ConfigError: a file can't be read.
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in shipped.files:
            path = Path(shipped.folder, name)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ConfigError(
                    f"{path} can't be read: {error.strerror}",
                    hint="Make it readable, or move it out of the folder of the pipeline.",
                ) from error
            item = zipfile.ZipInfo(name)  # its time is always 1980
            item.compress_type, item.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(item, content)
