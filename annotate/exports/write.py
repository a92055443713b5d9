"""Writes an export to storage: the files of its parts, then those about all parts, and last the manifest.

Each file is written whole, under a name that has the number of its part. So an export that has a manifest is complete.
One that was interrupted is finished by writing it again: equal parts have equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from annotate.errors import InputError, StorageError
from annotate.exports.base import Format
from annotate.exports.windows import Vocabulary, Windows, read_windows
from annotate.storage.store import Directory, checksum

MANIFEST = "manifest.json"
README = "README.md"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of an export: a path below its root, size, 128-bit XXH3."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a part, or an export, holds.

    Attributes:
        windows: rows of the token table.
        tokens: of all windows, with padding.
        padding: tokens of padding.
        segments: pieces of documents.
        documents: documents that have a piece.
        mask_sum: targets that count in the mask that is written.
        targets_without_context: targets that count in the token table, but not in the mask that is written: some
            formats leave out the first token of a window.
        segments_without_eos: pieces that don't end in the end token, and that another piece follows in the window.
    """

    windows: int = 0
    tokens: int = 0
    padding: int = 0
    segments: int = 0
    documents: int = 0
    mask_sum: int = 0
    targets_without_context: int = 0
    segments_without_eos: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Count both."""
        return Counts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class ExportedPart:
    """What the manifest says of one part. `phase` is its phase of training, if there are phases."""

    number: int
    phase: str | None
    width: int | None
    counts: Counts
    files: tuple[Written, ...]


def export_part(
    table: pa.Table, number: int, directory: Directory, form: Format, vocabulary: Vocabulary
) -> ExportedPart:
    """Write the files of one part. They depend on its table and number alone. A part without windows has none.

    Raises:
        InputError: the table is not what `read_windows` takes, or has windows of several phases.
        StorageError: a file can't be written.
    """
    windows = read_windows(table, vocabulary, f"part {number}")
    files = []
    for path, data in form.files(windows, vocabulary, number) if len(windows) else ():
        directory.put(path, data)
        files.append(Written(path=path, bytes=len(data), checksum=checksum(data)))
    return ExportedPart(
        number=number,
        phase=_phase(table, number),
        width=windows.width,
        counts=count(windows, form, vocabulary),
        files=tuple(files),
    )


def _phase(table: pa.Table, number: int) -> str | None:
    """The phase of a part: all of its windows are of one."""
    phases = table["phase"].unique().to_pylist() if "phase" in table.column_names else []
    if len(phases) > 1:
        raise InputError(f"part {number} has windows of the phases {', '.join(map(str, phases))}; a part has one phase")
    return phases[0] if phases else None


def count(windows: Windows, form: Format, vocabulary: Vocabulary) -> Counts:
    """Count what a part has."""
    kept = int(form.mask(windows).sum(dtype=np.int64))
    followed = np.ones(len(windows.segments), bool)
    followed[windows.firsts[1:] - 1] = False  # the last of each window
    cut = 0
    if vocabulary.eos is not None and len(windows.segments):
        cut = int((followed & (windows.tokens[windows.segment_ends - 1] != vocabulary.eos)).sum())
    return Counts(
        windows=len(windows),
        tokens=len(windows.tokens),
        padding=int(windows.padding.sum()),
        segments=len(windows.segments),
        documents=len(np.unique(windows.documents)),
        mask_sum=kept,
        targets_without_context=int(windows.mask.sum(dtype=np.int64)) - kept,
        segments_without_eos=cut,
    )


def finish_export(
    parts: Sequence[ExportedPart], directory: Directory, form: Format, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Write the files about all parts, and last the manifest, which is returned.

    Args:
        parts: of the export, in the order of their numbers.
        directory: where they were written.
        form: the format of the parts.
        vocabulary: what the ids are.

    Raises:
        StorageError: a file can't be written, or one is there that the export doesn't have.
    """
    parts = [part for part in parts if part.files]
    width = parts[0].width if parts and len({part.width for part in parts}) == 1 else None
    total = sum((part.counts for part in parts), start=Counts())
    manifest = {
        "version": 1,
        "format": form.name,
        "settings": asdict(form),  # type: ignore[call-overload]  # every format is a dataclass
        "vocabulary": asdict(vocabulary),
        "token_dtype": form.token_dtype(vocabulary).name,
        "byte_order": "little",
        "window": width,
        "mask_alignment": form.mask_alignment,
        "counts": asdict(total),
        "parts": [asdict(part) for part in parts],
    }
    root = [*form.root([part.number for part in parts], directory.get)]
    named = {file.path for part in parts for file in part.files} | {file.path for file in root} | {README, MANIFEST}
    if strays := sorted(path for path, _ in directory.sizes("") if path not in named):
        raise StorageError(
            f"{directory.url} has {len(strays)} files that don't belong to this export, such as {strays[0]}",
            hint="Delete them, or export to an empty folder: a reader would take them for data.",
        )
    for path, data in root:
        directory.put(path, data)
    directory.put(README, readme(form, vocabulary, width, total).encode())
    directory.put(MANIFEST, json.dumps(manifest, indent=1).encode())
    return manifest


def write_export(
    tables: Iterable[pa.Table], directory: Directory, form: Format, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Write an export, part by part. One part is in memory at a time.

    Args:
        tables: the token table of each part, in order.
        directory: where the export goes; an earlier one of as many parts is overwritten.
        form: the format.
        vocabulary: what the ids are.

    Returns:
        The manifest.

    Raises:
        InputError: a table is not what `read_windows` takes.
        StorageError: a file can't be written, or one is there that the export doesn't have.
    """
    directory.create()
    directory.delete([MANIFEST])
    parts = [export_part(table, number, directory, form, vocabulary) for number, table in enumerate(tables)]
    return finish_export(parts, directory, form, vocabulary)


def readme(form: Format, vocabulary: Vocabulary, width: int | None, total: Counts) -> str:
    """What the export is and how to read it, in Markdown."""
    facts = {
        "format": form.name,
        "read by": f"`{form.reader}`",
        "tokenizer": vocabulary.tokenizer,
        "vocabulary, tags included": f"{vocabulary.size:,} ids; end of document {vocabulary.eos}, pad {vocabulary.pad}",
        "tokens are": f"{form.token_dtype(vocabulary).name}, little-endian",
        "window": f"{width:,} tokens" if width else "windows differ in length",
        "mask": form.mask_alignment,
        **{name.replace("_", " "): f"{n:,}" for name, n in asdict(total).items()},
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"{form.front_matter()}# Training shards: {form.name}\n\n{form.usage(vocabulary, width)}\n"
        f"| | |\n|---|---|\n{rows}\n\nFiles, sizes and checksums are in `{MANIFEST}`.\n"
    )
