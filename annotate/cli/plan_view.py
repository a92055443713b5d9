"""`annotate run --plan`: print what a run would do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import amount, counted, duration, size
from annotate.cli.terminal import visible
from annotate.engine.cost import Cost, Prices
from annotate.engine.options import Options
from annotate.engine.plan import Plan
from annotate.engine.plan_generation import GenerationPlan
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
    for item in made.generation:
        console.print(visible(_generation(item)))
    for label in made.untimed:
        console.print(
            visible(f"{label}: not timed, as the documents that it reads are still to be made"), style="yellow"
        )
    if made.cost is not None:
        console.print(_cost(made.cost, options.prices))
    if made.write_bytes is not None:
        free = "unknown" if made.free_bytes is None else size(made.free_bytes)
        console.print(f"about {size(made.write_bytes)} will be written; free: {free}")
        if made.free_bytes is not None and made.write_bytes > made.free_bytes:
            console.print("this is more than the free space", style="bold red")
    elif made.generation or made.untimed:
        console.print("how much will be written is not known before the documents are made")


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


def _generation(item: GenerationPlan) -> str:
    """What a stage will take that generates text; at most, since completions may end sooner."""
    whole = item.whole
    if not whole.documents:
        return (
            f"{item.label}: none of the openings that were looked at, the first of a unit, can be completed; so what "
            "it will take is not known"
        )
    about = "" if whole.counted else "about, by their bytes, "
    parts = [
        f"{item.label}: {counted(whole.documents, 'document')} will read {about}{whole.read_tokens:,.0f} tokens, and "
        f"write {whole.written_tokens:,.0f} at most"
    ]
    if whole.opening_bytes:
        parts.append(f"the openings are {size(round(whole.opening_bytes))} of text")
    if item.total_seconds is not None:
        parts.append(f"about {duration(item.total_seconds)} at most with {counted(item.models, 'model')}, once loaded")
    elif whole.counted:
        parts.append("its engine is not started for a plan, so the time is not known")
    else:
        parts.append("the server was asked nothing, so the time is not known")
    if whole.money is not None:
        parts.append(f"about {amount(whole.money)} at the server's prices, if each is that long")
    return "; ".join(parts)
