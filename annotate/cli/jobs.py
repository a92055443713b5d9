"""`annotate jobs`: the jobs of a cluster, their logs and states, and how to end them."""

from __future__ import annotations

import datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import duration
from annotate.cli.terminal import console, say, visible
from annotate.jobs.running import Job, cancel_job, find_job, job_log, list_jobs
from annotate.jobs.server import ADDRESS_VARIABLES


class _Address(click.Option):
    """An option whose error names the variable that can take its place."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'--address' (or the variable {ADDRESS_VARIABLES[0]})"


ADDRESS = click.option(
    "--address",
    cls=_Address,
    required=True,
    envvar=ADDRESS_VARIABLES,
    metavar="URL",
    help="The head's dashboard, as in http://localhost:8265 [the variables RAY_API_SERVER_ADDRESS, RAY_ADDRESS].",
)
STYLES = {"pending": "dim", "running": "cyan", "stopped": "yellow", "succeeded": "green", "failed": "red"}
_FAILED = 5  # exit code, if the job ended without one of its own


@click.group()
def command() -> None:
    """List the jobs of a cluster, show one, read its log, end it. `annotate submit` starts them."""


@command.command("list")
@ADDRESS
def list_(address: str) -> None:
    """List the jobs that were submitted to the cluster, the newest last."""
    out = console()
    jobs = list_jobs(address)
    if not jobs:
        say(out, "No job was submitted to this cluster.")
        return
    table = Table("job", "state", "pipeline", "since", "time", "work directory")
    for job in jobs:
        table.add_row(
            Text(visible(job.id)),
            Text(job.state, style=STYLES[job.state]),
            Text(visible(job.pipeline or job.command)),
            _clock(job.started),
            _time(job),
            Text(visible(job.workdir)),
        )
    out.print(table)


@command.command()
@click.argument("job")
@ADDRESS
def status(job: str, address: str) -> None:
    """Show the state of JOB. `annotate status WORKDIR` shows how far its stages are."""
    _show(find_job(job, address=address), console())


@command.command()
@click.argument("job")
@click.option("--follow", is_flag=True, help="Go on until the job ends, and exit with its exit code.")
@ADDRESS
def log(job: str, address: str, follow: bool) -> int:  # noqa: FBT001 - click names it
    """Print the log of JOB."""
    out = console()
    if follow:
        follow_log(job, address, out)
        return ended(job, address, out)
    for piece in job_log(job, address=address):
        say(out, visible(piece.rstrip("\n")))
    return 0


@command.command()
@click.argument("job")
@ADDRESS
def cancel(job: str, address: str) -> None:
    """End JOB. What it has committed stays: submit it again to go on."""
    _show(cancel_job(job, address=address), console())


def follow_log(job: str, address: str, out: Console) -> None:
    """Print the log of a job until it ends. Ctrl-C ends only the printing."""
    line = ""
    try:
        for piece in job_log(job, address=address, follow=True):
            *lines, line = (line + piece).split("\n")
            for each in lines:
                say(out, visible(each))
    except KeyboardInterrupt:
        say(out, f"The job goes on. To end it: annotate jobs cancel {job}", "yellow")
        raise
    if line:
        say(out, visible(line))


def ended(job: str, address: str, out: Console) -> int:
    """Tell how a job ended. Returns its exit code."""
    found = find_job(job, address=address)
    _show(found, out)
    if found.state == "succeeded":
        return 0
    return found.exit_code or _FAILED


def _show(job: Job, out: Console) -> None:
    shown = Text(f"{visible(job.id)}: ")
    shown.append(job.state, style=STYLES[job.state])
    if job.exit_code:
        shown.append(f", exit code {job.exit_code}")
    shown.append(f", {_time(job)}")
    if job.workdir:
        shown.append(visible(f", work directory {job.workdir}"))
    out.print(shown, soft_wrap=True)
    if job.state in ("failed", "stopped") and job.message:
        say(out, visible(job.message.split("\n", 1)[0]), "dim")
        if "No module named annotate" in job.message:
            say(out, "hint: annotate is not installed where the head's `python` looks. Install it on all nodes.")


def _clock(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _time(job: Job) -> str:
    if job.started is None:
        return "-"
    end = job.ended or datetime.datetime.now().timestamp()
    return duration(max(0.0, end - job.started))
