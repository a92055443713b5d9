"""`annotate scheme`: check a tag scheme and see it on sample text, or write one to start from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from annotate.cli.colours import colours, tagged_text
from annotate.cli.terminal import console, say, visible
from annotate.errors import ConfigError
from annotate.storage.store import Directory
from annotate.tags.in_words import explain
from annotate.tags.sample_text import sample
from annotate.tags.scheme import TagScheme
from annotate.tags.scheme_file import load_scheme, presets
from annotate.tags.vocabulary import shown_name


@click.group()
def command() -> None:
    """Check a tag scheme, or write one to start from."""


@command.command()
@click.argument("file")
@click.option(
    "--tokenizer", help="Say which ids the tags get in this tokenizer: a tokenizer.json, a directory, or a hub name."
)
@click.option("--reserved", multiple=True, help="A free token of the tokenizer that a tag takes; one for each tag.")
@click.option("--multiple", default=1, show_default=True, help="Pad the size of the vocabulary to a multiple of this.")
def check(file: str, tokenizer: str | None, reserved: tuple[str, ...], multiple: int) -> None:
    """Check FILE, say in words what it does, and show it on sample text.

    The scores of the sample text are drawn at random, the same each time; quantiles are those of these scores. With
    --tokenizer, the command also checks that each tag is one token.
    """
    if tokenizer is None and (reserved or multiple != 1):
        raise ConfigError("--reserved and --multiple are about a tokenizer", hint="Name one with --tokenizer.")
    scheme = load_scheme(file)
    ids = token_ids(scheme, tokenizer, reserved, multiple) if tokenizer is not None else []
    out = console()
    for line in explain(scheme):
        say(out, visible(line))
    if ids:
        say(out, f"\nWith the tokenizer {tokenizer}:", "bold")
    for line in ids:
        say(out, f"  {visible(line)}")
    say(out, "\nOn sample text with drawn scores:", "bold")
    tagged, placements = sample(scheme)
    by_document: list[list[dict[str, object]]] = [[] for _ in tagged]
    for placement in placements.to_pylist():
        by_document[placement["row"]].append(placement)
    for text, placed in zip(tagged.to_pylist(), by_document, strict=True):
        out.print("  ", tagged_text(text, placed, colours(scheme.shown)), sep="", soft_wrap=True)


@command.command()
@click.argument("file")
@click.option("--preset", "name", default="default", show_default=True, type=click.Choice(list(presets())))
def new(file: str, name: str) -> None:
    """Write a preset to FILE, which may be a URL, to start from."""
    folder, written = Directory.of_file(file)
    if folder.local is not None and not folder.local.is_dir():
        raise ConfigError(f"there is no folder {folder.url}", hint="Make it, or write the file elsewhere.")
    if not folder.put_new(written, presets()[name].encode()):
        raise ConfigError(f"{file} exists", hint="Choose another name; nothing is ever overwritten.")
    out = console()
    say(out, f"Wrote {file}. To see what it does on sample text: annotate scheme check {shlex.quote(file)}")
    say(out, f'In a pipeline file: load_scheme("{file}")')


def token_ids(scheme: TagScheme, name: str, reserved: Sequence[str], multiple: int) -> list[str]:
    """Say in lines which id each tag would get in token shards, and how large the vocabulary would be.

    Raises:
        ConfigError: there is no such tokenizer, or a tag is not one token of it. The message names the line of the tag.
    """
    from annotate.tokens import add_tags, load_tokenizer, reserved_slots, token_bits, vocabulary_size

    untagged = load_tokenizer(name)
    closing = [shown_name(each, scheme.control) for each in scheme.closed]
    try:
        tagged, vocabulary = add_tags(untagged, scheme.shown, closing=closing, reserved=reserved)
    except ConfigError as error:
        raise scheme.located(error) from None
    old, new = vocabulary_size(untagged), vocabulary_size(tagged, multiple=multiple)
    lines = [f"{token} is {number}" for token, number in vocabulary.tokens.items()]
    padded = f", padded to a multiple of {multiple:,}" if multiple > 1 else ""
    lines.append(f"{old:,} ids without the tags, {new:,} with them{padded}: {token_bits(new)} bits a token in files.")
    slots = [slot for slot in reserved_slots(untagged) if slot not in reserved]
    if token_bits(new) > token_bits(old):
        lines.append("The tags do not fit beside the others in 16 bits: put them on free tokens with --reserved.")
    if slots and not reserved:
        free = f"{len(slots):,} tokens" if len(slots) > 1 else "A token"
        lines.append(f"{free} of it may be free, such as {slots[0]}: --reserved puts tags there, not on new ids.")
    return lines
