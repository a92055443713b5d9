"""`annotate clean`: remove from a work directory what the last run does not use."""

from __future__ import annotations

import sys
from collections import Counter

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import counted, size
from annotate.cli.terminal import console, say, visible
from annotate.engine.clean import Cleanup, clean
from annotate.engine.events import Silent
from annotate.engine.status import status
from annotate.errors import ConfigError

MOST_NAMED = 1000


@click.command()
@click.argument("workdir")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--old-units", is_flag=True, help="Also remove units of kept datasets that the last run does not use.")
@click.option("--refused", is_flag=True, help="Also let documents be tried again that ended the worker of a stage.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(workdir: str, dry_run: bool, old_units: bool, refused: bool, yes: bool) -> None:  # noqa: FBT001 - click names them
    """Remove the files in WORKDIR that the last finished run does not use.

    These are all files of the datasets that it does not use. In the datasets that it uses, they are the files that no
    unit entry and no manifest names. The same pipeline still finds all its work. A pipeline with earlier settings has
    to make its datasets again.

    Only files that runs wrote are removed, and only from folders that runs marked as theirs.
    """
    out = console()

    def agree(found: Cleanup) -> bool:
        _list(found, out)
        return yes or _confirmed()

    found = clean(workdir, dry_run=dry_run, old_units=old_units, refused=refused, agree=agree, observer=_Said(out))
    if found.removed:
        say(out, f"Removed {size(found.bytes)}.")
    elif dry_run or not found.unused:
        _list(found, out)
    if found.not_run:
        say(
            out,
            f"{counted(found.not_run, 'score')} of spans that ended the process of a model, or took too long, stay "
            "null: no document was refused for them. `annotate run ... --rescore` tries them again, and scores all "
            "others again too.",
        )


class _Said(Silent):
    """Prints the messages of the engine."""

    def __init__(self, out: Console) -> None:
        self.out = out

    def said(self, level: str, message: str) -> None:
        say(self.out, f"{level}: {message}")


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "clean asks before it removes, and there is no terminal to ask on",
            hint="Look with --dry-run, then remove with --yes.",
        )
    return click.confirm("Remove all of this?")


def _list(found: Cleanup, out: Console) -> None:
    """Print what can be removed, one line for each dataset and reason, and what is left alone."""
    for other in found.left_alone:
        say(out, visible(f"Left alone: {other.dataset}: {other.why}."))
    if not found.unused:
        nothing = "nothing that the last run does not use" if found.finished else "no refused documents"
        say(out, f"{found.workdir} holds {nothing}.")
        return
    objects = Counter((item.dataset, item.why) for item in found.unused)
    sizes: Counter[tuple[str, str]] = Counter()
    for item in found.unused:
        sizes[item.dataset, item.why] += item.bytes
    table = Table("dataset", "objects", "size", "why")
    for column in table.columns[1:3]:
        column.justify = "right"
    for (dataset, why), n in sorted(objects.items()):
        table.add_row(Text(dataset), f"{n:,}", size(sizes[dataset, why]), why)
    table.add_section()
    table.add_row("all", f"{len(found.unused):,}", size(found.bytes), "")
    out.print(table)
    _list_shards(found, out)
    if not found.finished:
        say(out, "No run has finished there, so nothing else can be removed.", "bold yellow")
    elif not status(found.workdir).finished:
        say(
            out,
            "The newest run stopped before its end. The list also has files that only this run needs.",
            "bold yellow",
        )


def _list_shards(found: Cleanup, out: Console) -> None:
    """Name the training shards in the list whose dataset stays: a trainer may still read them."""
    paths = [f"{item.dataset}/{item.path}" for item in found.unused if item.training_shard]
    if paths:
        say(out, "Among them are training shards that the last run has replaced:")
    for path in paths[:MOST_NAMED]:
        say(out, f"  {path}")
    if len(paths) > MOST_NAMED:
        say(out, f"  and {len(paths) - MOST_NAMED:,} more")
