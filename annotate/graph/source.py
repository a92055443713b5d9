"""A source: lists the units of what lies outside the work directory, when a run begins."""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import xxhash

from annotate.graph.stage import Stage
from annotate.storage.manifests import ManifestWriter, Unit
from annotate.storage.store import Directory


@dataclass(frozen=True)
class ImportStep:
    """Something that is done on Ray, to each of some files, before the units of a source can be listed.

    Attributes:
        label: how people know it.
        work: what a worker does to some of the items, one after the other; gives a result for each.
        items: each has a `size` in bytes, and a name as text.
    """

    label: str
    work: Callable[[Sequence[Any]], list[Any]]
    items: Sequence[Any]


Imports = Generator[ImportStep, list[Any], Any]
"""Steps, one after the other; each is sent the results of its items. What it returns `Source.listing` is given."""


class Listing:
    """Takes the units of a source in order, and what identifies the dataset beside them.

    Attributes:
        writer: of the manifest, for counts and notes.
        known_by: what identifies the dataset beside its units, JSON-ready.
    """

    def __init__(self, directory: Directory) -> None:
        self.writer = ManifestWriter(directory)
        self.known_by: list[Any] = []
        self._state = xxhash.xxh3_128()

    def add(self, units: Iterator[Unit]) -> None:
        """Append units."""
        for unit in units:
            self.writer.add(unit)
            self._state.update(unit.identity.encode())

    @property
    def identity(self) -> list[Any]:
        """What identifies the dataset, JSON-ready."""
        return [self._state.hexdigest(), *self.known_by]


class Source(Stage):
    """Reads what lies outside the work directory."""

    @property
    def made_as(self) -> Literal["source"]:
        """A source."""
        return "source"

    @property
    def cut(self) -> Literal["documents"]:
        """Its units are those of documents, which all others go by."""
        return "documents"

    def imports(self, directory: Directory) -> Imports:
        """What is to be imported into the folder of the dataset first, step by step; nothing for most."""
        del directory
        yield from ()

    def imported(self, directory: Directory) -> Any:
        """What `imports` returns, where there is nothing left to import.

        Raises:
            ConfigError: there is.
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
            new: makes an empty listing, which units go into.
            found: what `imports` returned.
            inputs: the units of its inputs, which are sources.
            limit: documents to reach; None for all.
            readers: the columns that stages read, each with the label of one that does.

        Raises:
            InputError: something can't be read, or is not there.
        """

    @property
    def outside(self) -> Directory | None:
        """The folder that is read, where a run must not write; None for none in particular."""
        return None
