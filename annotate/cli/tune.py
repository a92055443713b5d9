"""`annotate tune`: time a pipeline's models with other settings, and print what to write into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from annotate.amounts import counted, size
from annotate.cli.run import settings_of
from annotate.cli.terminal import console, say, visible
from annotate.engine.options import Options
from annotate.models.trials import SECONDS, Trial, Trials

if TYPE_CHECKING:
    from rich.console import Console

    from annotate.engine.tune import TunedStages
    from annotate.pipeline_files import Definition


@click.command()
@click.argument("file")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a pipeline parameter.")
@click.option("--workdir", help="Where a run has imported the corpus, if that is of JSON lines.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where models are timed; auto means on a GPU of this machine if there is one.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.01),
    default=SECONDS,
    show_default=True,
    help="About what one pass over the sample takes. Each trial has two.",
)
def command(file: str, settings: tuple[str, ...], workdir: str | None, device: Any, seconds: float) -> None:
    """Time the models of the pipeline that FILE defines with other settings, here, on a sample of its corpus.

    Prints tokens a second by dtype and batch_tokens, how far scores move, and the settings to write into the pipeline.
    Both are part of what determines the bytes of scores: after a change all spans are scored anew.
    """
    options, given = Options(device=device), settings_of(settings)
    from annotate.engine.tune import tune
    from annotate.pipeline_files import build, load

    out = console()
    definition, _ = load(file)
    pipeline = build(definition, given)
    with out.status("opening the corpus ...") as status:
        found = tune(
            pipeline.outputs,
            workdir,
            options,
            seconds,
            checks=pipeline.checks,
            starts=lambda label: status.update(visible(f"{label}: loading the model ...")),
            tell=lambda trial: status.update(f"timing: {_settings(trial)} {_rate(trial)} ..."),
        )
    for stages in found:
        print_trials(stages, definition, out)


def print_trials(stages: TunedStages, definition: Definition, out: Console) -> None:
    """Print what was tried, and what to write."""
    from rich.table import Table
    from rich.text import Text

    trials = stages.trials
    place = "a GPU" if trials.device != "cpu" else counted(trials.threads, "CPU thread")
    say(out, visible(f"{stages.label}: {trials.model} on {place}"), "bold")
    say(out, f"sample: {trials.spans:,} spans, {trials.tokens:,} tokens")
    memory = ["memory"] if trials.now.memory is not None else []
    moved = f"of {trials.spans:,} change sides"
    table = Table("dtype", "batch_tokens", "tokens/s", "times", "scores off by", moved, *memory)
    for trial in trials.tried:
        now = " (now)" if trial is trials.now else ""
        cells = [Text(visible(trial.problem), style="yellow")]
        if not trial.problem:
            times = trial.tokens_per_second / trials.now.tokens_per_second
            cells = [Text(_rate(trial)), Text(f"{times:.2f}"), Text(f"{trial.off:.2%}")]
            cells += [Text(f"{trial.flipped * trials.spans:,.0f}"), *(Text(size(trial.memory)) for _ in memory)]
        table.add_row(trial.dtype, f"{trial.batch_tokens:,}{now}", *cells)
    out.print(table)
    say(out, "scores off by: root mean square, of their standard deviation. change sides: spans, of the quantile 0.7.")
    _print_choice(stages, definition, out)


def _print_choice(stages: TunedStages, definition: Definition, out: Console) -> None:
    trials, best = stages.trials, stages.trials.best
    if best == trials.now:
        say(out, "The settings as they are were the fastest.", "green")
    else:
        times = best.tokens_per_second / trials.now.tokens_per_second
        say(out, f"{_settings(best)} is {times:.2f} times as fast. Write into the pipeline:")
        for line in stages.lines:
            say(out, visible(f"  {line}"), "green")
        if flags := _flags(best, definition):
            say(out, visible(f"or run it with {flags}"))
    say(out, _feeders(trials, best))


def _flags(best: Trial, definition: Definition) -> str:
    """What sets them on the command line, if the pipeline has parameters of these names."""
    from annotate.pipeline_files import parameters

    values = {"dtype": best.dtype, "batch_tokens": best.batch_tokens}
    there = values.keys() & parameters(definition).keys()
    return " ".join(f"--set {name}={value}" for name, value in values.items()) if len(there) == len(values) else ""


def _feeders(trials: Trials, best: Trial) -> str:
    """How many CPUs tokenize as fast as the model reads."""
    needed = best.tokens_per_second / trials.prepared_per_second
    return (
        f"One CPU tokenizes {trials.prepared_per_second:,.0f} tokens/s: a model at {best.tokens_per_second:,.0f} keeps "
        f"{needed:.2f} CPUs busy with that."
    )


def _settings(trial: Trial) -> str:
    return f'dtype="{trial.dtype}", batch_tokens={trial.batch_tokens}'


def _rate(trial: Trial) -> str:
    return f"{trial.tokens_per_second:,.0f}"
