"""Keeps files that runs wrote out of a corpus.

In a folder they are passed over. A path that names or matches one of them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from annotate.errors import InputError, StorageError
from annotate.storage import layout
from annotate.storage.layout import MARKER
from annotate.storage.marker import is_like_a_dataset, read_marker
from annotate.storage.store import Directory


def datasets_among(directory: Directory, paths: Iterable[str]) -> set[str]:
    """Find the datasets that listed files below a directory lie in; each path ends with a slash."""
    found: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        in_dataset = folder.endswith((layout.MANIFESTS, layout.ENTRIES))  # a fast test first: paths can be millions
        if in_dataset and (dataset := layout.dataset_around(path)) is not None:
            found.add(dataset)
        elif name == MARKER and folder and _marked(directory.child(folder)):
            found.add(f"{folder}/")
    return found


def written_by_runs(paths: Iterable[str], datasets: Iterable[str]) -> set[str]:
    """The files that lie in the datasets that `datasets_among` found, and those that runs keep beside them."""
    inside = tuple(datasets)
    workdirs = {dataset[: dataset.rfind("/", 0, -1) + 1] for dataset in inside}

    def beside(path: str) -> bool:
        return layout.workdir_around(path) in workdirs

    return {path for path in paths if path.startswith(inside) or beside(path)}


def check_corpus_place(path: str, directory: Directory, names: Sequence[str], datasets: Iterable[str] = ()) -> None:
    """Refuse corpus files that lie in a dataset of ours, or that a run keeps in its work directory.

    A later run or `annotate clean` removes such files, and a corpus that takes in its own shards grows by every run.

    Args:
        path: the corpus path as the user gave it.
        directory: the fixed part of the path.
        names: the files, relative to the directory.
        datasets: the datasets that `datasets_among` found below the directory.

    Raises:
        InputError: there is such a file.
    """
    home = dataset_around(directory)
    inside = tuple(datasets)
    for name in names:
        whole = f"{directory.url}/{name}"
        own = layout.workdir_around(whole) is not None
        if home is None and not own and not name.startswith(inside):
            continue
        where = home or next((directory.child(found).url for found in inside if name.startswith(found)), None)
        raise InputError(
            f"{whole} can't be in a corpus: it lies in "
            + (f"the dataset {where.rstrip('/')}" if where else "a work directory, and a run wrote it")
            + "; a later run or `annotate clean` may remove it",
            hint=f"Copy such files to a folder of their own first, or name a path without them instead of {path}. "
            "`annotate.shards(WORKDIR)` lists training shards.",
        )
    for place in _linked(directory, names):
        if (home := dataset_around(place)) is not None:
            raise InputError(
                f"{path} holds links into the dataset {home}, where a later run or `annotate clean` may remove files",
                hint="Copy the files instead.",
            )


def dataset_around(directory: Directory) -> str | None:
    """The dataset that a directory is, or lies in; None if there is none."""
    scheme, separator, rest = directory.url.rpartition("://")
    parts = rest.split("/")
    for n in range(len(parts), 1, -1):
        folder = Directory(scheme + separator + "/".join(parts[:n]))
        if folder.url.strip("/") and (_marked(folder) or _like(folder)):
            return folder.url
    return None


def _marked(folder: Directory) -> bool:
    try:
        return read_marker(folder) is not None
    except StorageError:  # a user who may read a corpus may have no right to read the folders around it
        return False


def _like(folder: Directory) -> bool:
    try:
        return is_like_a_dataset(folder)
    except StorageError:
        return False


def _linked(directory: Directory, names: Sequence[str]) -> set[Directory]:
    """The folders where files on a local disk really lie, if they or their folders are links."""
    if directory.local is None:
        return set()
    root = directory.local.resolve()
    folders = {root / name.rpartition("/")[0] for name in names}
    links = {path for name in names if (path := root / name).is_symlink()}
    real = {folder.resolve() for folder in folders} | {link.resolve().parent for link in links}
    return {Directory(str(place)) for place in real - folders}
