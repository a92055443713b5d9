"""`annotate model`: look at a model before a pipeline uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.cli.option_types import Device
from annotate.cli.terminal import console, say, visible
from annotate.errors import ConfigError

if TYPE_CHECKING:
    from annotate.scorers.model_check import ModelCheck, ModelTrial

ACTIVATIONS = {
    "softmax": "softmax: one label is right",
    "sigmoid": "sigmoid of each label's logit: several labels can be right",
    "none": "none: the score is the logit itself",
}
SHORT = 40
"""Characters of a text at the head of a column."""


@click.group()
def command() -> None:
    """Look at a model before a pipeline uses it."""


@command.command()
@click.argument("name")
@click.option("--text", "texts", multiple=True, help="A text to score; can be repeated [two of ours].")
@click.option("--prompt", help="What the user says before, for a reward model with a chat template.")
@click.option("--revision", help="Branch, tag or commit of a model on the hub.")
@click.option(
    "--max-length", type=click.IntRange(4), help="Tokens of an input at most [what the model takes, or 4,096]."
)
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Padded tokens of a batch at most [2,048].")
@click.option(
    "--device",
    type=Device(auto=True),
    default="auto",
    show_default=True,
    help="cpu or cuda; auto: a GPU, if there is one.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python files that come with the model.")
@click.option("--no-run", is_flag=True, help="Do not load its weights: nothing is scored or timed.")
def check(
    name: str,
    texts: tuple[str, ...],
    prompt: str | None,
    revision: str | None,
    max_length: int | None,
    dtype: str,
    batch_tokens: int | None,
    device: str,
    trust_remote_code: bool,  # noqa: FBT001 - click names it
    no_run: bool,  # noqa: FBT001 - click names it
) -> None:
    """Say what the model NAME is, how a pipeline uses it, what it says of two texts, and how fast it is here.

    NAME is a directory, a URL of one in an object store, or a model on the Hugging Face hub.
    """
    if no_run and texts:
        raise ConfigError(
            "--no-run and --text can't be given together: a text is scored by a loaded model",
            hint="Leave one of them out.",
        )
    from annotate.scorers.model_check import check_model

    given = {
        "texts": texts or None,
        "prompt": prompt,
        "revision": revision,
        "max_length": max_length,
        "dtype": dtype,
        "batch_tokens": batch_tokens,
        "trust_remote_code": trust_remote_code,
        "device": device,
    }
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    out = console()
    found = check_model(name, run=False, **settings)
    print_model(found, out)
    if not no_run:
        with out.status("loading it ..."):
            tried = check_model(name, **settings)
        for remark in tried.remarks[len(found.remarks) :]:
            say(out, visible(remark), "yellow")
        if tried.trial is not None:
            print_trial(tried, tried.trial, out)


def print_model(found: ModelCheck, out: Console) -> None:
    """Print what is known of a model before it is loaded."""
    say(out, visible(f"{found.name}: {found.kind}, {found.architecture or 'of a class that it does not name'}"), "bold")
    table = Table(show_header=False)
    if found.labels:
        table.add_row("labels", Text(visible(f"{len(found.labels)}: {', '.join(found.labels)}")))
    if found.activation is not None:
        table.add_row("activation", ACTIVATIONS[found.activation])
    table.add_row("window", f"{found.window:,} tokens")
    table.add_row("padding", Text(visible(f"on the {found.padding}, with {found.pad_token}")))
    table.add_row("chat template", "yes" if found.chat_template else "none")
    numbers = ", ".join(f"{_many(count)} in {dtype}" for dtype, count in found.weights.items())
    table.add_row("parameters", numbers)
    table.add_row("runs in", found.dtype)
    table.add_row("files", Text(visible(found.folder)))
    out.print(table)
    say(out, "In a pipeline:")
    say(out, visible(f"  {found.usage}"), "green")
    for remark in found.remarks:
        say(out, visible(remark), "yellow")


def print_trial(found: ModelCheck, trial: ModelTrial, out: Console) -> None:
    """Print what a model gave."""
    if trial.scores:
        table = Table("score" if found.activation in (None, "none") else "score (probability)")
        for text in trial.texts:
            table.add_column(Text(visible(text[:SHORT] + ("..." if len(text) > SHORT else ""))), justify="right")
        for label, scores in trial.scores.items():
            table.add_row(Text(visible(label)), *(_score(found, score) for score in scores))
        out.print(table)
    speed = trial.speed
    say(
        out,
        f"{speed.tokens_per_second:,.0f} tokens/s in {found.dtype} on {trial.device}, one thread, "
        f"batch_tokens={found.batch_tokens:,} ({speed.texts:,} texts, {speed.tokens:,} tokens); "
        f"tokenizing {speed.prepared_per_second:,.0f} tokens/s",
    )


def _score(found: ModelCheck, score: float) -> str:
    probability = found.probability(score)
    return f"{score:.4g}" if probability is None else f"{score:.4g} ({probability:.3f})"


def _many(count: int) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 100_000 else f"{count:,}"
