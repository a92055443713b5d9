"""What tells a dataset of ours from everything else: a marker in its folder, and the names that runs write below it.

A work directory may be any folder, with a corpus and other things of its owner beside the datasets. So a name proves
nothing: only what lies in a folder with our marker, under a name that a run writes, is ever removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from annotate.errors import InputError, StorageError
from annotate.storage.store import Directory

MARKER = "dataset.json"
RESCORE = "rescore"  # in a dataset whose scores are being dropped
FORMAT = 1
"""How a dataset is laid out; raised when an older version could not read, or would spoil, what a newer one writes."""

_WHAT = "A dataset that annotate made. `annotate clean` removes it when it is not used."
_MOST_BYTES = 1000  # of a marker: others too have files of that name

_KEY = r"[0-9a-f]{24}(?:-\d+)?"
_OBJECT = re.compile(
    rf"{MARKER}|{RESCORE}"
    r"|manifests/(?:[0-9a-f]{32}\.json|units-[0-9a-f]{16}\.parquet)"
    rf"|units/{_KEY}"
    rf"|parts/{_KEY}-[0-9a-f]{{16}}\.(?:parquet|slices)"
    rf"|quarantine/{_KEY}-[0-9a-f]{{16}}\.parquet"
    r"|files/[0-9a-f]{8}/(?:README\.md|tags\.json|tokenizer/[^#]+\.(?:json|txt|model|jinja))"
)
_DATASET = r"[a-z][a-z0-9-]*-[0-9a-f]{8}"
_EVIDENCE = re.compile(rf"((?:.*/)?{_DATASET}/)(?:manifests/[0-9a-f]{{32}}\.json|units/{_KEY})")
_VIEW = re.compile(rf"quarantine/{_DATASET}-[0-9a-f]{{8}}\.(?:parquet|json)")
_OF_WORKDIR = re.compile(rf"(?:.*/)?(?:{_VIEW.pattern}|events/\d{{8}}T\d{{6}}-[0-9a-f]{{6}}-\d+\.jsonl)")


@dataclass(frozen=True)
class Marker:
    """What `dataset.json` says, the same for every run that writes it.

    Attributes:
        what: for people.
        dataset: name of the folder; a copy under another name is no dataset of ours.
        recipe: of the stage.
        format: how the dataset is laid out.
    """

    what: str
    dataset: str
    recipe: str
    format: int

    def to_bytes(self) -> bytes:
        """The JSON form."""
        return json.dumps(asdict(self), indent=1).encode()


def read_marker(folder: Directory) -> Marker | None:
    """Read the marker of a folder; None where there is none of ours, or the folder has another name than it says.

    Raises:
        StorageError: it can't be read.
    """
    size = folder.size(MARKER)
    if size is None or size > _MOST_BYTES:
        return None
    try:
        found = Marker(**json.loads(folder.get(MARKER)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    ours = found.what == _WHAT and found.dataset == _name(folder) and isinstance(found.format, int)
    return found if ours else None


def check_format(folder: Directory, marker: Marker | None) -> None:
    """Refuse a dataset of a format that this version does not know.

    Raises:
        StorageError: its marker names another.
    """
    if marker is not None and marker.format != FORMAT:
        raise StorageError(
            f"{folder.url} has format {marker.format}; this version reads and writes format {FORMAT}",
            hint="Use the version of annotate that made it, or another work directory.",
        )


def mark(folder: Directory, recipe: str) -> None:
    """Mark the folder of a dataset as ours, before anything else is put there, or find that it is.

    A folder without a marker is taken over if all that is in it has a name that runs write: an older version made it.

    Raises:
        StorageError: the folder holds something else, or is marked for another recipe or format.
    """
    ours = Marker(_WHAT, _name(folder), recipe, FORMAT)
    found = read_marker(folder)
    if found is None:
        strays = sorted(path for path, _ in folder.sizes("") if path == MARKER or not is_ours(path))
        if strays:
            raise StorageError(
                f"{folder.url} is where a dataset belongs, but holds what no run wrote: {strays[0]}",
                hint="Move that folder away, or choose another work directory.",
            )
        folder.put_new(MARKER, ours.to_bytes())  # of two runs at once the second writes nothing: the bytes are equal
        found = read_marker(folder)
    check_format(folder, found)
    if found != ours:
        raise StorageError(
            f"{folder.url} is not marked as the dataset of this recipe ({recipe}): its {MARKER} says otherwise",
            hint="Move that folder away, or choose another work directory.",
        )


def datasets_in(workdir: Directory) -> dict[str, Marker | None]:
    """The folders of a work directory that are datasets of ours, with their markers.

    None stands for the marker of one that an older version made: it has what only a dataset has, and is told of, but
    never removed.

    Raises:
        StorageError: a folder with the name of a dataset can't be read, or a dataset has a format that is not known.
    """
    found: dict[str, Marker | None] = {}
    for name in workdir.folders():
        if re.fullmatch(_DATASET, name) is None:
            continue
        folder = workdir.child(name)
        marker = read_marker(folder)
        check_format(folder, marker)
        if marker is not None or is_like_a_dataset(folder):
            found[name] = marker
    return found


def is_ours(path: str) -> bool:
    """Whether a path below a dataset's folder is one that runs write."""
    return _OBJECT.fullmatch(path) is not None


def is_view(path: str) -> bool:
    """Whether a path below a work directory is that of a quarantine view."""
    return _VIEW.fullmatch(path) is not None


def is_like_a_dataset(folder: Directory) -> bool:
    """Whether a folder without a marker has the name of a dataset and what only a dataset has, in its place.

    An older version made it, which wrote no markers. Its name and this prove enough to refuse a corpus in it.
    """
    if not re.fullmatch(_DATASET, _name(folder)):
        return False
    return any(
        _EVIDENCE.fullmatch(f"{_name(folder)}/{path}")
        for kind in ("manifests", "units")
        for path, _ in folder.sizes(f"{kind}/", deep=False)
    )


def datasets_among(directory: Directory, paths: Iterable[str]) -> set[str]:
    """The datasets among files that were listed below a directory, each with a slash at its end."""
    found: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        evidence = _EVIDENCE.fullmatch(path) if folder.endswith(("manifests", "units")) else None
        if evidence is not None:
            found.add(evidence[1])
        elif name == MARKER and folder and _marked(directory.child(folder)):
            found.add(f"{folder}/")
    return found


def written_by_runs(paths: Iterable[str], datasets: Iterable[str]) -> set[str]:
    """Those files that lie in one of the datasets that `datasets_among` found, or that runs keep beside them."""
    inside = tuple(datasets)
    workdirs = {dataset[: dataset.rfind("/", 0, -1) + 1] for dataset in inside}

    def beside(path: str) -> bool:
        return _OF_WORKDIR.fullmatch(path) is not None and f"{path.rsplit('/', 2)[0]}/" in workdirs

    return {path for path in paths if path.startswith(inside) or beside(path)}


def is_linked(folder: Directory) -> bool:
    """Whether a folder, or one in it, is a link on a local disk: what is there may be of another work directory."""
    local = folder.local
    return local is not None and (local.is_symlink() or any(path.is_symlink() for path in local.iterdir()))


def check_corpus_place(path: str, directory: Directory, names: Sequence[str], datasets: Iterable[str] = ()) -> None:
    """Refuse corpus files that lie in a dataset of ours, or that a run keeps in its work directory.

    They go with a later run or with `annotate clean`, and a corpus that takes in its own shards grows by every run.

    Args:
        path: what the user gave.
        directory: its fixed part.
        names: the files, relative to it.
        datasets: what `datasets_among` found below the directory.

    Raises:
        InputError: one does.
    """
    home = dataset_around(directory)
    inside = tuple(datasets)
    for name in names:
        whole = f"{directory.url}/{name}"
        own = whole.rpartition("/")[0].endswith(("quarantine", "events")) and _OF_WORKDIR.fullmatch(whole) is not None
        if home is None and not own and not name.startswith(inside):
            continue
        where = home or next((directory.child(found).url for found in inside if name.startswith(found)), None)
        raise InputError(
            f"{whole} is no file of a corpus: it lies in "
            + (f"the dataset {where.rstrip('/')}" if where else "a work directory, and a run keeps it")
            + ", where a later run or `annotate clean` may remove it",
            hint=f"Copy such files to a folder of their own first, or name what {path} should match more narrowly. "
            "`annotate.shards(WORKDIR)` lists training shards.",
        )
    for place in _linked(directory, names):
        if (home := dataset_around(place)) is not None:
            raise InputError(
                f"{path} holds links into the dataset {home}, where a later run or `annotate clean` may remove files",
                hint="Copy the files instead.",
            )


def dataset_around(directory: Directory) -> str | None:
    """The dataset that is this directory, or that it lies in; None if it lies in none."""
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
    except StorageError:  # one who may read a corpus may have no right to all that is around it
        return False


def _like(folder: Directory) -> bool:
    try:
        return is_like_a_dataset(folder)
    except StorageError:
        return False


def _linked(directory: Directory, names: Sequence[str]) -> set[Directory]:
    """Where the folders and files among these really lie, on a local disk, if they are links."""
    if directory.local is None:
        return set()
    root = directory.local.resolve()
    folders = {root / name.rpartition("/")[0] for name in names}
    links = {path for name in names if (path := root / name).is_symlink()}
    real = {folder.resolve() for folder in folders} | {link.resolve().parent for link in links}
    return {Directory(str(place)) for place in real - folders}


def _name(folder: Directory) -> str:
    return folder.url.rpartition("/")[2]
