"""A pipeline: a graph of stages, with a name for each of its outputs."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Collection, Mapping
from os import PathLike

from annotate.arguments import as_path
from annotate.engine.events import Observer
from annotate.engine.options import Options
from annotate.engine.plan import Plan, plan
from annotate.engine.provenance import Origin
from annotate.engine.result import Result
from annotate.engine.run import DEFAULTS, Made, run
from annotate.engine.tune import TunedStages, tune
from annotate.errors import ConfigError
from annotate.graph import Stage, graph
from annotate.models.trials import SECONDS
from annotate.stages.repeated_ids import id_checks
from annotate.stages.shared.training_shards import SHARDS, Shards


class Pipeline:
    """The outputs that a run makes, and through them all stages that they need.

        Pipeline(train=Render(placements), evaluation=Render(placements, subset="evaluation"))

    `annotate.shards`, commands and the ledger know an output by its name. An output without a name gets one from its
    stage: `shards` for shards, `verdicts` for verdicts, `verdicts_2` for further verdicts. If two outputs are shards,
    you must name them. If a corpus has ids, a run also looks for repeated ids.

    Attributes:
        outputs: stages by name.
        checks: stages that run too, although no output needs them: those that look for repeated ids.
        by_value: modules whose functions and classes are sent to the workers: the file that a pipeline was loaded from.
        origin: that file and the pipeline's parameters, for the provenance of runs; None for a pipeline of a program.

    Raises:
        ConfigError: there are no outputs, a name is no Python name, or two outputs have one name or are one stage.
    """

    def __init__(self, *unnamed: Stage, **named: Stage) -> None:
        given = [*((None, stage) for stage in unnamed), *named.items()]
        if not given or not all(isinstance(stage, Stage) for _, stage in given):
            raise ConfigError(
                f"Pipeline(...) takes one or more stages, got {[stage for _, stage in given]!r}",
                hint="Give it the stages to make, as in Pipeline(train=Render(placements)).",
            )
        outputs: dict[str, Stage] = {}
        for name, stage in ((name or _name(stage, outputs), stage) for name, stage in given):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ConfigError(
                    f"an output is called {name!r}, which is no Python name",
                    hint="Use letters, digits and _, as in Pipeline(train=...).",
                )
            if name in outputs:
                raise ConfigError(
                    f"two outputs are called {name!r}", hint="Name them, as in Pipeline(train=..., evaluation=...)."
                )
            if same := [other for other, made in outputs.items() if made == stage]:
                raise ConfigError(
                    f"the outputs {same[0]!r} and {name!r} are one and the same stage", hint="Leave one of them out."
                )
            outputs[name] = stage
        self.outputs: Mapping[str, Stage] = outputs
        self.by_value: tuple[str, ...] = ()
        self.origin: Origin | None = None
        self.checks = id_checks(outputs.values())

    def stages(self) -> list[Stage]:
        """All stages, each after its inputs.

        Raises:
            ConfigError: there is a cycle.
        """
        return graph([*self.checks, *self.outputs.values()])

    def run(
        self, workdir: str | PathLike[str], options: Options = DEFAULTS, observer: Observer | None = None
    ) -> Result:
        """Make all datasets in `workdir`, on the Ray cluster that this process is connected to by `ray.init`.

            pipeline.run("out").outputs["train"].rows

        Args:
            workdir: where datasets are kept: a directory, or a URL.
            options: how the run goes.
            observer: is told what happens; else nothing is said.

        Raises:
            ConfigError: Ray does not run, or the graph is wrong.
            InputError: a corpus can't be read.
            StorageError: the work directory can't be used.
            WorkError: a unit failed on every attempt.
            BudgetError: the budget is spent.
        """
        return make(self, workdir, options, observer).result()

    def plan(self, workdir: str | PathLike[str], options: Options = DEFAULTS, *, sample: int = 200) -> Plan:
        """Say what a run would do, and how long scoring may take; nothing is run or written, and Ray is not needed.

            pipeline.plan("out", sample=0).stages[0].state

        Args:
            workdir: as for `run`; it need not exist.
            options: as for `run`.
            sample: spans that models are timed on; 0 to load no model.

        Raises:
            ConfigError: the graph is wrong, or a model can't be loaded; or the corpus is of JSON lines.
            InputError: a corpus can't be read.
            StorageError: the work directory is of another version, or can't be one.
        """
        return plan(self.outputs, as_path(workdir, "workdir"), options, sample, checks=self.checks)

    def tune(
        self, workdir: str | PathLike[str] | None = None, options: Options = DEFAULTS, *, seconds: float = SECONDS
    ) -> list[TunedStages]:
        """Time the models with other settings, on a sample of the corpus; nothing is written, and Ray is not needed.

            pipeline.tune()[0].trials.best.batch_tokens

        Args:
            workdir: where a run has imported a corpus of JSON lines; any other corpus needs none.
            options: as for `run`.
            seconds: about what each trial takes.

        Raises:
            ConfigError: the graph is wrong or has no such model, or a model can't be loaded.
            InputError: a corpus can't be read.
        """
        place = None if workdir is None else as_path(workdir, "workdir")
        return tune(self.outputs, place, options, seconds, checks=self.checks)


def make(
    pipeline: Pipeline,
    workdir: str | PathLike[str],
    options: Options = DEFAULTS,
    observer: Observer | None = None,
) -> Made:
    """Run a pipeline, as `Pipeline.run`; gives what the engine holds, for who has to read datasets by their stages."""
    options = dataclasses.replace(options, by_value=(*options.by_value, *pipeline.by_value))
    place = as_path(workdir, "workdir")
    return run(pipeline.outputs, place, options, observer, checks=pipeline.checks, origin=pipeline.origin)


def _name(stage: Stage, taken: Collection[str]) -> str:
    """The name of an output that was given none: after its stage, with a number if that name is taken."""
    if isinstance(stage, Shards):
        return SHARDS
    kind = name = stage.name.replace("-", "_")
    number = 1
    while name in taken:
        number += 1
        name = f"{kind}_{number}"
    return name
