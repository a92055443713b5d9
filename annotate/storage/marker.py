"""What tells a dataset of ours from everything else: a marker in its folder.

A work directory may be any folder, with a corpus and other things of its owner beside the datasets. So a name proves
nothing: only what lies in a folder with our marker, under a name that a run writes (see `layout`), is ever removed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.layout import MARKER
from annotate.storage.store import Directory

FORMAT = 1
"""How a dataset is laid out; raised when an older version could not read, or would spoil, what a newer one writes."""

_WHAT = "A dataset that annotate made. `annotate clean` removes it when it is not used."
_MOST_BYTES = 1000  # of a marker: others too have files of that name


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
        strays = sorted(path for path, _ in folder.sizes("") if path == MARKER or layout.parse(path) is None)
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
        if not layout.is_dataset(name):
            continue
        folder = workdir.child(name)
        marker = read_marker(folder)
        check_format(folder, marker)
        if marker is not None or is_like_a_dataset(folder):
            found[name] = marker
    return found


def is_like_a_dataset(folder: Directory) -> bool:
    """Whether a folder without a marker has the name of a dataset and what only a dataset has, in its place.

    An older version made it, which wrote no markers. Its name and this prove enough to refuse a corpus in it.
    """
    if not layout.is_dataset(_name(folder)):
        return False
    return any(
        layout.dataset_around(f"{_name(folder)}/{path}") is not None
        for kind in (layout.MANIFESTS, layout.ENTRIES)
        for path, _ in folder.sizes(f"{kind}/", deep=False)
    )


def is_linked(folder: Directory) -> bool:
    """Whether a folder, or one in it, is a link on a local disk: what is there may be of another work directory."""
    local = folder.local
    return local is not None and (local.is_symlink() or any(path.is_symlink() for path in local.iterdir()))


def _name(folder: Directory) -> str:
    return folder.url.rpartition("/")[2]
