"""Reads the datasets that the last run left in a work directory: training shards, and others with units of a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import pyarrow as pa

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.latest import SHARDS, Latest, Role, made_from, outputs_left, read_latest
from annotate.storage.manifests import read_units
from annotate.storage.parts import read_part
from annotate.storage.store import Directory


def shards(workdir: str | PathLike[str], output: str | None = None) -> list[str]:
    """Paths, or URLs, of the training shards that the last run wrote, in training order.

    A trainer should read these, because a work directory may also hold shards of earlier runs.

        polars.read_parquet(annotate.shards("out"))

    Args:
        workdir: the work directory.
        output: the name of the output, as in `Pipeline(train=..., evaluation=...)`. It may be left out if only one
            output is shards.

    Raises:
        StorageError: there are no shards, or none of that name; or several outputs are shards, and none is named.
    """
    directory = Directory.at(workdir)
    return list(_parts(directory, _shards(directory, output)))


def shard_tables(workdir: str | PathLike[str], output: str | None = None) -> Iterator[pa.Table]:
    """The tables of the token shards that the last run wrote, in the order of `shards`. Checksums are checked.

    Args:
        workdir: the work directory.
        output: the name of the output, as for `shards`; it must be token shards.

    Raises:
        StorageError: as for `shards`; or a part is damaged.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, output, (Role.TOKEN_SHARDS,))
    dataset = directory.child(item.dataset)
    for unit in read_units(dataset, item.manifest(directory)):
        for entry in unit.entries:
            yield read_part(dataset, entry.part, schema=item.schema)


def tags_folder(workdir: str | PathLike[str], output: str | None = None) -> str:
    """Path, or URL, of the folder beside token shards: `tokenizer`, which knows the tags, `tags.json` and `README.md`.

        annotate.read_tags(annotate.tags_folder("out"))

    Args:
        workdir: the work directory.
        output: the name of the output, as for `shards`; it must be token shards.

    Raises:
        StorageError: as for `shards`.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, output, (Role.TOKEN_SHARDS,))
    return f"{directory.child(item.dataset).url}/{layout.companions(item.fingerprint)}"


def read_tags(folder: str | PathLike[str]) -> dict[str, Any]:
    """Read the `tags.json` of token shards.

        annotate.read_tags(annotate.tags_folder("out"))["vocabulary"]["padded_size"]

    Args:
        folder: path or URL of the folder that `tags_folder` gives, or of a copy of it.

    Raises:
        StorageError: there is no `tags.json`.
    """
    directory = Directory.at(folder)
    try:
        card: dict[str, Any] = json.loads(directory.get("tags.json"))
    except FileNotFoundError:
        raise StorageError(
            f"{directory.url} has no tags.json: it is not the folder of token shards, or the file was removed",
            hint="annotate.tags_folder(WORKDIR) names the folder. If the file was removed, run the pipeline again: it "
            "writes it again.",
        ) from None
    return card


def tables(workdir: str | PathLike[str], dataset: str, output: str | None = None) -> Iterator[pa.Table]:
    """The tables of a dataset that the last run left, a work unit at a time, in corpus order.

        pyarrow.concat_tables(annotate.tables("out", "annotations (niceness)"))

    Args:
        workdir: the work directory.
        dataset: its label, as `annotate status` shows it: "verdicts", "signatures", "spans", "annotations (...)",
            "placements", "nested-placements", "repeated-spans", or any other that has the units of its corpus.
        output: the name of an output. Only datasets that it was made from are looked at, and the number of a label can
            be left out: "placements" finds "placements #2" if the output was made from that.

    Returns:
        Tables as `schemas/` says, with one more column in front, `shard`.

    Raises:
        StorageError: the last run left no such dataset, or several, or a part is damaged.
    """
    directory = Directory.at(workdir)
    items = read_latest(directory)
    left = [item for item in (items if output is None else made_from(items, output)) if item.role is Role.UNITS]
    found = [item for item in left if item.label == dataset]
    if output is not None and not found:
        found = [item for item in left if item.label.partition(" #")[0] == dataset]
    if len(found) != 1:
        known = ", ".join(item.label for item in found or left) or "none"
        of = f" of the output {output!r}" if output is not None else ""
        raise StorageError(
            f"the last run in {directory.url} left {'several' if found else 'no'} dataset{'s' if found else ''} "
            f"{dataset!r}{of}",
            hint=f"{'They are' if found else 'It left'}: {known}.",
        )
    item = found[0]
    folder = directory.child(item.dataset)
    for unit in read_units(folder, item.manifest(directory)):
        for entry in unit.entries:
            table = read_part(folder, entry.part, schema=item.schema)
            yield table.add_column(0, "shard", pa.array([unit.shard] * table.num_rows, pa.string()))


def _shards(directory: Directory, output: str | None, roles: Sequence[Role] = SHARDS) -> Latest:
    left = [item for item in read_latest(directory) if item.role in SHARDS]
    if not left:
        raise StorageError(f"there are no training shards in {directory.url}", hint="Run a pipeline to its end first.")
    named = [item for item in left if output in (None, item.output)]
    if not named:
        raise StorageError(f"{directory.url} has no training shards of an output {output!r}", hint=outputs_left(left))
    found = [item for item in named if item.role in roles]
    if not found:
        raise StorageError(
            f"{directory.url} has text shards, no token shards: {', '.join(item.described for item in named)}",
            hint="Use TokenShards in the pipeline; in the shipped pipeline, --set tokenizer=... does that.",
        )
    if len(found) > 1:
        one = found[0].output
        raise StorageError(
            f"{directory.url} has training shards of several outputs: {', '.join(item.described for item in found)}",
            hint=f'Name one of them: output="{one}" in Python, --output {one} in a command.',
        )
    return found[0]


def _parts(workdir: Directory, item: Latest) -> Iterator[str]:
    dataset = workdir.child(item.dataset)
    for unit in read_units(dataset, item.manifest(workdir)):
        yield from (f"{dataset.url}/{entry.part.path}" for entry in unit.entries)
