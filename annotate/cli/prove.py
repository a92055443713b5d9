"""`annotate prove`: were the tags of a run learned?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.cli.option_types import Device
from annotate.cli.terminal import console, say, visible

if TYPE_CHECKING:
    from annotate.proof.findings import Proof

STYLES = {"learned": "green", "not learned": "red", "can't tell at this size": "yellow"}


@click.command()
@click.argument("workdir")
@click.option("--out", type=click.Path(file_okay=False), default="proof", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Steps of training of each model [one epoch].")
@click.option("--tokens", type=click.IntRange(1), help="Tokens of text to train each model on, instead of steps.")
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Models with true and shuffled tags."
)
@click.option("--full", is_flag=True, help="Also train with tags in part, without a pair of tags, and on without.")
@click.option(
    "--device",
    type=Device(auto=True),
    default="auto",
    show_default=True,
    help="cpu or cuda; auto: a GPU, if there is one.",
)
@click.option("--jobs", type=click.IntRange(1), help="Models at a time [CPUs; 1 on a GPU].")
@click.option("--output", metavar="NAME", help="The output to train on, if the pipeline has several.")
@click.option("--held-out", metavar="NAME", help="The output to measure on [that of the subset `evaluation`].")
@click.option("--spans", type=click.IntRange(1), default=2000, show_default=True, help="About how many to measure.")
@click.option("--width", type=click.IntRange(1), default=128, show_default=True, help="Of the models.")
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True, help="Of the models.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Windows of a step.")
@click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="The highest.")
@click.option(
    "--texts", type=click.IntRange(0), default=512, show_default=True, help="That models write under each tag."
)
@click.option("--judge", metavar="NAME", help="A shipped probe, or a file, that judges these texts [a bag of words].")
@click.option("--checkpoints", type=click.IntRange(1), default=6, show_default=True, help="How many are measured.")
def command(workdir: str, out: str, **settings: Any) -> None:
    """Train small models on the token shards of the last run in WORKDIR, with true, shuffled and no tags; compare them.

    Says how long it takes before it starts. The same command goes on where it was stopped.
    """
    if settings["steps"] is not None and settings["tokens"] is not None:
        raise click.UsageError("give --steps or --tokens, not both")
    from annotate.proof.prove import prove

    printed, told = console(), set()

    def tell(line: str) -> None:
        told.add(line)
        say(printed, visible(line))

    proof = prove(workdir, out, tell=tell, **settings)
    print_proof(proof, printed)
    for remark in proof.remarks:
        if remark not in told:
            say(printed, visible(remark), "yellow")
    report = (Path(out) / "proof.md").read_text("utf-8")
    parts = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    say(printed, visible(f"All figures: {out}/proof.md. It has: {'; '.join(parts)}."))
    say(printed, visible(f"The same for programs: {out}/proof.json. Pictures: {out}/*.svg. Models: {out}/runs."))


def print_proof(proof: Proof, printed: Console) -> None:
    """Print what was to be shown, and the verdicts."""
    table = Table("to be shown", "", "figure")
    answers = {True: Text("yes", style="green"), False: Text("no", style="red"), None: Text("not measured")}
    for gate in proof.gates:
        table.add_row(Text(visible(gate.what)), answers[gate.passed], Text(gate.figure))
    printed.print(table)
    for each in proof.verdicts:
        say(printed, visible(f"<{each.tag}>: {each.outcome}"), STYLES[each.outcome])
        say(printed, visible(f"  {each.reason}"))
