"""`annotate status`: the state of each stage in a work directory, and what is stuck."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import duration, size
from annotate.cli.ledger_view import ledger_table
from annotate.cli.terminal import console, say, visible
from annotate.cli.timeline_view import print_models, print_timeline
from annotate.engine.status import StageStatus, Status, status
from annotate.engine.versions import PACKAGES

QUIET_SECONDS = 120.0  # a running stage is named as stuck if it has finished no unit for so long
STYLES = {
    "done": "green",
    "running": "cyan",
    "waits for resources": "yellow",
    "partly done": "yellow",
    "nothing done": "dim",
    "not started": "dim",
    "not needed": "dim",
}


@click.command()
@click.argument("workdir")
@click.option("--stages", is_flag=True, help="Show what each stage does, in a few words.")
@click.option("--timeline", is_flag=True, help="Show what ran when, where the time went, and what was slow.")
@click.option("--provenance", is_flag=True, help="Show what one needs to repeat the run: pipeline, versions, models.")
def command(workdir: str, *, stages: bool, timeline: bool, provenance: bool) -> None:
    """Show the state of each stage in WORKDIR, in the current run or, if none is at work, in the newest.

    Nothing is written. The time that is shown as elapsed goes from the start of a stage in this run to its end, with
    all that it waited for; --timeline tells the two apart. A stage that was committed before the run has none.

    With one of the options, only what it shows is printed.
    """
    found = status(workdir)
    out = console()
    out.print(_run(found), soft_wrap=True)
    if found.error is not None:
        say(out, f"it ended with an error: {visible(found.error).splitlines()[0]}", "yellow")
    if found.stopped is not None:
        say(out, f"it was stopped: {visible(found.stopped)}", "yellow")
    if stages:
        _what_they_do(found, out)
    if timeline:
        _timeline(found, out)
    if provenance:
        _provenance(found, out)
    if stages or timeline or provenance:
        return
    out.print(_stages(found))
    if found.timeline is not None:
        print_models(found.timeline, out)
    for stage in found.stages:
        _stuck(stage, out)
    for search in dict.fromkeys(each for stage in found.stages for each in stage.searches):
        say(out, visible(search), "yellow")
    for warning in found.warnings:
        say(out, f"warning: {visible(warning)}", "yellow")
    if found.ledgers:
        say(out, "Documents" if found.finished else "Documents, by the last run that finished")
        out.print(ledger_table(found.ledgers, found.outputs))


def _what_they_do(found: Status, out: Console) -> None:
    table = Table("stage", "what it does")
    for stage in found.stages:
        table.add_row(Text(visible(stage.label)), visible(stage.about) or "a step of the import of files")
    out.print(table)


def _timeline(found: Status, out: Console) -> None:
    if found.timeline is None:
        say(out, "There is no timeline: the run has made no call.")
    else:
        print_timeline(found.timeline, out)


def _provenance(found: Status, out: Console) -> None:
    told = found.provenance
    if told is None:
        say(out, f"There is no provenance of run {found.run}." if found.run else "There is no provenance.")
        return
    pipeline, git = told["pipeline"], told["git"]
    lines = {
        "pipeline": f"{pipeline['file']}, SHA-256 {pipeline['sha256']}" if pipeline else "made by no file",
        "git": f"{git['commit']}{', with changes' if git['changed'] else ''}" if git else "none",
        "parameters": ", ".join(f"{name}={value}" for name, value in told["parameters"].items()) or "none given",
        "annotate": f"{told['annotate']}, Python {told['python']}, {told['machine']}",
        "packages": ", ".join(f"{name} {told['packages'].get(name, 'none')}" for name in PACKAGES),
    }
    for stage in told["stages"]:
        if "location" in stage:
            lines[stage["label"]] = f"{stage['location']}, fingerprint {stage['fingerprint']}"
        for model in stage.get("models", ()):
            lines[f"{stage['label']}: model"] = f"{model['name']}, revision {model['revision']}"
    say(out, "Provenance")
    table = Table(show_header=False)
    for name, value in lines.items():
        table.add_row(visible(name), visible(value))
    out.print(table)
    say(out, f"All of it, with the pipeline's text: {found.workdir}/provenance/{found.run}.json")


def _run(found: Status) -> Text:
    held = found.holder
    shown = Text(f"{found.workdir}: ")
    if held is not None:
        shown.append(visible(f"{held.run} works there, process {held.pid} on {held.host}"), style="cyan")
    elif found.finished:
        shown.append(f"finished{f', run {found.run}' if found.run else ''}", style="green")
    else:
        shown.append(f"run {found.run} stopped before its end; the same command goes on from here", style="yellow")
    return shown


def _stages(found: Status) -> Table:
    table = Table("stage", "state", "units", "rows", "size", "elapsed", "dataset")
    for column in table.columns[:6]:
        column.no_wrap = True  # in a narrow terminal, the name of the dataset is wrapped instead
    for column in table.columns[2:6]:
        column.justify = "right"
    for stage in found.stages:
        table.add_row(
            Text(stage.label),
            Text(stage.state, style=STYLES[stage.state]),
            _units(stage),
            f"{stage.rows:,}" if stage.done else "-",
            size(stage.size),
            duration(stage.seconds),
            Text(stage.dataset, style="dim"),
        )
    return table


def _units(stage: StageStatus) -> str:
    if stage.state in ("nothing done", "not started", "not needed"):
        return "-"
    if stage.state == "done":
        return f"{stage.done:,}"
    of = f"{stage.done:,} of {stage.units:,}" if stage.units else f"{stage.done:,}"
    return f"pieces, {of}" if stage.pieces else of


def _stuck(stage: StageStatus, out: Console) -> None:
    if stage.quiet is None or (stage.quiet < QUIET_SECONDS and not stage.waits):
        return
    waits = f"waits for {stage.waits}; " if stage.waits else ""
    what = f"{stage.label}: {waits}no unit was finished for {duration(stage.quiet)}"
    names = f"; in flight: {', '.join(stage.stuck)}" if stage.stuck else ""
    say(out, visible(what + names), "bold yellow")
