"""Documents that are taken out of training shards after the fact, by id: takedowns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError, InputError
from annotate.graph import Documents, Map, Stage, Tables, digest
from annotate.storage.contracts import contract
from annotate.storage.local_copies import local_copy
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class Excluded(Map):
    """Rows of the documents whose ids are listed.

    Only shards read this dataset: verdicts, thresholds and phases stay those of the whole corpus.

    Attributes:
        corpus: the documents; it must have an id column.
        ids: the ids of the documents to take out, as text.
    """

    corpus: Documents
    ids: tuple[str, ...]

    name: ClassVar[str] = "excluded"
    schema: ClassVar[str] = "excluded"

    def __post_init__(self) -> None:
        if self.corpus.id is None:
            raise ConfigError(
                f"documents are excluded by id, but the corpus {self.corpus.place} has no id column",
                hint="Give Corpus(id=...).",
            )

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    def settings(self) -> Mapping[str, Any]:
        """The ids, by a hash of them."""
        return {"ids": digest(sorted(set(self.ids))), "id": self.corpus.id}

    def unit(self, tables: Tables) -> UnitOutput:
        """Find the documents of a unit."""
        documents = self.corpus.reader.named(tables.directory("corpus"), tables.unit("corpus"))
        ids = documents["id"].cast(pa.string())
        found = pc.is_in(ids, pa.array(sorted(set(self.ids)), pa.string()))
        table = documents.select(["row"]).filter(found).cast(contract(self.schema).schema)
        return UnitOutput(table, counts={"ids_found": pc.count_distinct(ids.filter(found)).as_py()})

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of ids that no document has."""
        given, found = len(set(self.ids)), manifest.counts.get("ids_found", 0)
        return [f"{given - found:,} of {given:,} ids to exclude are those of no document"] if found < given else []


def read_ids(ids: str | PathLike[str] | Iterable[str | int]) -> tuple[str, ...]:
    """Ids as text: as they are given, or from a file with one a line.

    Raises:
        InputError: the file can't be read.
    """
    if not isinstance(ids, str | PathLike):
        return tuple(str(each) for each in ids)
    try:
        lines = (
            local_copy(str(ids)).read_text("utf-8-sig").splitlines()
        )  # some editors put a mark before the first line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the ids to exclude can't be read from {ids}: {error}", hint="Give a text file with one id a line."
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
