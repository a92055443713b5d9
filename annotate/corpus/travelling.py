"""Which columns of the files of a corpus are read, and by which names they travel to the shards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from annotate.corpus.column_types import Types, travelling_type
from annotate.corpus.columns import id_type
from annotate.corpus.footers import Footer
from annotate.corpus.jsonl import PROBLEM
from annotate.corpus.source_files import SourceFile
from annotate.errors import InputError

READ = ("row", "id", "text", "problem")
OURS = (*READ, "placements", "gaps", "phase")
PREFIX = "corpus_"


@dataclass(frozen=True)
class Columns:
    """The columns of a corpus that are read.

    Attributes:
        text: name of the text column.
        id: name of the id column, if there is one.
        travel: the other columns that travel to the shards; None for all. One that has a name of ours travels with
            `PREFIX` in front.
    """

    text: str
    id: str | None
    travel: tuple[str, ...] | None

    def travelling(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The other columns that travel; all in order of name, as files may have them in different orders."""
        ours = (self.text, self.id, *([PROBLEM] if file.imported else []))
        names = sorted(schema.names) if self.travel is None else self.travel
        return [name for name in names if name not in ours]

    def sources(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str] | None) -> dict[str, str]:
        """The columns of the file that are wanted, None for all that travel, by the names they travel by."""
        if extra is None:
            return {PREFIX + name if name in OURS else name: name for name in self.travelling(file, schema)}
        plain = {PREFIX + name: name for name in OURS if PREFIX + name not in schema.names}
        return {name: plain.get(name, name) for name in extra if name not in OURS}

    def wanted(self, file: SourceFile, schema: pa.Schema, extra: Sequence[str]) -> dict[str, str]:
        """The columns of the file that are wanted, by the names they travel by.

        Raises:
            InputError: there is none of such a name.
        """
        sources = self.sources(file, schema, extra)
        renamed = next((name for name in extra if name in OURS and name not in READ), None)
        if renamed is not None:
            raise InputError(
                f"a column of {file} can't be read as {renamed!r}, a name that this project uses",
                hint=f"Read it as {PREFIX + renamed!r}, the name that it travels by.",
            )
        lost = [name for name in sources.values() if name not in schema.names]
        if lost:
            raise InputError(f"{file} has no column {lost[0]!r}; it has: {', '.join(schema.names)}")
        return sources

    def types(self, file: SourceFile, schema: pa.Schema, read: Iterable[str]) -> dict[str, Types]:
        """The types of the columns that travel or are read, by the names they travel by, and those of ids."""
        sources = {**self.sources(file, schema, None), **self.sources(file, schema, tuple(read))}
        own = {name: schema.field(source).type for name, source in sources.items() if source in schema.names}
        types = {name: (kind, travelling_type(file, sources[name], kind)) for name, kind in own.items()}
        if self.id:
            types["id"] = (schema.field(self.id).type, id_type(schema.field(self.id).type))
        return types

    def there(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The columns that the owner of a file has put there: an import adds one."""
        return [name for name in schema.names if not (file.imported and name == PROBLEM)]

    def check(self, file: SourceFile, schema: pa.Schema) -> None:
        """Check that a file has the columns that are chosen, and that those that travel can.

        Raises:
            InputError: it does not; or a name is taken.
        """
        there = self.there(file, schema)
        for column in [*([self.id] if self.id else []), *(self.travel or ())]:
            if column not in there:
                raise InputError(
                    f"{file} has no column {column!r}; it has: {', '.join(there)}",
                    hint="For documents without ids: --set id=none, or `annotate duplicates` without --id."
                    if column == self.id
                    else "Choose among these the columns that travel, as in --set columns=a,b.",
                )
        if self.id:
            kind = schema.field(self.id).type
            if id_type(kind) is None:
                raise InputError(f"{file}: id column {self.id!r} has type {kind}, expected a string or an integer")
        extra = self.travelling(file, schema)
        clash = next((name for name in self._renamed(file, schema) if PREFIX + name in extra), None)
        if clash:
            raise InputError(
                f"{file}: the extra column {clash!r} has a name that this project uses, and there is a column "
                f"{PREFIX + clash!r} too, as which it would travel",
                hint="Choose the columns that travel with Corpus(columns=(...)).",
            )

    def check_read(self, file: SourceFile, schema: pa.Schema, readers: Mapping[str, str]) -> None:
        """Check that a file has the columns that stages read, given each with the stage that does.

        Raises:
            InputError: it does not.
        """
        there = self.there(file, schema)
        travelling = {PREFIX + name for name in self._renamed(file, schema)}
        for name, reader in readers.items():
            if name not in there and name not in travelling:
                near = difflib.get_close_matches(name, there, 1)
                raise InputError(
                    f"{file} has no column {name!r}, which the stage {reader!r} reads; it has: {', '.join(there)}",
                    hint=f"Did you mean {near[0]!r}?" if near else None,
                )

    def remarks(self, file: SourceFile, footer: Footer) -> list[str]:
        """What is to be said of the columns of a file."""
        said = [
            f"the column {name!r} travels as {PREFIX + name!r}: it has a name that this project uses"
            for name in self._renamed(file, footer.schema)
        ]
        extra = self.travelling(file, footer.schema)
        return said + [
            f"the column {name!r} has timestamps of the type INT96: they travel in microseconds, what is finer is cut"
            for name in footer.int96
            if name in extra
        ]

    def _renamed(self, file: SourceFile, schema: pa.Schema) -> list[str]:
        """The columns that travel under another name, as theirs is one of ours."""
        return [name for name in self.travelling(file, schema) if name in OURS]
