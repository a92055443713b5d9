"""The commands of `annotate`. An error ends a command with a message, a hint and an exit code.

Exit codes: 0 done; 1 a bug, with its traceback; 2 a wrong command, pipeline, parameter, model or tag scheme; 3 a corpus
that can't be read; 4 a work directory that can't be used, or is damaged; 5 a work unit that failed on every attempt,
or a local Ray that failed to start twice; 6 a mistake in annotate, to be reported; 7 a budget that is spent; 8 the head
of the Ray cluster was lost; 130 interrupted, 141 nobody reads the output any more, 143 ended by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from annotate.cli import interrupts
from annotate.cli.terminal import say, visible
from annotate.errors import AnnotateError, BudgetError
from annotate.installed import DISTRIBUTION
from annotate.storage import retries

COMMANDS = {
    "run": ("annotate.cli.run", "Run a pipeline file, or say what a run would do (--plan)."),
    "submit": ("annotate.cli.submit", "Run a pipeline file on a cluster, from another machine."),
    "jobs": ("annotate.cli.jobs", "List the jobs of a cluster, read their logs, end them."),
    "duplicates": ("annotate.cli.duplicates", "Find near-duplicates in a corpus, and report on them."),
    "show": ("annotate.cli.show", "Show documents with their spans, scores and tags."),
    "status": ("annotate.cli.status", "Show the state of each stage in a work directory."),
    "clean": ("annotate.cli.clean", "Remove what the last run does not use."),
    "new": ("annotate.cli.new", "Write a pipeline file to start from."),
    "scheme": ("annotate.cli.scheme", "Check a tag scheme, or write one to start from."),
    "export": ("annotate.cli.export", "Write token shards in a trainer's own format."),
    "prove": ("annotate.cli.prove", "Find out whether small models learn the tags of a run."),
    "tune": ("annotate.cli.tune", "Time a pipeline's models with other settings, here."),
    "model": ("annotate.cli.model", "Say what a model is, how to use it, and how fast it is here."),
    "directions": ("annotate.cli.directions", "Find tags as directions in a model's hidden states, and measure them."),
    "distill": ("annotate.cli.distill", "Say whether prompts change what a model writes."),
    "probe": ("annotate.cli.probe", "Train a probe on labelled spans."),
}
TELLING = {"run", "duplicates", "prove", "directions"}
"""Commands that print while they work: with nobody who reads it, they end in the middle."""


class _Commands(click.Group):
    """Imports a command only when it is used, so that help does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands, help=f"Condition tags for pretraining corpora.\n\n{(__doc__ or '').split('.', 1)[1]}")
@click.version_option(package_name=DISTRIBUTION)
def app() -> None:
    """Condition tags for pretraining corpora."""


def guarded(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. Errors of this package are printed with their hints."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with retries.telling(lambda line: say(console, visible(line), "dim")):
            code: Any = command.main(list(arguments), standalone_mode=False)
    except AnnotateError as error:
        if interrupts.came() is not None:  # the signal may have caused the error
            return interrupts.told(arguments)
        word = "[bold yellow]stopped:[/]" if isinstance(error, BudgetError) else "[bold red]error:[/]"
        console.print(f"{word} {_plain(error.message)}")
        if error.hint:
            console.print(f"[bold]hint:[/] {_plain(error.hint)}")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        return interrupts.told(arguments)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not type(sys.stdout).__module__.startswith("click."):
            raise  # of a broken pipe click makes a SystemExit, and puts an output of its own in place
        return _unread(arguments, console)
    except Exception:
        if interrupts.came() is None:
            raise
        return interrupts.told(arguments)
    return code if isinstance(code, int) else 0


def _unread(arguments: Sequence[str], console: Console) -> int:
    """What reads the output has ended, as `head` does: enough for a command that shows something, but not for work."""
    if arguments and arguments[0] in COMMANDS.keys() - TELLING:
        return 0
    with contextlib.suppress(OSError):
        said = "[bold yellow]stopped:[/] what read the output has ended; it may go to a file."
        console.print(f"{said} {interrupts.left(arguments)}")
    return 141


def _plain(text: str) -> str:
    return visible(text).replace("[", r"\[")
