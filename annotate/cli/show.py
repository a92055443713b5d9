"""`annotate show`: documents with their spans, scores and tags, in the terminal."""

from __future__ import annotations

import itertools

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from annotate.cli.colours import colours, panel, span_table, tag_colours, tagged_text
from annotate.cli.documents import ANNOTATIONS, SHARDS, Target, score_samples, scored_documents, tagged_documents
from annotate.cli.terminal import console, say, visible
from annotate.errors import ConfigError

CHARACTERS = 3000  # of a document that was not asked for by name
SPANS = 60


@click.command()
@click.argument("path")
@click.option("--doc", metavar="ID", help="Show this document, whole: its id, or SHARD:ROW in the corpus.")
@click.option("-n", "documents", type=click.IntRange(1), default=3, show_default=True, help="Documents to show.")
@click.option("--scores", is_flag=True, help="Show scores span by span, also of training shards' documents.")
def command(path: str, doc: str | None, documents: int, scores: bool) -> None:  # noqa: FBT001 - click names it
    """Show documents of PATH: a work directory, a dataset in it, or a training shard.

    Training shards are shown as they stand: tags in colour, and the text after each in its colour. Annotations are
    shown span by span: scores, each with a bar for where it lies among all scores, and the tags that the last run put
    there.
    """
    target = Target.of(path)
    if target.dataset is not None and target.dataset.stage not in (SHARDS, ANNOTATIONS):
        raise ConfigError(
            f"{path} holds {target.dataset.stage}, which have no view of their own",
            hint="Show training-shards-... or annotations-..., or the work directory.",
        )
    if scores and target.file is not None:
        raise ConfigError(
            f"{path} alone has no scores: they are in the work directory",
            hint="annotate show WORKDIR --scores",
        )
    if scores and target.dataset is not None and target.dataset.stage == SHARDS:
        target = Target.of(target.workdir.url) if target.workdir is not None else target
    annotations = scores or (target.dataset is not None and target.dataset.stage == ANNOTATIONS)
    show = _show_scored if annotations else _show_tagged
    show(target, doc, documents, console())


def _show_tagged(target: Target, doc: str | None, documents: int, out: Console) -> None:
    colour_of = tag_colours(target.tag_axes(), target.axes()) if target.workdir is not None else {}
    for document in itertools.islice(tagged_documents(target, doc), documents):
        tags = dict.fromkeys(str(p["tag"]) for p in document.placements if p["kind"] in ("open", "mark"))
        fresh = [tag for tag in tags if tag not in colour_of]
        colour_of |= dict(zip(fresh, list(colours([*colour_of, *fresh]).values())[len(colour_of) :], strict=True))
        body = tagged_text(document.text, document.placements, colour_of)
        out.print(panel(body, document.id, None if doc is not None else CHARACTERS))
    if colour_of:
        out.print(Text(" ").join(Text(f"<{tag}>", style=f"bold {colour}") for tag, colour in colour_of.items()))


def _show_scored(target: Target, doc: str | None, documents: int, out: Console) -> None:
    axis_colours = colours(target.axes())
    of_tags = tag_colours(target.tag_axes(), target.axes())
    samples = score_samples(target)
    for document in itertools.islice(scored_documents(target, doc), documents):
        name = Text.assemble((visible(document.id), "bold"), (f"  {visible(document.place)}", "dim"))
        out.print(Rule(name, align="left", style="dim"))
        if document.note:
            out.print(Text(f"no scores: {visible(document.note)}", style="yellow"))
        out.print(span_table(document, axis_colours, of_tags, samples, None if doc is not None else SPANS))
    if samples:
        n = max(len(sample) for sample in samples.values())
        say(out, f"Bars: where a score lies among those of a sample of {n:,} spans.", "dim")
