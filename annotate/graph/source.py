"""A source: lists units of files outside the work directory, when a run begins."""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import xxhash

from annotate.errors import InputError
from annotate.graph.stage import Stage
from annotate.storage.manifests import ManifestWriter, Unit
from annotate.storage.refusals import Refusal, file_identity
from annotate.storage.store import Directory


@dataclass(frozen=True)
class ImportStep:
    """Work that Ray does on each of some files, before the units of a source can be listed.

    Attributes:
        label: its name in messages.
        work: is called in a worker with some of the items; returns a result for each.
        items: each has a `size` in bytes; as a string it is its name in messages.
        crashed: the result of an item that ends the worker; raises an error if it is not to be passed over.
    """

    label: str
    work: Callable[[Sequence[Any]], list[Any]]
    items: Sequence[Any]
    crashed: Callable[[Any], Any]


REFUSED = "refused"
"""The name of a count of a source: documents that end the worker of a stage."""

Imports = Generator[ImportStep, list[Any], Any]
"""Yields steps, and is sent the results of each. What it returns is given to `Source.listing` as `found`."""


class Listing:
    """Collects the units of a source, in order, and what else identifies its dataset.

    Attributes:
        writer: writes the manifest; takes counts and notes.
        known_by: what identifies the dataset in addition to its units, JSON-ready.
    """

    def __init__(
        self, directory: Directory, refused: Iterable[Refusal] = (), unreadable: Iterable[Refusal] = ()
    ) -> None:
        self.writer = ManifestWriter(directory)
        self.known_by: list[Any] = []
        self._state = xxhash.xxh3_128()
        self._refused, self._unreadable = _rows(refused), _rows(unreadable)

    def add(self, units: Iterator[Unit]) -> None:
        """Append units. Those that have refused documents say so, and those that can't be read."""
        for unit in map(self._told, units) if self._refused or self._unreadable else units:
            self.writer.add(unit)
            self._state.update(unit.identity.encode())

    def _told(self, unit: Unit) -> Unit:
        if (source := unit.source) is None:
            return unit
        file = unit.shard, file_identity(source)
        if any(unit.start <= row < unit.stop for row in self._unreadable.get(file, ())):
            return replace(unit, source=replace(source, unreadable=True))
        rows = self._refused.get(file, ())
        refused = tuple(sorted(row for row in rows if unit.start <= row < unit.stop))
        if not refused:
            return unit
        self.writer.count(REFUSED, len(refused))
        return replace(unit, source=replace(source, refused=refused))

    @property
    def identity(self) -> list[Any]:
        """What identifies the dataset, JSON-ready."""
        return [self._state.hexdigest(), *self.known_by]


def crash(what: str, hint: str) -> InputError:
    """The error for what can't be read, because a process that reads it ends."""
    return InputError(f"{what} can't be read: a process that reads it ends, each time", hint=hint)


def _rows(refusals: Iterable[Refusal]) -> dict[tuple[str, str], set[int]]:
    """The rows of refusals, by shard and file."""
    found: dict[tuple[str, str], set[int]] = {}
    for refusal in refusals:
        found.setdefault((refusal.shard, refusal.file), set()).add(refusal.row)
    return found


class Source(Stage):
    """Reads what lies outside the work directory."""

    @property
    def made_as(self) -> Literal["source"]:
        """A source."""
        return "source"

    @property
    def cut(self) -> Literal["documents"]:
        """Its units are units of documents, and the units of other stages follow them."""
        return "documents"

    def imports(self, directory: Directory) -> Imports:
        """Import files into the folder of the dataset first, step by step. Most sources import nothing."""
        del directory
        yield from ()

    def imported(self, directory: Directory) -> Any:
        """What `imports` returns, if nothing is left to import.

        Raises:
            ConfigError: something is left to import.
        """
        del directory
        return None

    @abc.abstractmethod
    def listing(
        self,
        new: Callable[[], Listing],
        found: Any,
        inputs: Mapping[str, Iterator[Unit]],
        *,
        limit: int | None,
        readers: Mapping[str, str],
    ) -> Listing:
        """List the units.

        Args:
            new: makes an empty listing, to be filled with units.
            found: what `imports` returned.
            inputs: the units of its inputs, which are sources.
            limit: documents to reach; None for all.
            readers: the columns that stages read, each with the label of one that does.

        Raises:
            InputError: something can't be read, or is not there.
        """

    def measured(self, found: Any) -> int | None:
        """Bytes of what is read, by which a run chooses the size of units; None if the size is set.

        `found` is what `imports` returned.
        """
        del found
        return None

    def choose_unit_size(self, size: int) -> None:
        """Take the size of units that a run has chosen, in bytes of text."""
        raise NotImplementedError

    def read_all(self, directory: Directory, unit: Unit) -> None:
        """Read all that any stage reads of a unit, to see whether that ends the process."""
        self.read(directory, unit)

    def crashed(self, unit: Unit) -> InputError | None:
        """The error for a unit whose reading ends the process; None if its rows are to go to quarantine."""
        return crash(f"{unit.shard}, rows {unit.start} to {unit.stop - 1}", "Write the file again.")

    @property
    def outside(self) -> Directory | None:
        """The folder that is read, in which a run must not write; None if there is no such folder."""
        return None

    def first_file(self) -> tuple[str, str, int] | None:
        """A file that is read: URL of its folder, path and bytes. Each node tries to read it; None if there is none."""
        return None
