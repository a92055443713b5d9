"""The marker in the folder of a dataset, which shows that runs of annotate made it.

A work directory may be any folder, and hold a corpus and other files of its owner beside the datasets. So the name of a
folder proves nothing. A file is removed only if its folder has our marker and runs write files of its name, see
`layout`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.layout import MARKER
from annotate.storage.store import Directory

FORMAT = 2
"""The version of the layout of datasets. It is raised if older versions of annotate could not read new datasets, or
would damage them."""

ANOTHER_VERSION = (
    "Choose another work directory, or go on with the version of annotate that made this one. This version can't use "
    "its scores."
)
MOST_NAMED = 3  # datasets that an error names

_WHAT = "A dataset that annotate made. `annotate clean` removes it when it is not used."
_MOST_BYTES = 1000  # of a marker: a larger file of that name is somebody else's


@dataclass(frozen=True)
class Marker:
    """The content of `dataset.json`, which is the same for every run that writes it.

    Attributes:
        what: a sentence for people.
        dataset: name of the folder. If the folder has another name, it is a copy, and no dataset of ours.
        recipe: of the stage: a hash of its settings and its version.
        format: the version of the layout, see `FORMAT`.
        version: of the stage's recipe; 0 if an older format does not say it.
        settings: hash of the stage's settings.
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
    """Read the marker of a folder; None if there is none of ours, or if it names another folder.

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
    """Check that a folder can become that of a dataset: it has our marker, or is empty.

    Raises:
        StorageError: it has no marker and is not empty.
    """
    if read_marker(folder) is not None:
        return
    held = min((path for path, _ in folder.sizes("")), default=None)
    if held is not None and read_marker(folder) is None:  # asked again: another run may have begun, with the marker
        raise StorageError(
            f"annotate needs the folder {folder.url} for a dataset, but it has other files, such as {held}, and no "
            f"{MARKER} of annotate",
            hint="Move that folder away, or choose another work directory.",
        )


def check_marked(folder: Directory, recipe: str) -> None:
    """Check that a folder is marked as the dataset of a recipe. In other folders nothing may be written or removed.

    Raises:
        StorageError: it is not marked so, or has an unknown format.
    """
    _check_recipe(folder, read_marker(folder), recipe)


def _check_recipe(folder: Directory, found: Marker | None, recipe: str) -> None:
    if found is not None:
        _check_formats(folder.url.rpartition("/")[0], [found])
    if found is None or found.recipe != recipe:
        raise StorageError(
            f"{folder.url} is not the dataset of the recipe {recipe}: its {MARKER} "
            + ("is missing, or is no marker of it" if found is None else f"names the recipe {found.recipe}"),
            hint="Move that folder away, or choose another work directory.",
        )


def mark(folder: Directory, recipe: str, *, version: int, settings: str) -> None:
    """Put our marker into the folder of a dataset before any other file, unless it is there.

    Raises:
        StorageError: the folder has files but no marker, or is marked for another recipe or format.
    """
    found = read_marker(folder)
    if found is None:
        check_folder(folder)
        ours = Marker(_WHAT, _name(folder), recipe, FORMAT, version, settings)
        folder.put_new(MARKER, ours.to_bytes())  # of two runs at once the second writes nothing: the bytes are equal
        found = read_marker(folder)
    _check_recipe(folder, found, recipe)


def datasets_in(workdir: Directory) -> dict[str, Marker | None]:
    """The folders of a work directory that are datasets of ours, with their markers.

    A folder that looks like a dataset but has no marker is listed with None. It is a copy, or of a version that wrote
    no markers; commands name it, but never remove it.

    Raises:
        StorageError: a folder with the name of a dataset can't be read, or datasets have an unknown format.
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


def other_versions(markers: Iterable[Marker | None], stage: str, version: int, settings: str) -> list[Marker]:
    """Those of the markers whose dataset a stage made with the same settings, by another version of its recipe."""
    return [
        marker
        for marker in markers
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
    """Whether a folder has the name of a dataset, and manifests or entries at their places.

    Without a marker it is a copy, or of a version that wrote no markers. That is enough to refuse a corpus in it.
    """
    if not layout.is_dataset(_name(folder)):
        return False
    return any(
        layout.dataset_around(f"{_name(folder)}/{path}") is not None
        for kind in (layout.MANIFESTS, layout.ENTRIES)
        for path, _ in folder.sizes(f"{kind}/", deep=False)
    )


def is_linked(folder: Directory) -> bool:
    """Whether a folder, or an item in it, is a link on a local disk: its files may be of another work directory."""
    local = folder.local
    return local is not None and (local.is_symlink() or any(path.is_symlink() for path in local.iterdir()))


def _name(folder: Directory) -> str:
    return folder.url.rpartition("/")[2]
