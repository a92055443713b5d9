"""`annotate directions`: tags as directions in a model's hidden states, found and measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from annotate.cli.option_types import Device
from annotate.cli.terminal import console, say, visible

if TYPE_CHECKING:
    from annotate.directions import DirectionsReport
    from annotate.directions.report import TagReport
    from annotate.proof.intervals import Interval


@click.command()
@click.argument("workdir")
@click.argument("model")
@click.option("--tag", "tags", multiple=True, required=True, help="A tag; can be repeated: pairs are recombined.")
@click.option("--against", multiple=True, help="Tags that each is set against, such as the opposite one [no tag].")
@click.option("--untagged", is_flag=True, help="The model has not seen the tags: directions are found in texts alone.")
@click.option("--documents", type=click.IntRange(5), default=500, show_default=True, help="How many to look at.")
@click.option("--layer", "layers", type=click.IntRange(1), multiple=True, help="A layer; can be repeated [up to six].")
@click.option("--output", help="Token shards: only documents in them, such as those held out.")
@click.option("--out", default="directions", show_default=True, help="The folder for what is found.")
@click.option("--device", type=Device(auto=False), default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seed", default=0, show_default=True, help="Of whatever is drawn.")
def command(
    workdir: str,
    model: str,
    tags: tuple[str, ...],
    against: tuple[str, ...],
    untagged: bool,  # noqa: FBT001 - click names it
    documents: int,
    layers: tuple[int, ...],
    output: str | None,
    out: str,
    device: str,
    seed: int,
) -> None:
    """Find the directions of tags in the hidden states of MODEL, and measure them against chance.

    WORKDIR is that of a finished run, whose documents and tags are used. MODEL is a causal language model, a folder or
    a name on the hub, that was trained on the run's token shards; or any other, with --untagged.

    The folder --out gets a file for each direction, a probe of each tag that scores spans by their projection, pictures
    of steering by each layer, and the report as JSON.
    """
    from annotate.directions import find_directions

    shown = console()
    report = find_directions(
        workdir,
        model,
        tags,
        against=against,
        untagged=untagged,
        documents=documents,
        layers=layers or None,
        output=output,
        device=device,
        seed=seed,
        tell=lambda line: say(shown, visible(line)),
    )
    written = report.save(out)
    print_report(report, shown)
    say(shown, f"written to {visible(out)}: {', '.join(written)}", "green")


def print_report(report: DirectionsReport, out: Console) -> None:
    """Print what was measured, and what it means."""
    for tag in report.tags:
        _print_tag(tag, out)
    for pair in report.recombined:
        say(
            out,
            f"<{visible(pair.tags[0])}> and <{visible(pair.tags[1])}> added together, against both tags: E "
            f"{_share(pair.equivalence)}; alone {_share(pair.alone[0])} and {_share(pair.alone[1])}",
        )


def _print_tag(tag: TagReport, out: Console) -> None:
    against = ", ".join(f"<{name}>" for name in tag.against) or "text without it"
    say(out, f"<{visible(tag.tag)}> against {visible(against)}: {tag.spans[0]:,} and {tag.spans[1]:,} spans", "bold")
    known = tag.layers[0].equivalence is not None
    table = Table(
        "layer", "AUROC, texts", *(("AUROC, tags", "cosine", "by chance", "E", "E, texts", "E, random") * known)
    )
    for layer in tag.layers:
        cells = [str(layer.layer) + (" *" if layer.layer == tag.best else ""), _share(layer.auroc_texts)]
        if known:
            assert layer.cosine is not None, "it is there where E is"
            cells += [
                _share(layer.auroc),
                f"{layer.cosine.value:.2f}",
                f"{layer.cosine.chance:.2f}",
                f"{_share(layer.equivalence)} at {layer.weight:g}",
                f"{_share(layer.equivalence_texts)} at {layer.weight_texts:g}",
                f"{layer.equivalence_random:.2f}",
            ]
        table.add_row(*cells)
    out.print(table)
    say(out, "* the layer that was chosen, on other documents")
    say(out, f"the probe, which reads each span by itself: AUROC {_share(tag.auroc_alone)}")
    odds = tag.additivity
    if not math.isnan(odds.b):
        line = f"log-odds a token of spans with the tag: {odds.b:+.3f} nats a unit of the direction "
        line += f"(random directions up to {odds.b_random:.3f})"
        if not math.isnan(odds.a):
            line += f", {odds.a:+.3f} a span under the tag; a sum of both explains {odds.r2:.0%}"
            line += f", their product {odds.interaction:.0%} more"
        say(out, line)


def _share(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return "-"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"
