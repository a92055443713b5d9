"""`annotate show`: documents with their spans, scores and tags, in the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from annotate.cli.colours import colours, panel, span_table, tag_colours, tagged_text
from annotate.cli.terminal import console, say, visible
from annotate.errors import ConfigError
from annotate.reports.documents import (
    ScoredDocument,
    ScoredView,
    TaggedDocument,
    TaggedView,
    scored_views,
    tagged_views,
)
from annotate.reports.target import ANNOTATIONS, Target

CHARACTERS = 3000  # shown of a document; all of it with --doc
SPANS = 60  # shown of a document; all of them with --doc

V = TypeVar("V", TaggedView, ScoredView)


@click.command()
@click.argument("path")
@click.option("--doc", metavar="ID", help="Show this document, whole: its id, or SHARD:ROW in the corpus.")
@click.option("-n", "documents", type=click.IntRange(1), default=3, show_default=True, help="Documents to show.")
@click.option("--scores", is_flag=True, help="Show scores span by span, also for training shards.")
@click.option("--output", metavar="NAME", help="Show only this output, if the pipeline has several [all].")
def command(path: str, doc: str | None, documents: int, scores: bool, output: str | None) -> None:  # noqa: FBT001 - click names it
    """Show documents of PATH: a work directory, a dataset in it, or a training shard.

    Training shards are shown with their tags in colour, and the text after a tag in the same colour. Annotations are
    shown span by span, with scores and with the tags of the last run; a bar shows where a score lies among all
    scores. If a pipeline has several outputs, documents of each are shown.
    """
    target = Target.of(path)
    if output is not None:
        target = target.of_output(output)
    if scores or any(item.stage == ANNOTATIONS for item in target.datasets):
        _show_scored(target.of_scores(), doc, documents, console())
    else:
        _show_tagged(target, doc, documents, console())


def _show_tagged(target: Target, doc: str | None, documents: int, out: Console) -> None:
    colour_of = tag_colours(target.tag_axes(), target.axes()) if target.workdir is not None else {}
    views = tagged_views(target)
    for view in _with_headings(views, out):
        for document in itertools.islice(view.documents(doc), documents):
            view.shown += 1
            colour_of |= _fresh(document, colour_of)
            body = tagged_text(document.text, document.placements, colour_of)
            out.print(panel(body, document.id, None if doc is not None else CHARACTERS))
    hint = "Near-duplicates and documents in quarantine are not written."
    if target.workdir is not None:
        hint += f" `annotate show {target.workdir.url} --scores --doc ...` also finds those, and says why."
    _found(views, target, doc, hint)
    if colour_of:
        out.print(Text(" ").join(Text(f"<{tag}>", style=f"bold {colour}") for tag, colour in colour_of.items()))


def _fresh(document: TaggedDocument, colour_of: dict[str, str]) -> dict[str, str]:
    """Choose colours for those tags of a document that have none yet."""
    tags = dict.fromkeys(str(p["tag"]) for p in document.placements if p["kind"] in ("open", "mark"))
    fresh = [tag for tag in tags if tag not in colour_of]
    return dict(zip(fresh, list(colours([*colour_of, *fresh]).values())[len(colour_of) :], strict=True))


def _show_scored(target: Target, doc: str | None, documents: int, out: Console) -> None:
    axis_colours = colours(target.axes())
    of_tags = tag_colours(target.tag_axes(), target.axes())
    views = scored_views(target)
    for view in _with_headings(views, out):
        samples = view.samples()
        for document in itertools.islice(view.documents(doc), documents):
            view.shown += 1
            _print_scored(document, out)
            out.print(span_table(document, axis_colours, of_tags, samples, None if doc is not None else SPANS))
        if view.placed_too and view.shown:
            others = ", ".join(view.placed_too)
            say(out, f"Tags are those of {view.items['placements'].label}; for {others}, use --output.", "dim")
        if samples and view.shown:
            n = max(len(sample) for sample in samples.values())
            say(out, f"A bar shows where a score lies among those of a sample of {n:,} spans.", "dim")
    _found(views, target, doc, None)


def _print_scored(document: ScoredDocument, out: Console) -> None:
    name = Text.assemble((visible(document.id), "bold"), (f"  {visible(document.place)}", "dim"))
    out.print(Rule(name, align="left", style="dim"))
    if document.note:
        out.print(Text(f"no scores: {visible(document.note)}", style="yellow"))


def _with_headings(views: Sequence[V], out: Console) -> Iterator[V]:
    """Go through views, and print a heading before each if there are several."""
    for view in views:
        if len(views) > 1:
            say(out, visible(view.heading), "bold")
        yield view


def _found(
    views: Sequence[TaggedView] | Sequence[ScoredView], target: Target, doc: str | None, hint: str | None
) -> None:
    """Check that the document was shown, if one was asked for.

    Raises:
        ConfigError: it was not shown. The message says how many documents were looked through.
    """
    if doc is not None and not any(view.shown for view in views):
        looked = sum(view.looked for view in views)
        raise ConfigError(f"no document {doc!r} in {target.path}: looked through {looked:,} documents", hint=hint)
