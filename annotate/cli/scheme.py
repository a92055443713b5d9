"""`annotate scheme`: check a tag scheme and see it on sample text, or write one to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from annotate.cli.colours import colours, tagged_text
from annotate.cli.terminal import console, say, visible
from annotate.curves import Platt
from annotate.errors import ConfigError
from annotate.randomness import keyed_hash, name_key, uniform
from annotate.tags.explain import explain
from annotate.tags.group_quantiles import fit_quantiles
from annotate.tags.placing import place
from annotate.tags.rendering import render
from annotate.tags.scheme import TagScheme
from annotate.tags.scheme_file import load_scheme, presets
from annotate.tags.states import Measured
from annotate.tags.vocabulary import shown_name

SAMPLE = (
    ("Rain fell all night. ", "By morning the river had left its bed. ", "Nobody was hurt."),
    ("You can keep bread for three days. ", "Wrap it in a cloth. ", "Never in plastic!"),
    ("Water boils at 50 degrees at sea level. ", "Ask anyone who knows."),
    (
        "The old mill stood where two roads met, and whoever came by, on foot or with a cart, stopped to hear what "
        "was new, to let the horses drink, and to ask what bread would cost when the summer was over. ",
        "Nobody remembers who built it, though there are people in the village who will tell you, at some length and "
        "without being asked, that it was their own grandfather who carried the first stone up from the river.",
    ),
)


@click.group()
def command() -> None:
    """Check a tag scheme, or write one to start from."""


@command.command()
@click.argument("file")
@click.option(
    "--tokenizer", help="Say which ids the tags would get: a tokenizer.json, a directory with one, a hub name."
)
@click.option("--reserved", multiple=True, help="A free token of the tokenizer to put a tag on; once for each tag.")
@click.option("--multiple", default=1, show_default=True, help="What the size of the vocabulary is padded to.")
def check(file: str, tokenizer: str | None, reserved: tuple[str, ...], multiple: int) -> None:
    """Check FILE, say in words what it does, and show it on sample text.

    The sample has scores that are drawn, the same each time, and quantiles of its own. With --tokenizer, the tags are
    also checked to be one token each.
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
    by_document: list[list[dict[str, object]]] = [[] for _ in SAMPLE]
    for placement in placements.to_pylist():
        by_document[placement["row"]].append(placement)
    for text, placed in zip(tagged.to_pylist(), by_document, strict=True):
        out.print("  ", tagged_text(text, placed, colours(scheme.shown)), sep="", soft_wrap=True)


@command.command()
@click.argument("file")
@click.option("--preset", "name", default="default", show_default=True, type=click.Choice(list(presets())))
def new(file: str, name: str) -> None:
    """Write a preset to FILE, to start from."""
    path = Path(file)
    if path.exists():
        raise ConfigError(f"{path} exists", hint="Choose another name; nothing is ever overwritten.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}", hint="Make it, or write the file elsewhere.")
    try:
        path.write_text(presets()[name], "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error}") from error
    out = console()
    say(out, f"Wrote {path}. What it does, on sample text: annotate scheme check {path}")
    say(out, 'In a pipeline file: load_scheme("' + str(path) + '")')


def token_ids(scheme: TagScheme, name: str, reserved: Sequence[str], multiple: int) -> list[str]:
    """The id of each tag, and how large the vocabulary is, as token shards would have them; in lines.

    Raises:
        ConfigError: there is no such tokenizer, or a tag is not one token of it; says on which line the tag is.
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
        lines.append(f"{free} of it may be free, as {slots[0]}: with --reserved the model keeps its size.")
    return lines


def sample(scheme: TagScheme) -> tuple[pa.Array, pa.Table]:
    """The sample text under a scheme, and the placements in it."""
    spans = [span for document in SAMPLE for span in document]
    lengths = np.array([len(span) for span in spans])
    row = np.repeat(np.arange(len(SAMPLE)), [len(document) for document in SAMPLE])
    first = np.searchsorted(row, row)
    before = np.cumsum(lengths) - lengths
    start = before - before[first]
    table = pa.table(
        {
            "row": row,
            "span": np.arange(len(spans)) - first,
            **dict.fromkeys(("start", "byte_start"), start),  # the sample is ASCII
            **dict.fromkeys(("end", "byte_end"), start + lengths),
        }
    )
    scores = {axis: _scores(scheme, axis, len(spans)) for axis in scheme.axes}
    read = {*scheme.columns, *(name for by in scheme.groupings for name in by)}
    columns = {name: pa.array(_values(scheme, name), pa.string()).take(pa.array(row)) for name in read}
    measured = Measured(
        spans=table,
        scores=scores,
        thresholds=fit_quantiles(scheme.quantiles, scores, columns),
        curves=dict.fromkeys(scheme.curves, Platt(a=-10.0, b=5.0)),
        columns=columns,
        shard="a sample",
    )
    ranks = {axis: np.argsort(np.argsort(values)) / len(values) for axis, values in scores.items()}
    placed = place(measured, scheme, ranks=ranks, texts=pa.array(spans, pa.large_string()))
    return render(pa.array(["".join(document) for document in SAMPLE], pa.large_string()), placed), placed


def _scores(scheme: TagScheme, axis: str, n: int) -> np.ndarray:
    """Drawn scores, on both sides of the numbers that rules compare with: float32 `[n]`."""
    drawn = uniform(keyed_hash(3, np.arange(n), name_key(axis)))
    numbers = [number for tag in scheme.tags for name, number in tag.parsed.numbers if name == axis] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    margin = max(high - low, abs(high)) / 2 or 1.0
    return (low - margin + drawn * (high - low + 2 * margin)).astype(np.float32)


def _values(scheme: TagScheme, column: str) -> list[str]:
    """A value of a column for each sample document: those that rules name, or two, one after the other."""
    named = [text for tag in scheme.tags for name, text in tag.parsed.values if name == column] or ["one", "another"]
    return [named[i % len(named)] for i in range(len(SAMPLE))]
