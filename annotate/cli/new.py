"""`annotate new`: write a pipeline file to start from."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from annotate.cli.terminal import console, say
from annotate.errors import ConfigError
from annotate.shipped_pipelines import DEFAULT, shipped_pipelines, write_pipeline


@click.command()
@click.argument("name", required=False)
@click.option("--from", "source", default=DEFAULT, show_default=True, help="The shipped pipeline to copy.")
@click.option("--list", "listing", is_flag=True, help="List the shipped pipelines.")
def command(name: str | None, source: str, listing: bool) -> None:  # noqa: FBT001 - click names it
    """Copy a shipped pipeline to NAME.py in the current directory, with the modules that it imports."""
    out = console()
    if listing:
        table = Table(show_header=False, box=None)
        for shipped, text in shipped_pipelines().items():
            table.add_row(shipped, Text(text))
        out.print(table)
        return
    if name is None:
        raise ConfigError("a pipeline file needs a name", hint="annotate new my_pipeline, or annotate new --list")
    written = [Path(path).name for path in write_pipeline(name, source=source)]
    say(out, f"Wrote {' and '.join(written)}.")
    say(out, "It runs as it is, on a corpus made from what is on this machine:")
    say(out, f"  annotate run {written[0]} --workdir out")
    say(out, "To see what a run on your own Parquet files would take:")
    say(out, f"  annotate run {written[0]} --workdir out --set 'corpus=data/*.parquet' --plan")
