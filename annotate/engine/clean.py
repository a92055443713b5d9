"""Removes from a work directory what the last run does not use.

It removes datasets of other recipes. From the datasets that the last run uses it removes parts that no unit entry
names, manifest parts that no manifest names, and files beside token shards whose manifest is gone. Files that no run
wrote stay: a file is removed only if its name is one that runs write, and its folder has the marker of a run.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from annotate.corpus.files import lies_at
from annotate.engine.events import Observer, Silent
from annotate.engine.lease import hold, holder
from annotate.engine.losses import NOT_RUN
from annotate.engine.quarantine import bad_rows
from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.latest import SHARDS, Latest, Role, read_latest
from annotate.storage.layout import MARKER, FileKind, Name
from annotate.storage.manifests import Manifest, read_manifest, read_units
from annotate.storage.marker import datasets_in, is_linked
from annotate.storage.parts import Entry, read_entry
from annotate.storage.store import Directory, batches

OLD_RECIPE, NO_ENTRY, NO_MANIFEST, OLD_UNIT, UNFINISHED, REFUSED = (
    "the last run does not use this dataset",
    "no entry names it",
    "no manifest names it",
    "the last run does not use this unit",
    "a write that was cut short",
    "a document that ended a worker: the next run tries it again",
)


@dataclass(frozen=True, kw_only=True)
class Unused:
    """One object that can be removed.

    Attributes:
        dataset: its folder in the work directory.
        path: in this folder.
        bytes: its size.
        why: why it can be removed.
        training_shard: whether it is a training shard of a dataset that stays. A trainer may be reading it.
    """

    dataset: str
    path: str
    bytes: int
    why: str
    training_shard: bool


@dataclass(frozen=True, kw_only=True)
class LeftAlone:
    """A dataset that stays in the work directory, whole or in part; and why."""

    dataset: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Cleanup:
    """The objects of a work directory that the last run does not use.

    Attributes:
        workdir: path or URL of the work directory.
        unused: objects that can be removed, in the order of removal: an object is removed before those that it names.
        left_alone: folders that stay, because a run may not have written what they hold.
        removed: whether the unused objects have been removed.
        not_run: number of scores that are missing since a model was not run on their spans, which ended its process or
            took too long; None if that was not asked for, with `refused`.
        finished: whether a run has finished here. Else it is not known what is in use, and only notes of refused
            documents are removed.
    """

    workdir: str
    unused: tuple[Unused, ...]
    left_alone: tuple[LeftAlone, ...]
    removed: bool
    not_run: int | None = None
    finished: bool = True

    @property
    def bytes(self) -> int:
        """Total size of the unused objects."""
        return sum(item.bytes for item in self.unused)


def clean(
    workdir: str | PathLike[str],
    *,
    dry_run: bool = False,
    old_units: bool = False,
    refused: bool = False,
    agree: Callable[[Cleanup], bool] | None = None,
    observer: Observer | None = None,
) -> Cleanup:
    """Remove what the last finished run of a work directory does not use.

    Another run of the same pipeline finds all its work. A pipeline with earlier settings makes its datasets
    again.

        annotate.clean("out", dry_run=True).bytes

    Args:
        workdir: the work directory.
        dry_run: remove nothing; only list what would be removed.
        old_units: also remove units that the last run does not use from datasets that it uses.
        refused: also remove the notes of documents that ended a worker, so that the next run tries them again. If no
            run has finished in the directory, remove nothing but these notes.
        agree: a function that is called before anything is removed; if it returns False, nothing is. No run can start
            meanwhile. None removes at once.
        observer: receives messages about the lease on the work directory.

    Raises:
        StorageError: no run has finished there, unless `refused` is given; or one is at work; an entry or a manifest is
            damaged; a dataset has an unknown format; or an object can't be removed.
    """
    directory = Directory.at(workdir)
    _read_latest(directory, refused=refused)
    if dry_run:
        if (other := holder(directory)) is not None:
            raise StorageError(
                f"another {other.what} works in {directory.url}: {other}",
                hint="Wait for it: what it is making looks unused until it has finished.",
            )
        return _found(directory, old_units=old_units, refused=refused)
    run = f"clean-{uuid.uuid4().hex[:6]}"
    with hold(directory, run, share=False, what="clean", say=(observer or Silent()).said) as lease:
        # Only now: before the lease was held, a run could finish.
        found = _found(directory, old_units=old_units, refused=refused)
        if not found.unused or (agree is not None and not agree(found)):
            return found
        _remove(directory, found.unused, lease.confirm)
        return replace(found, removed=True)


def _read_latest(workdir: Directory, *, refused: bool) -> list[Latest]:
    latest = read_latest(workdir)
    if not latest and not (refused and datasets_in(workdir)):
        raise StorageError(
            f"no run has finished in {workdir.url}, so it is not known what is in use",
            hint="Run a pipeline to its end first; to remove everything, remove the directory. Only --refused works "
            "before: it lets documents be tried again that ended a worker.",
        )
    return latest


@dataclass(frozen=True)
class _Object:
    """One object of a dataset that can be removed."""

    kind: FileKind
    path: str
    bytes: int
    why: str


def _found(workdir: Directory, *, old_units: bool, refused: bool) -> Cleanup:
    """Find all that can be removed, with `old_units` and `refused` as for `clean`."""
    latest = _read_latest(workdir, refused=refused)
    used: dict[str, list[Latest]] = {}
    for item in latest:
        used.setdefault(item.dataset, []).append(item)
    corpora = [f"{lies_at(item.location).url}/" for item in latest if item.location is not None]
    unused: list[Unused] = []
    left: list[LeftAlone] = []
    for name, marker in datasets_in(workdir).items():
        directory = workdir.child(name)
        if marker is None:
            why = f"it has no {MARKER}, as in older versions; a run that uses it puts one there"
        elif any(corpus.startswith(f"{directory.url}/") for corpus in corpora):
            why = "a corpus of the last run lies there"
        elif is_linked(directory):
            why = "it is reached by a link, so another work directory may use its files"
        else:
            if latest:
                objects, strays = _in_folder(
                    workdir, directory, used.get(name, ()), old_units=old_units, refused=refused
                )
            else:
                objects, strays = _notes(directory), []
            shards = any(item.role in SHARDS for item in used.get(name, ()))
            unused += [
                Unused(
                    dataset=name,
                    path=item.path,
                    bytes=item.bytes,
                    why=item.why,
                    training_shard=shards and item.why == OLD_UNIT and item.kind is FileKind.PART,
                )
                for item in sorted(objects, key=lambda item: (item.kind, item.path))
            ]
            if not strays:
                continue
            files = "1 file" if len(strays) == 1 else f"{len(strays):,} files"
            why = f"{files} that no run wrote, such as {strays[0]}"
        left.append(LeftAlone(dataset=name, why=why))
    unused.sort(key=lambda item: item.dataset)
    return Cleanup(
        workdir=workdir.url,
        unused=tuple(unused),
        left_alone=tuple(left),
        removed=False,
        not_run=_scores_not_run(workdir, latest) if refused else None,
        finished=bool(latest),
    )


def _notes(directory: Directory) -> list[_Object]:
    """The notes of refused documents."""
    listed = [(path, n) for path, n in directory.sizes(f"{layout.REFUSALS}/") if layout.parse(path) is not None]
    return [_Object(FileKind.REFUSAL, path, n, REFUSED) for path, n in listed]


def _scores_not_run(workdir: Directory, latest: Sequence[Latest]) -> int:
    """Number of scores that the last run lacks since the model was not run on their spans."""
    found = 0
    for item in latest:
        if item.role is Role.UNITS:
            directory = workdir.child(item.dataset)
            units = read_units(directory, item.manifest(workdir))
            parts = (entry.quarantine for unit in units for entry in unit.entries if entry.quarantine is not None)
            rows = bad_rows(directory, parts)
            found += sum(row["axis"] is not None and row["reason"] in NOT_RUN.values() for row in rows)
    return found


def _in_folder(
    workdir: Directory, directory: Directory, used: Sequence[Latest], *, old_units: bool, refused: bool
) -> tuple[list[_Object], list[str]]:
    """Find what can be removed from the folder of a dataset, and the paths that no run wrote."""
    listed = list(directory.sizes(""))
    ours = [(path, n, about) for path, n in listed if (about := layout.parse(path)) is not None]
    strays = sorted({path for path, _ in listed} - {path for path, _, _ in ours})
    if used:
        manifests = {item.fingerprint: item.manifest(workdir) for item in used}
        imports = used[0].role is Role.SOURCE  # the entries of a corpus are its imports, which no manifest lists
        found = list(_in_dataset(directory, ours, manifests, old_units=old_units and not imports))
        found += _notes(directory) if refused else []
    else:
        found = [_Object(about.kind, path, n, OLD_RECIPE) for path, n, about in ours]
    return [*found, *_cut_short(directory)], strays


def _in_dataset(
    directory: Directory,
    listed: list[tuple[str, int, Name]],
    manifests: dict[str, Manifest],
    *,
    old_units: bool,
) -> Iterator[_Object]:
    """Yield the objects in `listed` that can be removed from a dataset in use.

    `manifests` are those of the last run, by fingerprint.
    """
    known = dict(manifests)
    old = [about.of for _, _, about in listed if about.kind is FileKind.MANIFEST]
    for fingerprint in old if not old_units else ():
        if fingerprint not in known and (manifest := read_manifest(directory, fingerprint)) is not None:
            known[fingerprint] = manifest
    keys, paths = _named(directory, known)
    entries = [about.of for _, _, about in listed if about.kind is FileKind.ENTRY]
    if not old_units:
        paths |= _parts(_read_entries(directory, [key for key in entries if key not in keys]))
        keys.update(entries)
    tables = {part.path for manifest in known.values() for part in manifest.parts}
    companions = {layout.companions(fingerprint) for fingerprint in known}
    for path, n, about in listed:
        kind, why = about.kind, ""
        match kind:
            case FileKind.MANIFEST if about.of not in known:
                why = OLD_UNIT
            case FileKind.MANIFEST_PART if path not in tables:
                why = OLD_UNIT if old_units else NO_MANIFEST
            case FileKind.ENTRY if about.of not in keys:
                why = OLD_UNIT
            case FileKind.PART | FileKind.QUARANTINE if path not in paths:
                why = OLD_UNIT if old_units else NO_ENTRY
            case FileKind.COMPANION if about.of not in companions:
                why = OLD_UNIT if old_units else NO_MANIFEST
        if why:
            yield _Object(kind, path, n, why)


def _named(directory: Directory, manifests: dict[str, Manifest]) -> tuple[set[str], set[str]]:
    """Keys of the entries that manifests list, and paths of the parts of these entries."""
    keys: set[str] = set()
    paths: set[str] = set()
    for manifest in manifests.values():
        for unit in read_units(directory, manifest):
            keys.update(entry.key for entry in unit.entries)
            paths |= _parts(unit.entries)
    return keys, paths


def _parts(entries: Iterable[Entry]) -> set[str]:
    return {part.path for entry in entries for part in entry.parts}


def _read_entries(directory: Directory, keys: list[str]) -> Iterator[Entry]:
    """Read entries that no manifest lists: of interrupted runs, and of pieces that were merged."""
    with ThreadPoolExecutor(16) as pool:
        yield from (entry for entry in pool.map(lambda key: read_entry(directory, key), keys) if entry is not None)


def _cut_short(directory: Directory) -> Iterator[_Object]:
    """Temporary files that a killed process left. Listings of a local store do not show them."""
    if directory.local is not None:
        for file in sorted(directory.local.rglob("*#*")):
            path = file.relative_to(directory.local).as_posix()
            whole = layout.unfinished(path)
            about = layout.parse(whole) if whole is not None else None
            if about is not None and file.is_file():
                yield _Object(about.kind, path, file.stat().st_size, UNFINISHED)


def _remove(workdir: Directory, found: Sequence[Unused], confirm: Callable[[], None]) -> None:
    """Remove objects, in the order given, and then the folders that are empty.

    Raises:
        StorageError: an object can't be removed; or `confirm`, which is called before each batch, forbids it.
    """
    by_dataset: dict[str, list[Unused]] = {}
    for item in found:
        by_dataset.setdefault(item.dataset, []).append(item)
    for name, items in by_dataset.items():
        directory = workdir.child(name)
        for batch in batches(item.path for item in items if item.why != UNFINISHED):
            confirm()
            directory.delete(batch)
        if directory.local is not None:
            confirm()
            for item in items:
                if item.why == UNFINISHED:
                    (directory.local / item.path).unlink(missing_ok=True)
            _remove_empty(directory.local, items)


def _remove_empty(folder: Path, items: list[Unused]) -> None:
    """Remove the folders that held these objects, if they are empty now; the folder of the dataset too."""
    held = {folder / parent for item in items for parent in Path(item.path).parents}
    for path in sorted(held, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # it holds something, or is gone
            path.rmdir()
