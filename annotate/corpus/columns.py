"""The columns of a corpus that are read, and the names by which they travel to the shards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from annotate.corpus.arrow_types import id_type
from annotate.corpus.column_types import Types, travelling_type
from annotate.corpus.footers import Footer
from annotate.corpus.jsonl import PROBLEM
from annotate.corpus.source_files import SourceFile
from annotate.errors import InputError

READ = ("row", "id", "text", "problem")
"""The columns of documents that annotate makes itself. Stages read them by these names."""
RESERVED_NAMES = (*READ, "placements", "gaps", "phase")
"""The columns of shards that annotate makes itself."""
PREFIX = "corpus_"


@dataclass(frozen=True)
class Columns:
    """The columns of a corpus that are read.

    Attributes:
        text: name of the text column.
        id: name of the id column, if there is one.
        travel: the other columns that travel to the shards; None for all. A column with one of the names
            `RESERVED_NAMES` travels with `PREFIX` in front of its name.
    """

    text: str
    id: str | None
    travel: tuple[str, ...] | None

    def travelling(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The other columns that travel. If all do, they are sorted by name: files may have different orders."""
        ours = (self.text, self.id, *([PROBLEM] if file.imported else []))
        names = sorted(schema.names) if self.travel is None else self.travel
        return [name for name in names if name not in ours]

    def sources(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str] | None) -> dict[str, str]:
        """The columns of a file, by the names they travel by: those in `extra`, or with None all that travel."""
        if extra is None:
            return {PREFIX + name if name in RESERVED_NAMES else name: name for name in self.travelling(file, schema)}
        plain = {PREFIX + name: name for name in RESERVED_NAMES if PREFIX + name not in schema.names}
        return {name: plain.get(name, name) for name in extra if name not in RESERVED_NAMES}

    def wanted(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str]) -> dict[str, str]:
        """The columns of a file that have the names in `extra`, by the names they travel by.

        Raises:
            InputError: there is no column of such a name.
        """
        sources = self.sources(file, schema, extra)
        renamed = next((name for name in extra if name in RESERVED_NAMES and name not in READ), None)
        if renamed is not None:
            raise InputError(
                f"a column of {file} can't be read as {renamed!r}, a name that annotate itself uses",
                hint=f"Read it as {PREFIX + renamed!r}, the name that it has in the shards.",
            )
        lost = [name for name in sources.values() if name not in schema.names]
        if lost:
            raise InputError(
                f"{file} has no column {lost[0]!r}; it has: {', '.join(schema.names)}",
                hint="Name one of these columns.",
            )
        return sources

    def types(self, file: SourceFile, schema: pa.Schema, read: Iterable[str]) -> dict[str, Types]:
        """The types of the ids, and of the columns that travel or are read, by the names they travel by."""
        sources = {**self.sources(file, schema, None), **self.sources(file, schema, tuple(read))}
        own = {name: schema.field(source).type for name, source in sources.items() if source in schema.names}
        types = {name: (kind, travelling_type(file, sources[name], kind)) for name, kind in own.items()}
        if self.id:
            types["id"] = (schema.field(self.id).type, id_type(schema.field(self.id).type))
        return types

    def there(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The columns that a file had from its owner: the import of JSON lines adds one, which is left out."""
        return [name for name in schema.names if not (file.imported and name == PROBLEM)]

    def check(self, file: SourceFile, schema: pa.Schema) -> None:
        """Check that a file has the columns that were chosen, and that each has a name to travel by.

        Raises:
            InputError: a column is missing, ids are neither strings nor integers, or two columns would have one name.
        """
        there = self.there(file, schema)
        for column in [*([self.id] if self.id else []), *(self.travel or ())]:
            if column not in there:
                raise InputError(
                    f"{file} has no column {column!r}; it has: {', '.join(there)}",
                    hint="If documents have no ids, write Corpus(..., id=None); for the shipped pipeline --set "
                    "id=none, and `annotate duplicates` without --id."
                    if column == self.id
                    else "Choose from these the columns that travel, as in --set columns=a,b.",
                )
        if self.id:
            kind = schema.field(self.id).type
            if id_type(kind) is None:
                raise InputError(
                    f"{file}: id column {self.id!r} has type {kind}, expected a string or an integer",
                    hint="Name another column, or go without ids: Corpus(..., id=None), or --set id=none.",
                )
        extra = self.travelling(file, schema)
        clash = next((name for name in self._renamed(file, schema) if PREFIX + name in extra), None)
        if clash:
            raise InputError(
                f"{file}: column {clash!r} has a name that annotate itself uses, so in the shards it would be called "
                f"{PREFIX + clash!r}; but there is a column of that name too",
                hint="Leave one of them out: choose the columns that travel with Corpus(columns=(...)).",
            )

    def check_read(self, file: SourceFile, schema: pa.Schema, readers: Mapping[str, str]) -> None:
        """Check that a file has the columns that stages read.

        Args:
            file: a file of the corpus.
            schema: of the file.
            readers: the columns by the names they travel by, each with the name of a stage that reads it.

        Raises:
            InputError: a column is missing.
        """
        there = self.there(file, schema)
        travelling = {PREFIX + name for name in self._renamed(file, schema)}
        for name, reader in readers.items():
            if name not in there and name not in travelling:
                near = difflib.get_close_matches(name, there, 1)
                raise InputError(
                    f"{file} has no column {name!r}, which the stage {reader!r} reads; it has: {', '.join(there)}",
                    hint=f"Did you mean {near[0]!r}?" if near else "Name one of these columns in that stage.",
                )

    def remarks(self, file: SourceFile, footer: Footer) -> list[str]:
        """Remarks to users on columns of a file that have another name or other values in the shards."""
        said = [
            f"the column {name!r} travels as {PREFIX + name!r}: annotate itself uses its name"
            for name in self._renamed(file, footer.schema)
        ]
        extra = self.travelling(file, footer.schema)
        return said + [
            f"the column {name!r} has timestamps of the type INT96: they travel in microseconds, anything finer is cut"
            for name in footer.int96
            if name in extra
        ]

    def _renamed(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The columns that travel under another name, because annotate itself uses theirs."""
        return [name for name in self.travelling(file, schema) if name in RESERVED_NAMES]
