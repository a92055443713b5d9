"""`annotate run --plan`: print what a run would do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import counted, duration, size
from annotate.cli.terminal import visible
from annotate.engine.cost import Cost, Prices
from annotate.engine.options import Options
from annotate.engine.plan import Plan
from annotate.pipeline import Pipeline

STYLES = {"done": "green", "resumable": "yellow", "stale": "yellow", "new": "cyan"}


def print_plan(pipeline: Pipeline, workdir: str, options: Options, sample: int, console: Console) -> None:
    """Plan a run and print it."""
    made = pipeline.plan(workdir, options, sample=sample)
    table = Table("stage", "state", "units", "rows", "why")
    for stage in made.stages:
        units = (
            "?" if stage.units is None else f"{stage.done:,} of {stage.units:,}" if stage.done else f"{stage.units:,}"
        )
        rows = "?" if stage.rows is None else f"{stage.rows:,}"
        state = Text(stage.state, style=STYLES[stage.state])
        table.add_row(visible(stage.label), state, units, rows, visible(stage.why))
    console.print(table)
    for corpus in made.corpora:
        reached = "" if corpus.reached == corpus.documents else f", of which {corpus.reached:,} will be reached"
        of = f"{corpus.path}: " if len(made.corpora) > 1 else ""
        text = f"{size(corpus.text_bytes)} of text"
        console.print(visible(f"{of}{counted(corpus.documents, 'document')}{reached}; {text}"))
    _print_scoring(made, console)
    if made.cost is not None:
        console.print(_cost(made.cost, options.prices))
    if made.write_bytes is not None:
        free = "unknown" if made.free_bytes is None else size(made.free_bytes)
        console.print(f"about {size(made.write_bytes)} will be written; free: {free}")
        if made.free_bytes is not None and made.write_bytes > made.free_bytes:
            console.print("this is more than the free space", style="bold red")


def _cost(cost: Cost, prices: Prices) -> str:
    return f"calls will take about {prices.told(cost)}"


def _print_scoring(made: Plan, console: Console) -> None:
    for item in made.scoring:
        rate = (
            f"{item.tokens / item.seconds:,.0f} tokens/s"
            if item.tokens
            else f"{item.spans / item.seconds:,.0f} spans/s"
        )
        console.print(
            f"{visible(item.label)}: about {duration(item.total_seconds)} with {counted(item.models, 'model')}, once "
            f"loaded (in a sample of {counted(item.spans, 'span')}, one model did {rate})"
        )
        for remark in item.remarks:
            console.print(visible(f"{item.label}: {remark}"), style="yellow")
