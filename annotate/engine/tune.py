"""Times the models of a pipeline with other settings, on a sample of its corpus.

Nothing is written in the work directory. Ray is not needed: the models run in this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from annotate.engine.kinds import MAKERS
from annotate.engine.options import Options
from annotate.engine.plan import opened
from annotate.engine.plan_models import check_device, models_of, on_gpu
from annotate.errors import ConfigError
from annotate.graph import Stage
from annotate.models.trials import Trial, Trials

SPANS = 50_000
"""A sample has no more inputs of the model."""


@dataclass(frozen=True)
class TunedStages:
    """Stages that share a model, what other settings of it would give, and what to write to have the best of them."""

    label: str
    trials: Trials
    lines: Sequence[str]


def tune(
    outputs: Mapping[str, Stage],
    location: str | None,
    options: Options,
    seconds: float,
    *,
    checks: Sequence[Stage] = (),
    starts: Callable[[str], None] = lambda label: None,
    tell: Callable[[Trial], None] = lambda trial: None,
) -> list[TunedStages]:
    """Time the models of a pipeline with their settings as they are, and with others.

    Args:
        outputs: as for `run`.
        location: the work directory, which is needed only where the corpus is of JSON lines, which a run has imported.
        options: as for `run`.
        seconds: about what each trial takes.
        checks: as for `run`.
        starts: is given the label of stages that share a model when their trials start.
        tell: is given each trial when it is done.

    Raises:
        ConfigError: the graph is wrong, or has no such model; a model can't be loaded; or there is no GPU although one
            is asked for.
        InputError: a corpus can't be read.
        StorageError: the work directory is of another version, or can't be one.
    """
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="annotate-tune-") as nothing,
        opened(outputs, location or nothing, options, checks) as (workdir, _, datasets),
    ):
        check_device(list(datasets), options)
        for stages, _, unit in models_of(datasets):
            label = MAKERS["model"].label([datasets[stage] for stage in stages])
            if (sample := stages[0].sample(workdir, unit, SPANS)) is None:
                continue
            starts(label)
            device = "cuda" if on_gpu(stages[0], options) else "cpu"
            if (tuned := stages[0].tune(sample, stages, device, seconds=seconds, tell=tell)) is not None:
                found.append(TunedStages(label, tuned.trials, tuned.lines))
    if not found:
        raise ConfigError(
            "no model of this pipeline has settings that change its speed",
            hint="Those that have are Transformers models: probes, classifiers, reward models, likelihoods.",
        )
    return found
