"""What tells a dataset of ours from everything else: a marker in its folder.

A work directory may be any folder, with a corpus and other things of its owner beside the datasets. So a name proves
nothing: only what lies in a folder with our marker, under a name that a run writes (see `layout`), is ever removed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.layout import MARKER
from annotate.storage.store import Directory

FORMAT = 2
"""How a dataset is laid out; raised when an older version could not read, or would spoil, what a newer one writes."""

ANOTHER_VERSION = (
    "Choose another work directory, or go on with the version of annotate that made this one: this version can use "
    "none of its scores."
)
MOST_NAMED = 3  # datasets, in an error

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
        version: of the stage's recipe; 0 where an older format does not say it.
        settings: hash of the stage's settings; with the version, what the recipe is the hash of.
    """

    what: str
    dataset: str
    recipe: str
    format: int
    version: int = 0
    settings: str = ""

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.dataset.rpartition("-")[0]

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
        said = json.loads(folder.get(MARKER))
        found = Marker(**{field.name: said[field.name] for field in fields(Marker) if field.name in said})
    except (FileNotFoundError, ValueError, TypeError):
        return None
    ours = found.what == _WHAT and found.dataset == _name(folder) and isinstance(found.format, int)
    return found if ours else None


def check_folder(folder: Directory) -> None:
    """Refuse a folder that is to be that of a dataset, has no marker, and is not empty.

    Raises:
        StorageError: it is such a folder.
    """
    if read_marker(folder) is not None:
        return
    held = min((path for path, _ in folder.sizes("")), default=None)
    if held is not None and read_marker(folder) is None:  # asked again: another run puts it before all else
        raise StorageError(
            f"{folder.url} is where a dataset belongs, but has no {MARKER} of ours and holds {held}",
            hint="Move that folder away, or choose another work directory.",
        )


def check_marked(folder: Directory, recipe: str) -> None:
    """Refuse a folder that is not marked as the dataset of a recipe: nothing is written or removed there.

    Raises:
        StorageError: it is not, or is of a format that is not known.
    """
    found = read_marker(folder)
    if found is not None:
        _check_formats(folder.url.rpartition("/")[0], [found])
    if found is None or found.recipe != recipe:
        raise StorageError(
            f"{folder.url} is not marked as the dataset of this recipe ({recipe}): its {MARKER} says otherwise",
            hint="Move that folder away, or choose another work directory.",
        )


def mark(folder: Directory, recipe: str, *, version: int, settings: str) -> None:
    """Mark the folder of a dataset as ours, before anything else is put there, or find that it is.

    Raises:
        StorageError: the folder holds something without a marker, or is marked for another recipe or format.
    """
    if read_marker(folder) is None:
        check_folder(folder)
        ours = Marker(_WHAT, _name(folder), recipe, FORMAT, version, settings)
        folder.put_new(MARKER, ours.to_bytes())  # of two runs at once the second writes nothing: the bytes are equal
    check_marked(folder, recipe)


def datasets_in(workdir: Directory) -> dict[str, Marker | None]:
    """The folders of a work directory that are datasets of ours, with their markers.

    None stands for the marker of one that has what only a dataset has, but no marker: a copy, or of a version that put
    none. It is told of, but never removed.

    Raises:
        StorageError: a folder with the name of a dataset can't be read, or datasets have a format that is not known.
    """
    found: dict[str, Marker | None] = {}
    for name in workdir.folders():
        if not layout.is_dataset(name):
            continue
        folder = workdir.child(name)
        marker = read_marker(folder)
        if marker is not None or is_like_a_dataset(folder):
            found[name] = marker
    _check_formats(workdir.url, [marker for marker in found.values() if marker is not None])
    return found


def other_versions(workdir: Directory, stage: str, version: int, settings: str) -> list[Marker]:
    """The datasets of a stage with equal settings that another version of its recipe made.

    Raises:
        StorageError: as for `datasets_in`.
    """
    return [
        marker
        for marker in datasets_in(workdir).values()
        if marker is not None and (marker.stage, marker.settings) == (stage, settings) and marker.version != version
    ]


def _check_formats(workdir: str, markers: Sequence[Marker]) -> None:
    others = [f"{marker.dataset} has format {marker.format}" for marker in markers if marker.format != FORMAT]
    if others:
        said = ", ".join(others[:MOST_NAMED]) + (f" and {len(others) - MOST_NAMED:,} more" * (len(others) > MOST_NAMED))
        raise StorageError(
            f"in {workdir} {said}; this version of annotate reads and writes format {FORMAT}", hint=ANOTHER_VERSION
        )


def is_like_a_dataset(folder: Directory) -> bool:
    """Whether a folder without a marker has the name of a dataset and what only a dataset has, in its place.

    It is a copy, or of a version that wrote no markers. Its name and this prove enough to refuse a corpus in it.
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
