"""Finds the files of a corpus, which is given as a file, a directory or a glob; files that runs wrote are left out.

A shard is known by its path below the fixed part of the glob, so a corpus can be moved and nothing is done again.
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
_IN_A_FOLDER = tuple(ending for ending in PARQUET + JSONL if ending != ".json")  # a .json file may be metadata


@dataclass(frozen=True)
class _Place:
    """The files that a path means: all in a directory, or those that `glob` matches there, or the one `named`."""

    directory: Directory
    glob: str = ""
    named: str = ""


def corpus_directory(path: str) -> Directory:
    """The fixed part of a corpus path. A shard is named by its path below it."""
    return _place(path).directory


def lies_at(path: str) -> Directory:
    """The fixed part of a corpus path, or the file that it names: told by the path alone, without asking a store."""
    return _split(path)[0]


def _place(path: str) -> _Place:
    """Split a path at its first component that has a wildcard; a path that exists is taken as it is."""
    place, pattern = _split(path)
    if pattern:
        return _Place(place, glob=pattern)
    if place.local is not None:
        file = place.local.is_file()
        return _Place(Directory.at(place.local.parent), named=place.local.name) if file else _Place(place)
    above, _, name = place.url.rpartition("/")
    # A folder may have the name of a file: those that Spark writes do.
    file = name.lower().endswith((*PARQUET, *JSONL)) and Directory.at(above).size(name) is not None
    return _Place(Directory.at(above), named=name) if file else _Place(place)


def _split(path: str) -> tuple[Directory, str]:
    """The fixed part of a path, and the pattern behind it; a local path that exists is taken as it is."""
    place = Directory.at(path)
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")
    wild = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if wild is None or (place.local is not None and place.local.exists()):
        return place, ""
    fixed = "/".join(parts[:wild]) or ("/" if rest.startswith("/") else ".")
    return Directory.at(scheme + separator + fixed), "/".join(parts[wild:])


def find_files(path: str) -> list[SourceFile]:
    """Find the files of a corpus: a file, a directory (all below it), or a glob with `*`, `?`, `[...]` and `**`.

    In a glob, `*` does not match a slash; `**` matches any number of folders, if it is a whole component.

    A file or folder whose name begins with a dot or an underscore is passed over, unless the path names the file
    itself. A `.json` file in a directory is taken for metadata: to be read as JSON lines, it must be named or matched
    by a glob. If a directory holds a work directory, the files that runs wrote there are passed over, and no others. A
    path that names or matches a file in a dataset is refused.

    Returns:
        Files sorted by shard name, all of one format.

    Raises:
        InputError: the path does not exist or is a work directory, nothing matches, both Parquet and JSON lines match,
            or a file lies in a dataset of ours.
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
            f"no corpus files match {path}; there is: {there}",
            hint="Name Parquet files (.parquet, .pq) or JSON lines (.jsonl, .jsonl.zst, .jsonl.gz).",
        )
    if len({is_jsonl(name) for name, _ in names}) > 1:
        raise InputError(f"{path} matches both Parquet and JSON lines", hint="Use a glob that matches one of them.")
    check_corpus_place(path, directory, [name for name, _ in names], datasets)
    return [SourceFile(directory, name, name, size) for name, size in names]


def is_jsonl(name: str) -> bool:
    """Whether the name of a file is that of JSON lines."""
    return name.lower().endswith(JSONL)


def _wanted(place: _Place) -> Callable[[str], bool]:
    """Make the function that says whether the path means a file, given its name below the place."""
    if place.named:
        return lambda name: name == place.named
    if not place.glob:
        return lambda name: _is_plain(name) and name.lower().endswith(_IN_A_FOLDER)
    included, _ = glob.translate(place.glob, flags=glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX)
    matched = [re.compile(pattern) for pattern in included]
    return lambda name: _is_plain(name) and any(pattern.fullmatch(name) for pattern in matched)


def _is_plain(name: str) -> bool:
    """Whether no component of a path begins with a dot or an underscore."""
    return not any(part.startswith((".", "_")) for part in name.split("/"))
