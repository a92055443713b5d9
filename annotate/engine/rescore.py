"""Remove committed scores, so that a run scores again from nothing.

A file in each annotation dataset says that its scores are being removed; it is itself removed last. So if a run is
killed meanwhile, the next one goes on with the removal, whatever its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from annotate.errors import StorageError
from annotate.graph import Stage
from annotate.storage import layout
from annotate.storage.layout import MARKER, RESCORE, FileKind
from annotate.storage.manifests import fingerprints, read_manifest
from annotate.storage.marker import check_marked, datasets_in, is_linked
from annotate.storage.store import Directory, batches


def to_drop(workdir: Directory, stages: Iterable[Stage], *, rescore: bool) -> dict[str, str]:
    """The annotation datasets of a pipeline whose scores are to be removed, with their recipes.

    All of them if `rescore`, else those whose removal was interrupted.
    """
    names = {stage.dataset: stage.recipe for stage in stages if stage.rescored}
    return {name: names[name] for name in names if rescore or workdir.child(name).size(RESCORE) is not None}


def drop(workdir: Directory, names: Mapping[str, str], confirm: Callable[[], None]) -> tuple[int, int]:
    """Remove the scores of annotation datasets, and the manifests of all datasets that were made from them.

    Units that were made from the scores stay. Their keys depend on the checksums of what they read, so such a unit is
    used again only if the new scores are equal.

    Args:
        workdir: the work directory.
        names: datasets and recipes, as `to_drop` returns them.
        confirm: is called before each batch is removed, and raises to forbid it.

    Returns:
        The number of datasets that held scores, and their size in bytes.

    Raises:
        StorageError: a manifest is damaged, an object can't be removed, a dataset is reached by a link, or `confirm`
            forbids it.
    """
    listed = {name: dict(workdir.child(name).sizes("")) for name in names}
    held = {name: paths for name, paths in listed.items() if paths.keys() - {MARKER}}
    users = list(_users(workdir, held))
    for name in held:
        check_marked(workdir.child(name), names[name])
    for name in [*held, *(user for some in users for user in some.values())]:
        folder = workdir.child(name)
        if is_linked(folder):
            raise StorageError(
                f"{folder.url} is reached by a link, so another work directory may use its files: nothing is dropped",
                hint="Remove the link, and run the same command again: it scores anew here.",
            )
    for name in held:
        confirm()
        workdir.child(name).put(RESCORE, b"")

    def remove(paths: Iterable[str]) -> None:
        for batch in batches(paths):
            confirm()
            workdir.delete(batch)

    # Datasets go before the datasets that they were made from, manifests before entries, entries before parts. If this
    # is interrupted anywhere, nothing that is left names a removed object, and the rest can still be found.
    for some in reversed(users):
        remove(some)
    ours = [
        (found.kind, f"{name}/{path}", size)
        for name, paths in held.items()
        for path, size in paths.items()
        if (found := layout.parse(path)) is not None and found.kind < FileKind.RESCORE
    ]
    for kind in FileKind:
        remove(path for found, path, _ in ours if found is kind)
    remove(f"{name}/{RESCORE}" for name in held)
    return len(held), sum(size for _, _, size in ours)


def _users(workdir: Directory, dropped: Iterable[str]) -> Iterator[dict[str, str]]:
    """Manifests of other datasets that were made from the removed scores, directly or through others.

    Gives the path of each manifest with the name of its dataset, in rounds: first the manifests of datasets that were
    made directly from the scores.
    """
    inputs: dict[str, set[str]] = {}
    datasets: dict[str, str] = {}
    made: dict[str, str] = {}
    gone: set[str] = set()
    for name, marker in datasets_in(workdir).items():
        if marker is None:
            continue  # nothing is removed from a folder without a marker
        folder = workdir.child(name)
        for fingerprint in fingerprints(folder):
            path = f"{name}/{layout.manifest(fingerprint)}"
            if name in dropped:
                gone.add(fingerprint)
            elif (manifest := read_manifest(folder, fingerprint)) is not None:
                inputs[path] = set(manifest.inputs.values())
                datasets[path] = name
                made[path] = fingerprint
    while found := [path for path in inputs if inputs[path] & gone]:
        yield {path: datasets[path] for path in found}
        gone = {made[path] for path in found}
        inputs = {path: read for path, read in inputs.items() if path not in found}
