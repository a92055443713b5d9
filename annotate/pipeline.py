"""A pipeline: a graph of stages, with a name for each of its outputs."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Collection, Mapping
from os import PathLike

from annotate.arguments import as_path
from annotate.engine.events import Observer
from annotate.engine.run import DEFAULTS, Result, run
from annotate.engine.running import Options
from annotate.errors import ConfigError
from annotate.graph import Stage, graph
from annotate.stages.corpus import Corpus
from annotate.stages.repeated_ids import RepeatedIds
from annotate.stages.shards import SHARDS, Shards


class Pipeline:
    """The outputs that a run makes, and through them all stages that they need.

        Pipeline(train=Render(...), evaluation=Render(..., subset="evaluation"))

    `annotate.shards`, commands and the ledger know an output by its name. An output without a name gets one from its
    stage: `shards` for shards, `verdicts` for verdicts, `verdicts_2` for further verdicts. If two outputs are shards,
    you must name them. If a corpus has ids, a run also looks for repeated ids.

    Attributes:
        outputs: stages by name.
        checks: stages that run too, although no output needs them: those that look for repeated ids.
        by_value: modules whose functions and classes are sent to the workers: the file that a pipeline was loaded from.

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
        corpora = [stage for stage in graph(outputs.values()) if isinstance(stage, Corpus)]
        self.checks = tuple(RepeatedIds(corpus) for corpus in corpora if corpus.id is not None)

    def stages(self) -> list[Stage]:
        """All stages, each after its inputs.

        Raises:
            ConfigError: there is a cycle.
        """
        return graph([*self.checks, *self.outputs.values()])

    def run(
        self, workdir: str | PathLike[str], options: Options = DEFAULTS, observer: Observer | None = None
    ) -> Result:
        """Make all datasets in `workdir`, on the Ray cluster that this process is connected to.

        Raises:
            ConfigError: Ray does not run, or the graph is wrong.
            InputError: a corpus can't be read.
            StorageError: the work directory can't be used.
            WorkError: a unit failed on every attempt.
        """
        options = dataclasses.replace(options, by_value=(*options.by_value, *self.by_value))
        return run(self.outputs, as_path(workdir, "workdir"), options, observer, checks=self.checks)


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
