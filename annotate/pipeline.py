"""Pipelines: a graph of stages with a name for each of its outputs."""

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
    """The stages that a run is to make, with all that they need; ids of a corpus are looked at for repeats.

        Pipeline(train=Render(...), evaluation=Render(..., subset="evaluation"))

    Outputs have names, by which `annotate.shards`, commands and the ledger tell them apart. One that is given without a
    name is called after what it makes: shards are `shards`, verdicts `verdicts`, further verdicts `verdicts_2`. Two
    outputs that are shards need names of yours.

    Attributes:
        outputs: stages by name.
        checks: stages that are run too, though nothing is made of them.
        by_value: modules whose functions and classes travel to the workers: the file that a pipeline was loaded from.

    Raises:
        ConfigError: there are no outputs, a name is no Python name, or two outputs have one name or are one stage.
    """

    def __init__(self, *unnamed: Stage, **named: Stage) -> None:
        given = [*((None, stage) for stage in unnamed), *named.items()]
        if not given or not all(isinstance(stage, Stage) for _, stage in given):
            raise ConfigError(f"Pipeline(...) takes one or more stages, got {[stage for _, stage in given]!r}")
        outputs: dict[str, Stage] = {}
        for name, stage in ((name or _name(stage, outputs), stage) for name, stage in given):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ConfigError(f"an output is called {name!r}, which is no Python name")
            if name in outputs:
                raise ConfigError(
                    f"two outputs are called {name!r}", hint="Name them, as in Pipeline(train=..., evaluation=...)."
                )
            if same := [other for other, made in outputs.items() if made == stage]:
                raise ConfigError(f"the outputs {same[0]!r} and {name!r} are one and the same stage")
            outputs[name] = stage
        self.outputs: Mapping[str, Stage] = outputs
        self.by_value: tuple[str, ...] = ()
        corpora = [stage for stage in graph(outputs.values()) if isinstance(stage, Corpus)]
        self.checks = tuple(RepeatedIds(corpus) for corpus in corpora if corpus.id is not None)

    def stages(self) -> list[Stage]:
        """All stages, inputs before users.

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
    """What an output is called that was given no name; one that is no shards gets a number where its kind is taken."""
    if isinstance(stage, Shards):
        return SHARDS
    kind = name = stage.name.replace("-", "_")
    number = 1
    while name in taken:
        number += 1
        name = f"{kind}_{number}"
    return name
