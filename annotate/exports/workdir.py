"""Exports the token shards that the last run left in a work directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike

from annotate.errors import ConfigError, StorageError
from annotate.exports.base import Format
from annotate.exports.formats import FORMATS
from annotate.exports.windows import Vocabulary
from annotate.exports.write import MANIFEST, Counts, write_export
from annotate.storage.results import read_tags, shard_tables, tags_folder
from annotate.storage.store import Directory


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export that is complete.

    Attributes:
        folder: path, or URL, of its folder.
        format: name of its format.
        window: tokens of a window; None where windows differ.
        parts: how many parts have windows.
        counts: what it holds.
    """

    folder: str
    format: str
    window: int | None
    parts: int
    counts: Counts


def export(
    workdir: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    format: str | Format,
    output: str | None = None,
) -> Export:
    """Write the token shards of the last run in a format that a trainer reads.

        exported = annotate.export("out", "exported", format="huggingface")
        exported.counts.tokens

    Args:
        workdir: the work directory.
        folder: where the export goes: a path, or a URL. It is empty, or has an export of the same format, which is
            overwritten.
        format: its name, such as "megatron"; or one with settings of its own, such as
            `annotate.exports.HuggingFace(row_group=100)`.
        output: which token shards, for a pipeline that has several outputs.

    Raises:
        ConfigError: there is no such format; or the folder is the work directory.
        StorageError: the last run left no token shards; or the folder holds something else, or can't be written.
    """
    form = _form(format)
    target = Directory.at(folder)
    if target.url == Directory.at(workdir).url:
        raise ConfigError(f"{target.url} is the work directory", hint="Export to a folder of its own.")
    vocabulary = _vocabulary(workdir, output)
    _refuse_others(target, form.name)
    manifest = write_export(shard_tables(workdir, output), target, form, vocabulary)
    return Export(
        folder=target.url,
        format=form.name,
        window=manifest["window"],
        parts=len(manifest["parts"]),
        counts=Counts(**manifest["counts"]),
    )


def _form(named: str | Format) -> Format:
    if isinstance(named, Format):
        return named
    if named not in FORMATS:
        raise ConfigError(f"there is no format {named!r}", hint=f"There are: {', '.join(FORMATS)}.")
    return FORMATS[named]()


def _refuse_others(target: Directory, name: str) -> None:
    """Refuse a folder that holds anything but an export of this format, which will be overwritten."""
    there = {path for path, _ in target.sizes("")}
    try:
        own = json.loads(target.get(MANIFEST)).get("format") == name if MANIFEST in there else False
    except (ValueError, AttributeError):
        own = False
    if there and not own:
        raise StorageError(
            f"{target.url} holds {len(there):,} files that are no export to {name!r}, such as {min(there)}",
            hint="Export to an empty folder: a reader would take them for data, and they could be overwritten.",
        )


def _vocabulary(workdir: str | PathLike[str], output: str | None) -> Vocabulary:
    """The facts about ids, from `tags.json`."""
    card = read_tags(tags_folder(workdir, output))
    shards = card["shards"]
    return Vocabulary(
        tokenizer=shards["tokenizer"],
        size=card["vocabulary"]["padded_size"],
        eos=shards["end_id"],
        pad=shards["pad_id"],
    )
