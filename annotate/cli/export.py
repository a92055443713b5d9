"""`annotate export`: write token shards in the format that a trainer reads."""

from __future__ import annotations

import click

from annotate.cli.terminal import console, say
from annotate.exports.formats import FORMATS
from annotate.exports.workdir import export


@click.command()
@click.argument("workdir")
@click.argument("out")
@click.option("--format", "name", type=click.Choice(list(FORMATS)), required=True, help="The trainer's format.")
@click.option("--output", metavar="NAME", help="The output to export, if the pipeline has several.")
def command(workdir: str, out: str, name: str, output: str | None) -> None:
    """Write the token shards of the last run in WORKDIR to OUT, a folder or URL, in a trainer's own format."""
    written = export(workdir, out, format=name, output=output)
    counts = written.counts
    say(
        console(),
        f"{counts.windows:,} windows, {counts.tokens:,} tokens, {counts.mask_sum:,} in the loss: {written.folder}",
    )
    say(console(), f"How to load them: {written.folder}/README.md")
