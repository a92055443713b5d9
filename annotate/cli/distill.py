"""`annotate distill`: look at what is to become a metatoken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from annotate.cli.run import settings_of
from annotate.cli.terminal import console, say, visible
from annotate.engine.options import Options

if TYPE_CHECKING:
    from rich.console import Console

    from annotate.directions.progress import Progress
    from annotate.generators.prompt_effect import PromptEffect

LITTLE = 0.05
"""Nats a token. In docs/metatokens.md nothing was learned of prompts at 0.02, and a part of those at 0.10 and more."""


@click.group()
def command() -> None:
    """Say whether prompts change what a model writes."""


@command.command()
@click.argument("file")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a pipeline parameter.")
@click.option("--workdir", help="Where a run has made or imported the openings, if that is so.")
@click.option("--documents", type=click.IntRange(2), default=32, show_default=True, help="Openings for each prompt.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model runs; auto means on a GPU of this machine if there is one.",
)
def check(file: str, settings: tuple[str, ...], workdir: str | None, documents: int, device: Any) -> None:
    """Complete some openings under each prompt of each Distill in FILE, and measure what the prompt changes.

    Each completion is read by the same model with the prompt and without it. How far its probabilities of the next
    token are apart is the divergence, KL(with || without), in nats a token. A metatoken can come to stand for no more
    than this: a prompt near 0 changes nothing. It is for models that run here; nothing is written.
    """
    from annotate.pipeline_files import build, load
    from annotate.reports.prompts import check_prompts

    out = console()
    definition, _ = load(file)
    pipeline = build(definition, settings_of(settings))
    say(out, "opening the corpus ...")
    told = _Told(out)
    found = check_prompts(pipeline.outputs, workdir, Options(device=device), documents, tell=told)
    for label, effects in found.items():
        from rich.table import Table
        from rich.text import Text

        say(out, visible(label), "bold")
        table = Table("prompt", "documents", "tokens", "nats a token", "95 % interval", "other first choice")
        for name, effect in effects.items():
            table.add_row(Text(visible(name)), *_cells(effect))
        out.print(table)
    say(
        out,
        "nats a token: KL(with the prompt || without). other first choice: tokens in whose place another one is the "
        "most probable without the prompt.",
    )
    for label, effects in found.items():
        if weak := [name for name, effect in effects.items() if effect is not None and effect.high < LITTLE]:
            change = "changes" if len(weak) == 1 else "change"
            little = (
                f"{label}: {', '.join(weak)} {change} little, less than {LITTLE} nats a token: a metatoken would have"
            )
            say(out, visible(f"{little} little to stand for. Try a larger model, or another prompt."), "yellow")


class _Told:
    """Says what has begun, and, if it takes more than a moment, how far it is."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._progress: Progress | None = None

    def __call__(self, what: str, done: int, of: int) -> None:
        """`done` parts of `of` are done."""
        from annotate.directions.progress import Progress

        if self._progress is None or self._progress.what != what:
            begun = "" if not of else ": completing openings, and reading the completions with the prompt and without"
            say(self._out, visible(f"{what}{begun} ..."))
            self._progress = Progress(lambda line: say(self._out, visible(line)), what)
        if done:
            self._progress.at(done, of)


def _cells(effect: PromptEffect | None) -> list[str]:
    if effect is None:
        return ["0", "0", "no opening could be completed", "", ""]
    interval = f"{effect.low:.4f} to {effect.high:.4f}"
    figures = [f"{effect.documents:,}", f"{effect.tokens:,}", f"{effect.divergence:.4f}", interval]
    return [*figures, f"{effect.changed:.1%}"]
