"""Finding the files of a corpus: a file, a directory or a glob, less what runs wrote in it.

A shard is known by its path below the fixed part of the glob, so moving a corpus changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from wcmatch import glob

from annotate.corpus.source_files import SourceFile
from annotate.corpus.written_by_runs import check_corpus_place, datasets_among, written_by_runs
from annotate.errors import InputError
from annotate.storage.store import Directory

PARQUET = (".parquet", ".pq")
JSONL = tuple(name + packed for name in (".jsonl", ".ndjson", ".json") for packed in ("", ".zst", ".gz"))
_IN_A_FOLDER = tuple(ending for ending in PARQUET + JSONL if ending != ".json")  # which may be metadata


@dataclass(frozen=True)
class _Place:
    """Where a path points: all below a directory, what a `glob` matches there, or the one file that is `named`."""

    directory: Directory
    glob: str = ""
    named: str = ""


def corpus_directory(path: str) -> Directory:
    """The fixed part of a corpus path, below which shards are named."""
    return _place(path).directory


def _place(path: str) -> _Place:
    """Split a path at its first component that has a wildcard; a path that exists is taken as it is."""
    local = Directory.at(path).local
    if local is not None and local.is_file():
        return _Place(Directory.at(local.parent), named=local.name)
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")
    wild = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if wild is None or (local is not None and local.exists()):
        return _Place(Directory.at(path))
    fixed = "/".join(parts[:wild]) or ("/" if rest.startswith("/") else ".")
    return _Place(Directory.at(scheme + separator + fixed), glob="/".join(parts[wild:]))


def find_files(path: str) -> list[SourceFile]:
    """Find the files of a corpus: a file, a directory (all below it), or a glob with `*`, `?`, `[...]` and `**`.

    In a glob `*` stops at a slash; `**` stands for any number of folders, where it is a whole component.

    Names that begin with a dot or an underscore are passed over, unless the path names the file itself. In a directory
    a `.json` file is taken for metadata; as JSON lines it has to be named, or matched. Of a work directory that lies in
    a directory, what runs wrote is passed over, and nothing else; named or matched, a file in a dataset is refused.

    Returns:
        Files sorted by shard name, all of one format.

    Raises:
        InputError: the path is missing or a work directory, nothing matches, both Parquet and JSON lines match, or a
            file lies in a dataset of ours.
    """
    place = _place(path)
    directory, whole = place.directory, not place.glob and not place.named
    if directory.local is not None and not directory.local.exists():
        raise InputError(f"no such file or directory: {path}", hint="Check the corpus path, and quote globs.")
    listed = sorted(directory.sizes("", deep=whole or "/" in place.glob or "**" in place.glob))
    datasets = datasets_among(directory, (name for name, _ in listed))
    if whole and any(name.count("/") == 1 for name in datasets):
        raise InputError(
            f"{path} is a work directory, not a corpus", hint=f"Use a glob that matches the corpus: {path}/*.parquet"
        )
    ours = written_by_runs((name for name, _ in listed), datasets) if whole else set()
    wanted = _wanted(place)
    names = [(name, size) for name, size in listed if name not in ours and wanted(name)]
    if not names:
        there = ", ".join(name for name, _ in listed[:5]) or "nothing"
        raise InputError(
            f"no corpus files match {path}; there is: {there}", hint="Name Parquet or .jsonl(.zst, .gz) files."
        )
    if len({is_jsonl(name) for name, _ in names}) > 1:
        raise InputError(f"{path} matches both Parquet and JSON lines", hint="Use a glob that matches one of them.")
    check_corpus_place(path, directory, [name for name, _ in names], datasets)
    return [SourceFile(directory, name, name, size) for name, size in names]


def is_jsonl(name: str) -> bool:
    """Whether a file is one of JSON lines, by its name."""
    return name.lower().endswith(JSONL)


def _wanted(place: _Place) -> Callable[[str], bool]:
    """Tells of a name below a place whether the path means it."""
    if place.named:
        return lambda name: name == place.named
    if not place.glob:
        return lambda name: _is_plain(name) and name.lower().endswith(_IN_A_FOLDER)
    included, _ = glob.translate(place.glob, flags=glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX)
    matched = [re.compile(pattern) for pattern in included]
    return lambda name: _is_plain(name) and any(pattern.fullmatch(name) for pattern in matched)


def _is_plain(name: str) -> bool:
    """Whether neither a file nor a folder that it lies in begins with a dot or an underscore."""
    return not any(part.startswith((".", "_")) for part in name.split("/"))
