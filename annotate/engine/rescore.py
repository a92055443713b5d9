"""Dropping committed scores, so that a run scores again from nothing; what is made from them is looked at again.

A marker in each annotation dataset says that it is to go, and is the last of it that goes: a run that was killed while
it dropped scores is continued by the next one, whatever its options.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from annotate.stages.base import Stage
from annotate.stages.score import Score
from annotate.storage.manifests import read_manifest
from annotate.storage.store import Directory

MARKER = "rescore"


def to_drop(workdir: Directory, stages: Iterable[Stage], *, rescore: bool) -> list[str]:
    """The annotation datasets of a pipeline whose scores are to go: all if `rescore`, else those half dropped."""
    names = dict.fromkeys(stage.dataset for stage in stages if isinstance(stage, Score))
    return [name for name in names if rescore or workdir.child(name).size(MARKER) is not None]


def drop(workdir: Directory, names: Sequence[str]) -> tuple[int, int]:
    """Remove all that is in annotation datasets, and the manifests of all datasets that were made from theirs.

    Units that were made from scores stay: they are known by the checksums of what they read, so that each is used
    again just if equal scores come.

    Returns:
        The number of datasets that held scores, and their bytes.

    Raises:
        StorageError: a manifest is damaged, or something can't be removed.
    """
    listed, manifests = _listed(workdir, names)
    held = sorted({path.partition("/")[0] for path in listed})
    for name in held:
        workdir.child(name).put(MARKER, b"")
    # Users before what they were made from, manifests before entries, entries before parts: cut short anywhere,
    # nothing that is left names what is gone, and what is still to go can be found.
    for users in reversed(list(_users(workdir, names, manifests))):
        workdir.delete(users)
    for rank in range(3):
        workdir.delete([path for path in listed if _rank(path) == rank])
    workdir.delete([f"{name}/{MARKER}" for name in held])
    return len(held), sum(listed.values())


def _listed(workdir: Directory, names: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """What is in the datasets `names`, with sizes, and all manifests of the work directory."""
    listed: dict[str, int] = {}
    manifests: list[str] = []
    for path, size in workdir.sizes(""):
        dataset, _, rest = path.partition("/")
        if dataset in names:
            listed[path] = size
        if rest.startswith("manifests/") and path.endswith(".json"):
            manifests.append(path)
    return listed, manifests


def _users(workdir: Directory, names: Sequence[str], manifests: Sequence[str]) -> Iterator[list[str]]:
    """Manifests of other datasets that were made from those of `names`: what reads them, what reads that, and so on."""
    inputs: dict[str, set[str]] = {}
    gone: set[str] = set()
    for path in manifests:
        dataset, fingerprint = path.partition("/")[0], _fingerprint(path)
        if dataset in names:
            gone.add(fingerprint)
        elif (manifest := read_manifest(workdir.child(dataset), fingerprint)) is not None:
            inputs[path] = set(manifest.inputs.values())
    while found := [path for path in inputs if inputs[path] & gone]:
        yield found
        gone = {_fingerprint(path) for path in found}
        inputs = {path: read for path, read in inputs.items() if path not in found}


def _fingerprint(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


def _rank(path: str) -> int:
    folder = path.split("/")[1]
    return {"manifests": 0, "units": 1, MARKER: 3}.get(folder, 2)
