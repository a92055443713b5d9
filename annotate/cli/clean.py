"""`annotate clean`: remove from a work directory what the last run does not use."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.cli.terminal import console, counted, say, size, visible
from annotate.corpus.files import corpus_directory
from annotate.engine.lease import hold, holder
from annotate.engine.status import read_status
from annotate.errors import ConfigError, StorageError
from annotate.storage import layout
from annotate.storage.latest import SHARDS, Latest, Role, read_latest
from annotate.storage.layout import MARKER, Kind, Name
from annotate.storage.manifests import Manifest, read_manifest, read_units
from annotate.storage.marker import datasets_in, is_linked
from annotate.storage.parts import Entry, read_entry
from annotate.storage.store import Directory, batches

MOST_NAMED = 1000
OLD_RECIPE, NO_ENTRY, NO_MANIFEST, OLD_UNIT, UNFINISHED = (
    "the last run does not use this dataset",
    "no entry names it",
    "no manifest names it",
    "the last run does not use this unit",
    "a write that was cut short",
)


@dataclass(frozen=True)
class Unused:
    """One object that can go."""

    dataset: str
    kind: Kind
    path: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Left:
    """Something in a work directory that stays, whether it is used or not, and why."""

    dataset: str
    why: str


@click.command()
@click.argument("workdir")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--old-units", is_flag=True, help="Also remove units of kept datasets that the last run does not use.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(workdir: str, dry_run: bool, old_units: bool, yes: bool) -> None:  # noqa: FBT001 - click names them
    """Remove from WORKDIR what the last run that finished does not use.

    That is: datasets of other recipes, and in the others what no unit entry and no manifest names, and what lies
    beside token shards that no manifest names. A pipeline that
    goes back to one of those recipes makes it again. A second run of the same pipeline finds everything.

    Only what runs wrote is removed: files of a kind that they write, in folders that they marked as theirs.
    """
    directory = Directory.at(workdir)
    out = console()
    _read_latest(directory)
    if dry_run:
        _refuse_if_held(directory)
        latest = _read_latest(directory)
        _list(*find_unused(directory, latest, old_units=old_units), latest, directory, out)
        return
    run = f"clean-{uuid.uuid4().hex[:6]}"
    with hold(directory, run, share=False, what="clean", say=lambda level, text: say(out, f"{level}: {text}")) as lease:
        # Read once the lease is held: until then a run may have finished.
        latest = _read_latest(directory)
        found, left = find_unused(directory, latest, old_units=old_units)
        _list(found, left, latest, directory, out)
        if found and (yes or _confirmed()):
            remove(directory, found, lease.confirm)
            say(out, f"Removed {size(sum(item.bytes for item in found))}.")


def _read_latest(workdir: Directory) -> list[Latest]:
    latest = read_latest(workdir)
    if not latest:
        raise StorageError(
            f"no run has finished in {workdir.url}, so nothing tells what is in use",
            hint="Run a pipeline to its end first; to remove everything, remove the directory.",
        )
    return latest


def _refuse_if_held(workdir: Directory) -> None:
    if (other := holder(workdir)) is not None:
        raise StorageError(
            f"another {other.what} works in {workdir.url}: {other}",
            hint="Wait for it: what it is making looks unused until it has finished.",
        )


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on", hint="Look with --dry-run, then remove with --yes.")
    return click.confirm("Remove all of this?")


def _list(
    found: list[Unused], left: Sequence[Left], latest: Sequence[Latest], workdir: Directory, out: Console
) -> None:
    """Print what can go, a line a dataset and reason, and what stays although it may be of no use."""
    for other in left:
        say(out, visible(f"Left alone: {other.dataset}: {other.why}."))
    if not found:
        say(out, f"{workdir.url} holds nothing that the last run does not use.")
        return
    objects = Counter((item.dataset, item.why) for item in found)
    sizes: Counter[tuple[str, str]] = Counter()
    for item in found:
        sizes[item.dataset, item.why] += item.bytes
    table = Table("dataset", "objects", "size", "why")
    for column in table.columns[1:3]:
        column.justify = "right"
    for (dataset, why), n in sorted(objects.items()):
        table.add_row(Text(dataset), f"{n:,}", size(sizes[dataset, why]), why)
    table.add_section()
    table.add_row("all", f"{len(found):,}", size(sum(sizes.values())), "")
    out.print(table)
    _list_shards(found, latest, out)
    if not read_status(workdir).finished:
        say(out, "The newest run stopped before its end: what only it needs is in this list too.", "bold yellow")


def _list_shards(found: list[Unused], latest: Sequence[Latest], out: Console) -> None:
    """Name the training shards that go from datasets that stay: a trainer may read them."""
    shards = {item.dataset for item in latest if item.role in SHARDS}
    paths = [
        f"{item.dataset}/{item.path}"
        for item in found
        if item.why == OLD_UNIT and item.dataset in shards and item.kind is Kind.PART
    ]
    if paths:
        say(out, "Training shards among them, which the last run has replaced:")
    for path in paths[:MOST_NAMED]:
        say(out, f"  {path}")
    if len(paths) > MOST_NAMED:
        say(out, f"  and {len(paths) - MOST_NAMED:,} more")


def find_unused(workdir: Directory, latest: list[Latest], *, old_units: bool) -> tuple[list[Unused], list[Left]]:
    """All objects that can go, in the order in which they should: what names others before what it names.

    Args:
        workdir: the work directory.
        latest: the datasets of the last run.
        old_units: whether units that only other manifests list can go too.

    Returns:
        What can go, and what is not looked at because it is not sure that a run wrote it.

    Raises:
        StorageError: an entry or a manifest is damaged, so what it names is not known; or a dataset has a format that
            is not known.
    """
    used: dict[str, list[Latest]] = {}
    for item in latest:
        used.setdefault(item.dataset, []).append(item)
    corpora = [f"{corpus_directory(item.location).url}/" for item in latest if item.location is not None]
    found: list[Unused] = []
    left: list[Left] = []
    for name, marker in datasets_in(workdir).items():
        directory = workdir.child(name)
        if marker is None:
            left.append(Left(name, f"it has no {MARKER}, as in older versions; a run that uses it puts one there"))
            continue
        if any(corpus.startswith(f"{directory.url}/") for corpus in corpora):
            left.append(Left(name, "a corpus of the last run lies there"))
            continue
        if is_linked(directory):
            left.append(Left(name, "it is reached by a link, and may be of another work directory"))
            continue
        listed = list(directory.sizes(""))
        ours = [(path, n, about) for path, n in listed if (about := layout.parse(path)) is not None]
        if strays := sorted({path for path, _ in listed} - {path for path, _, _ in ours}):
            left.append(Left(name, f"{counted(len(strays), 'file')} that no run wrote, such as {strays[0]}"))
        if name in used:
            manifests = {item.fingerprint: item.manifest(workdir) for item in used[name]}
            imports = used[name][0].role is Role.SOURCE  # what a corpus's entries are: no manifest lists them
            found += _in_dataset(directory, name, ours, manifests, old_units=old_units and not imports)
        else:
            found += [Unused(name, about.kind, path, n, OLD_RECIPE) for path, n, about in ours]
        found += _cut_short(directory, name)
    return sorted(found, key=lambda item: (item.dataset, item.kind, item.path)), left


def _in_dataset(
    directory: Directory,
    name: str,
    listed: list[tuple[str, int, Name]],
    manifests: dict[str, Manifest],
    *,
    old_units: bool,
) -> Iterator[Unused]:
    """What of `listed` can go from a dataset that is used; `manifests` of the last run are given by fingerprint."""
    known = dict(manifests)
    old = [about.of for _, _, about in listed if about.kind is Kind.MANIFEST]
    for fingerprint in old if not old_units else ():
        if fingerprint not in known and (manifest := read_manifest(directory, fingerprint)) is not None:
            known[fingerprint] = manifest
    keys, paths = _named(directory, known)
    entries = [about.of for _, _, about in listed if about.kind is Kind.ENTRY]
    if not old_units:
        paths |= _parts(_read_entries(directory, [key for key in entries if key not in keys]))
        keys.update(entries)
    tables = {part.path for manifest in known.values() for part in manifest.parts}
    companions = {layout.companions(fingerprint) for fingerprint in known}
    for path, n, about in listed:
        kind, why = about.kind, ""
        match kind:
            case Kind.MANIFEST if about.of not in known:
                why = OLD_UNIT
            case Kind.UNIT_LIST if path not in tables:
                why = OLD_UNIT if old_units else NO_MANIFEST
            case Kind.ENTRY if about.of not in keys:
                why = OLD_UNIT
            case Kind.PART | Kind.QUARANTINE if path not in paths:
                why = OLD_UNIT if old_units else NO_ENTRY
            case Kind.COMPANION if about.of not in companions:
                why = OLD_UNIT if old_units else NO_MANIFEST
        if why:
            yield Unused(name, kind, path, n, why)


def _named(directory: Directory, manifests: dict[str, Manifest]) -> tuple[set[str], set[str]]:
    """Keys of the entries that manifests list, and paths of their parts."""
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
    """Read entries that no manifest lists: those of runs that were cut short, and pieces of wide stages."""
    with ThreadPoolExecutor(16) as pool:
        yield from (entry for entry in pool.map(lambda key: read_entry(directory, key), keys) if entry is not None)


def _cut_short(directory: Directory, name: str) -> Iterator[Unused]:
    """Temporary files that a killed process left: listings of a local store do not show them."""
    if directory.local is not None:
        for file in sorted(directory.local.rglob("*#*")):
            path = file.relative_to(directory.local).as_posix()
            whole = layout.unfinished(path)
            about = layout.parse(whole) if whole is not None else None
            if about is not None and file.is_file():
                yield Unused(name, about.kind, path, file.stat().st_size, UNFINISHED)


def remove(workdir: Directory, found: list[Unused], confirm: Callable[[], None]) -> None:
    """Remove objects, in the order given, and folders that are empty then.

    Raises:
        StorageError: one can't be removed; or `confirm`, which is called before each batch, says that it may not be.
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
    """Remove the folders that held objects and hold nothing now, that of the dataset too."""
    held = {folder / parent for item in items for parent in Path(item.path).parents}
    for path in sorted(held, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # it holds something, or is gone
            path.rmdir()
