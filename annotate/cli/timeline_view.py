"""`annotate status --timeline`: what a run did when, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import counted, duration, size
from annotate.cli.terminal import say, visible
from annotate.engine.timeline import Timeline

SHADES = " ▁▂▃▄▅▆▇█"
MOST_CALLS, MOST_RATES, MOST_PHASES = 10, 20, 3
PHASE_WORDS = {
    "waiting": "waiting for a free worker",
    "idle": "nothing to do",
    "other": "other work of stages",
    "lost": "lost with the worker",
}


def print_timeline(found: Timeline, out: Console) -> None:
    """Print a timeline: a line for each stage, then shares, slowest calls, rates and what was tried again."""
    since, until = (time.strftime("%H:%M:%S", time.gmtime(at)) for at in (found.start, found.end))
    say(out, f"Calls from {since} to {until} UTC, {duration(found.seconds)}, {counted(found.workers, 'worker')}")
    out.print(_stages(found, 60 if out.width >= 150 else 30 if out.width >= 110 else 15))
    say(out, f"Time of the workers: {_shares(found.shares, PHASE_WORDS)}")
    print_models(found, out)
    if found.slowest:
        say(out, "Slowest calls")
        out.print(_slowest(found))
    say(out, "Rates by node, per second of calls")
    out.print(_rates(found))
    for node in found.lost_nodes:
        say(out, f"Lost: node {visible(node)}", "yellow")
    for death in found.deaths:
        at = time.strftime("%H:%M:%S", time.gmtime(death.time))
        which = f"process {death.pid}" if death.number == 1 else f"{death.number:,} processes"
        last = "" if death.number == 1 else f"the last was process {death.pid}, "
        say(out, f"Died: {which} on {visible(death.node)}: {visible(death.why)}", "yellow")
        say(out, f"      {last}seen at {at}; its log there: {visible(death.log)}")
    for what, counts in (("Tried again", found.retries), ("Requests to stores", found.requests)):
        if counts:
            say(out, f"{what}: {', '.join(f'{visible(kind)} {number:,}' for kind, number in counts.items())}")


def print_models(found: Timeline, out: Console) -> None:
    """Print how busy the models of each stage were, or of stages that share one."""
    for stage in found.stages:
        if (model := stage.model) is not None:
            tokens = f", {model.tokens_per_second:,.0f} tokens/s a model" if model.tokens else ""
            label = visible(stage.label)
            say(out, f"{label}: models were busy for {model.share:.0%} of the time since they were loaded{tokens}")


def _stages(found: Timeline, slices: int) -> Table:
    table = _table("stage", "when", *(">calls", ">time", "of it", ">waited", ">memory"))
    for stage in found.stages:
        table.add_row(
            visible(stage.label),
            _bar(stage.running, found.workers, slices),
            f"{stage.calls:,}",
            duration(sum(stage.seconds.values())),
            _shares(_of_whole(stage.seconds), most=MOST_PHASES),
            duration(stage.waited),
            size(stage.peak),
        )
    for name, workers in (("waiting", found.waiting), ("idle", found.idle)):
        seconds = sum(workers) * found.seconds / max(1, len(workers))
        table.add_row(name, _bar(workers, found.workers, slices), "", duration(seconds), "", "", "", style="dim")
    return table


def _slowest(found: Timeline) -> Table:
    table = _table("stage", "step", "units", ">time", "of it", ">memory", "node", ">process")
    for call in found.slowest[:MOST_CALLS]:
        shares = _shares(_of_whole(call.seconds), most=MOST_PHASES)
        spent, held = duration(sum(call.seconds.values())), size(call.peak) if call.peak else "-"
        table.add_row(
            visible(call.stage), call.step, visible(call.units), spent, shares, held, call.node, f"{call.pid or '-'}"
        )
    return table


def _rates(found: Timeline) -> Table:
    table = _table("stage", "step", "node", ">calls", ">time", ">calls/s", ">rows/s", ">tokens/s")
    longest = sorted(found.rates, key=lambda rate: -rate.seconds)[:MOST_RATES]
    order = {rate.stage: i for i, rate in reversed(list(enumerate(longest)))}
    for rate in sorted(longest, key=lambda rate: (order[rate.stage], rate.step, rate.node)):
        per_second = [
            f"{number / rate.seconds:,.1f}" if number and rate.seconds else "-"
            for number in (rate.calls, rate.rows, rate.tokens)
        ]
        table.add_row(visible(rate.stage), rate.step, rate.node, f"{rate.calls:,}", duration(rate.seconds), *per_second)
    return table


def _table(*columns: str) -> Table:
    """An empty table; a column whose name begins with > is aligned to the right."""
    table = Table()
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    table.columns[0].no_wrap = False
    return table


def _bar(running: Sequence[float], workers: int, slices: int) -> Text:
    """How many of the workers are busy, slice by slice, from blank to a full block."""
    wide = len(running) // slices
    means = [sum(running[i : i + wide]) / wide for i in range(0, wide * slices, wide)]
    most = len(SHADES) - 1
    return Text("".join(SHADES[min(most, -int(-most * mean / workers // 1))] for mean in means), style="cyan")


def _of_whole(seconds: Mapping[str, float]) -> dict[str, float]:
    whole = sum(seconds.values())
    return {name: spent / whole if whole else 0.0 for name, spent in seconds.items()}


def _shares(shares: Mapping[str, float], words: Mapping[str, str] | None = None, most: int | None = None) -> str:
    """Shares of a whole, the largest first; those that round to nothing are left out."""
    largest = sorted(shares, key=lambda name: -shares[name])[:most]
    return ", ".join(f"{(words or {}).get(name, name)} {shares[name]:.0%}" for name in largest if shares[name] >= 0.005)
