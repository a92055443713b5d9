"""`annotate submit`: run a pipeline file on a cluster, from another machine."""

from __future__ import annotations

import shlex
from typing import Any

import click

from annotate.amounts import counted, size
from annotate.cli.jobs import ADDRESS, ended, follow_log
from annotate.cli.run import command as run_command
from annotate.cli.run import settings_of
from annotate.cli.terminal import console, say, visible
from annotate.jobs.submission import Submission, submit

_NOT_SENT = ("file", "workdir", "settings", "plan", "sample")
_OF_RUN = [option for option in run_command.params if option.name not in _NOT_SENT]


@click.command()
@click.argument("file")
@ADDRESS
@click.option("--workdir", required=True, help="Where datasets are kept: a URL like s3:// that all nodes can reach.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a pipeline parameter.")
@click.option(
    "--env",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an environment variable of the job. Never a credential: Ray shows these to all who reach the cluster.",
)
@click.option("--follow", is_flag=True, help="Print the log until the job ends, and exit with its exit code.")
@click.pass_context
def command(
    context: click.Context,
    /,
    file: str,
    address: str,
    workdir: str,
    settings: tuple[str, ...],
    env: tuple[str, ...],
    follow: bool,  # noqa: FBT001 - click names it
    **options: Any,
) -> int:
    """Run the pipeline that FILE defines on a Ray cluster, as a job that goes on without this machine.

    The folder of FILE is sent along: modules, schemes, probes. Hidden files, virtual environments, data files
    in deeper folders and what runs wrote are not, and at most 100 MB are. `annotate` has to be installed on the nodes.

    Credentials are never sent: Ray logs the environment of a job, and shows it. The nodes must have their own, from a
    role of the machine or a secret of the container. Where the cluster asks for a token, set RAY_AUTH_MODE=token and
    RAY_AUTH_TOKEN here.
    """
    out = console()
    submitted = submit(
        file,
        workdir,
        address=address,
        settings=settings_of(settings),
        arguments=_arguments(context, options),
        env=settings_of(env, "--env"),
    )
    _tell(submitted, workdir)
    if not follow:
        return 0
    follow_log(submitted.job, address, out)
    return ended(submitted.job, address, out)


def _arguments(context: click.Context, options: dict[str, Any]) -> list[str]:
    """The options of `annotate run` that were given, as words of its command line."""
    words = []
    for option in _OF_RUN:
        name = str(option.name)
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            words += [option.opts[0]] if getattr(option, "is_flag", False) else [option.opts[0], str(options[name])]
    return words


command.params += _OF_RUN


def _tell(submitted: Submission, workdir: str) -> None:
    out, shipped, where = console(), submitted.shipped, shlex.quote(submitted.address)
    say(out, f"here:      {submitted.here}", "dim")
    say(out, f"cluster:   {submitted.cluster}", "dim")
    files = f"{counted(len(shipped.files), 'file')}, {size(shipped.bytes)}, of {shipped.folder}"
    say(out, visible(f"shipped:   {files}"), "dim")
    for name, why in shipped.left_out.items():
        say(out, visible(f"left here: {name} ({why})"), "dim")
    say(out, f"submitted: {submitted.job}", "bold")
    say(out, f"  its log:       annotate jobs log {submitted.job} --follow --address {where}")
    say(out, visible(f"  how far it is: annotate status {shlex.quote(workdir)}"))
    say(out, f"  to end it:     annotate jobs cancel {submitted.job} --address {where}")
