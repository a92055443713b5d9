"""Reading what the last run left in a work directory: training shards, and datasets that have the units of a corpus."""

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
    """Paths, or URLs, of the training shards that the last run wrote, in the order in which they are trained on.

    This is what a trainer should read: a work directory may hold shards of earlier runs too.

    Args:
        workdir: the work directory.
        output: which shards, for a pipeline that has several: the name of the output, as in
            `Pipeline(train=..., evaluation=...)`.

    Raises:
        StorageError: there are none, or none of that name; or several, and no name says which.
    """
    directory = Directory.at(workdir)
    return list(_parts(directory, _shards(directory, output)))


def shard_tables(workdir: str | PathLike[str], output: str | None = None) -> Iterator[pa.Table]:
    """The tables of the token shards that the last run wrote, checked; in the order of `shards`.

    Args:
        workdir: the work directory.
        output: which of them, as for `shards`; text shards are none.

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

    Args:
        workdir: the work directory.
        output: which of them, as for `shards`; text shards are none.

    Raises:
        StorageError: as for `shards`.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, output, (Role.TOKEN_SHARDS,))
    return f"{directory.child(item.dataset).url}/{layout.companions(item.fingerprint)}"


def read_tags(folder: str | PathLike[str]) -> dict[str, Any]:
    """Read the `tags.json` of token shards.

    Args:
        folder: what `tags_folder` gives, or a copy of it: a path, or a URL.

    Raises:
        StorageError: there is none.
    """
    directory = Directory.at(folder)
    try:
        card: dict[str, Any] = json.loads(directory.get("tags.json"))
    except FileNotFoundError:
        raise StorageError(
            f"{directory.url} has no tags.json: these are no token shards, or it was removed",
            hint="Run the pipeline with TokenShards, in the shipped one by --set tokenizer=...; the same run of token "
            "shards writes the file again.",
        ) from None
    return card


def tables(workdir: str | PathLike[str], dataset: str, output: str | None = None) -> Iterator[pa.Table]:
    """The tables of a dataset that the last run left, a work unit at a time, in corpus order.

    Args:
        workdir: the work directory.
        dataset: its label, as `annotate status` names it: "verdicts", "signatures", "spans", "annotations (...)",
            "placements", "nested-placements", "repeated-spans", or any other that has the units of its corpus.
        output: look only among what this output was made from; there "placements" is "placements #2", where that is
            the one.

    Returns:
        Tables as `schemas/` says, each with a column `shard` in front.

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
            hint="Run the pipeline with TokenShards, in the shipped one by --set tokenizer=...",
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
