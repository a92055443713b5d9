"""`annotate export`: write token shards in the format that a trainer reads."""

from __future__ import annotations

import json

import click

from annotate.cli.terminal import console, say
from annotate.errors import ConfigError, StorageError
from annotate.exports.base import Format
from annotate.exports.datatrove import Datatrove
from annotate.exports.hf import HuggingFace
from annotate.exports.mds import Mds
from annotate.exports.megatron import Megatron
from annotate.exports.olmo import Olmo
from annotate.exports.windows import Vocabulary
from annotate.exports.write import export
from annotate.storage.results import read_tags, shard_tables, tags_folder
from annotate.storage.store import Directory

FORMATS: dict[str, type[Format]] = {form.name: form for form in (HuggingFace, Megatron, Datatrove, Mds, Olmo)}


@click.command()
@click.argument("workdir")
@click.argument("out")
@click.option("--format", "name", type=click.Choice(list(FORMATS)), required=True, help="What reads it.")
@click.option("--output", metavar="NAME", help="Which token shards, where a pipeline has several outputs.")
def command(workdir: str, out: str, name: str, output: str | None) -> None:
    """Write the token shards of the last run in WORKDIR to OUT, a folder or URL, in a trainer's own format."""
    target = Directory.at(out)
    if target.url == Directory.at(workdir).url:
        raise ConfigError(f"{out} is the work directory", hint="Export to a folder of its own.")
    vocabulary = vocabulary_of(workdir, output)
    _refuse_others(target, name)
    target.create()
    written = export(shard_tables(workdir, output), target, FORMATS[name](), vocabulary)
    windows, tokens, targets = (written["counts"][name] for name in ("windows", "tokens", "mask_sum"))
    say(console(), f"{windows:,} windows, {tokens:,} tokens, {targets:,} of them targets: {target.url}")
    say(console(), f"How it is loaded: {target.url}/README.md")


def _refuse_others(target: Directory, name: str) -> None:
    """Refuse a place that holds anything but an export of this format, which is written over."""
    there = {path for path, _ in target.sizes("")}
    try:
        own = json.loads(target.get("manifest.json")).get("format") == name if "manifest.json" in there else False
    except (ValueError, AttributeError):
        own = False
    if there and not own:
        raise StorageError(
            f"{target.url} holds {len(there):,} files that are no export to {name!r}, such as {min(there)}",
            hint="Export to an empty place: a reader would take them for data, and they could be written over.",
        )


def vocabulary_of(workdir: str, output: str | None) -> Vocabulary:
    """What `tags.json` says of the ids."""
    card = read_tags(tags_folder(workdir, output))
    shards = card["shards"]
    return Vocabulary(
        tokenizer=shards["tokenizer"],
        size=card["vocabulary"]["padded_size"],
        eos=shards["end_id"],
        pad=shards["pad_id"],
    )
