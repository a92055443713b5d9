"""`annotate run`: run a pipeline file on Ray, or plan the run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from annotate.cli.cluster_address import cluster_address
from annotate.cli.terminal import console
from annotate.engine.options import Options
from annotate.errors import ConfigError

# Options are checked before Ray and the stages are imported, which takes seconds.
if TYPE_CHECKING:
    from rich.console import Console

    from annotate.engine.events import Observer
    from annotate.pipeline import Pipeline
    from annotate.pipeline_files import Definition

Option = Callable[[Any], Any]

WORKDIR = click.option("--workdir", required=True, help="Where datasets are kept: a directory, or a URL like s3://.")
HOW: tuple[Option, ...] = (
    click.option(
        "--limit",
        type=click.IntRange(1),
        help="Read about this many documents: whole work units, the first of each shard before the second of any.",
    ),
    click.option("--workers", type=click.IntRange(1), help="Tasks or models at a time [what the cluster can run]."),
    click.option(
        "--grow-to",
        type=click.IntRange(1),
        help="Ask for this many models even while there is no room for them, so that an autoscaler adds nodes.",
    ),
    click.option("--share", is_flag=True, help="Run even if another run works in the same work directory."),
    click.option("--stall-seconds", default=3600.0, show_default=True, help="Give up after so long without a result."),
    click.option(
        "--budget",
        type=float,
        help="End the run when its calls have cost so much: core-hours or, at prices, money. The next run goes on.",
    ),
    click.option("--price-core-hour", type=float, help="Price of a core-hour, for --plan and --budget."),
    click.option("--price-gpu-hour", type=float, help="Price of a GPU-hour, for --plan and --budget."),
)
"""Options on how a run works, for every command that runs a pipeline."""
HOW_NAMES = ("workers", "grow_to", "limit", "share", "stall_seconds", "budget", "price_core_hour", "price_gpu_hour")


def with_options(*options: Option) -> Option:
    """Add options to a command, in this order."""

    def added(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return added


_options = with_options(
    WORKDIR,
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a pipeline parameter."),
    click.option("--plan", is_flag=True, help="Do not run: say what a run would do, and how long it may take."),
    click.option("--sample", default=200, show_default=True, help="Spans to time for --plan; 0 for none."),
    *HOW,
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where models run; auto means on GPUs if the cluster has any.",
    ),
    click.option("--rescore", is_flag=True, help="Remove the pipeline's committed scores, and score all again."),
)


@click.command()
@click.argument("file")
@_options
def command(file: str, **options: Any) -> None:
    """Run the pipeline that FILE defines."""
    asked = _asked(**options)
    from annotate.pipeline_files import load

    pipeline, module = load(file)
    _let_workers_import(Path(file).resolve().parent)
    _run(pipeline, module, asked)


def _let_workers_import(folder: Path) -> None:
    """Let the workers import modules beside the pipeline file, as this process does; for a Ray started here."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(folder) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *paths])


def command_for(pipeline: Definition) -> click.Command:
    """`annotate run` for a pipeline that the running file defines."""

    @click.command(help="Run the pipeline that this file defines.")
    @_options
    def run_this(**options: Any) -> None:
        _run(pipeline, "__main__", _asked(**options))

    return run_this


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for."""

    workdir: str
    settings: dict[str, str]
    options: Options
    plan: bool
    sample: int


def _asked(workdir: str, settings: tuple[str, ...], *, plan: bool, sample: int, **options: Any) -> _Asked:
    """Check options, and RAY_ADDRESS if a run would use it.

    Raises:
        ConfigError: one is wrong.
    """
    if not plan:
        cluster_address()
    if plan and options["rescore"]:
        raise ConfigError(
            "--plan and --rescore can't be given together: a plan describes a run without --rescore",
            hint="Leave one of them out.",
        )
    return _Asked(workdir, settings_of(settings), Options(**options), plan, sample)


def _run(definition: Definition, module: str, asked: _Asked) -> None:
    from annotate.pipeline import make
    from annotate.pipeline_files import build

    out = console(soft_wrap=True)
    pipeline = build(definition, asked.settings)
    options = dataclasses.replace(asked.options, by_value=() if module == "__main__" else (module,))
    if asked.plan:
        from annotate.cli.plan_view import print_plan

        print_plan(pipeline, asked.workdir, options, asked.sample, out)
        return
    from annotate.cli.summary_view import print_summary

    with ready_to_run(pipeline, asked.workdir, options, out) as watching:
        made = make(pipeline, asked.workdir, options, watching)
    print_summary(made, out)


@contextlib.contextmanager
def ready_to_run(pipeline: Pipeline, workdir: str, options: Options, console: Console) -> Iterator[Observer]:
    """Check what can be checked fast, start Ray if there is no cluster, and give an observer that shows progress.

    Raises:
        ConfigError, InputError, StorageError: the corpus or the work directory can't be used, or RAY_ADDRESS; or a GPU
            is asked for, and the run would be on this machine, which has none.
    """
    address = cluster_address()
    from annotate.cli.local_ray import ray_running
    from annotate.cli.progress import observer
    from annotate.storage import retries

    with retries.within(retries.START_SECONDS):
        _check_early(pipeline, workdir)
    if options.device == "cuda":
        from annotate.engine.plan_models import check_device

        check_device(pipeline.stages(), options)
    with ray_running(address, console), observer(console) as watching:
        yield watching


def _check_early(pipeline: Pipeline, workdir: str) -> None:
    """Check the corpus and the work directory before Ray is started: the check is fast, and they are often wrong."""
    from annotate.corpus.files import is_jsonl
    from annotate.engine.check_workdir import check_place, check_workdir
    from annotate.stages.corpus import Corpus
    from annotate.storage.store import Directory

    check_place(workdir)
    stages = pipeline.stages()
    for stage in stages:
        if isinstance(stage, Corpus):
            files = stage.files()
            if not is_jsonl(files[0].path):
                next(stage.footers(files[:1], threads=1))
    directory = Directory.at(workdir)
    check_workdir(directory, stages)
    directory.create()


def settings_of(items: tuple[str, ...], option: str = "--set") -> dict[str, str]:
    """Settings as they are given to an option, by name."""
    settings = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(
                f"{option} takes NAME=VALUE, got {item!r}",
                hint=f"Put = between name and value, as in {option} text=content.",
            )
        settings[name.strip()] = value
    return settings
