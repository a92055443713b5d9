"""Whether prompts change what a model writes, on some openings: asked before all of them are completed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from annotate.engine.options import Options
from annotate.engine.plan import opened
from annotate.engine.plan_models import check_device, models_of, on_gpu
from annotate.errors import ConfigError
from annotate.generators.transformers_generator import TransformersGenerator
from annotate.graph import Stage, every
from annotate.stages.distill import Distill

if TYPE_CHECKING:
    from annotate.generators.prompt_effect import PromptEffect


def check_prompts(
    outputs: Mapping[str, Stage],
    location: str | None,
    options: Options,
    documents: int,
    *,
    tell: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[str, dict[str, PromptEffect | None]]:
    """Complete the same openings under each condition, and measure what its prompt changes.

    Args:
        outputs: of a pipeline.
        location: the work directory; needed where openings are made by a stage, or imported.
        options: for the device.
        documents: openings for each condition: the first ones of a unit.
        tell: is given what is done, how much of it is done, and of how much; 0 of 0 for what has no parts.

    Returns:
        By the label of the stage, with its outputs if there are several, and by condition; None where no opening could
        be completed. The condition without a prompt is left out.

    Raises:
        ConfigError: the pipeline has no `Distill` whose model runs here and whose openings are there; or a model can't
            be loaded.
        InputError, StorageError: as `plan` does.
    """
    from annotate.generators.prompt_effect import load_to_read, prompt_effect

    found: dict[str, dict[str, PromptEffect | None]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="annotate-distill-") as nothing,
        opened(outputs, location or nothing, options) as (workdir, _, datasets),
    ):
        check_device(list(datasets), options)
        for (stage, *_), _, unit in models_of(datasets):
            if not isinstance(stage, Distill) or not isinstance(stage.generator, TransformersGenerator):
                continue
            name = datasets[stage].label
            if len(outputs) > 1:
                name += f", for {', '.join(output for output, last in outputs.items() if stage in every([last]))}"
            effects = found.setdefault(name, {})
            requests = stage.first(workdir, unit, documents)
            tell(f"{name}: loading the model", 0, 0)
            loaded = load_to_read(stage.generator, "cuda" if on_gpu(stage, options) else "cpu")
            for condition in stage.prompted:
                asked = [replace(request, prompt=condition.text) for request in requests]
                effects[condition.name] = prompt_effect(loaded, asked, tell=partial(tell, condition.name))
    if not found:
        raise ConfigError(
            "the pipeline has no Distill whose probabilities can be read",
            hint="It needs a TransformersGenerator, as a server does not tell all probabilities; and openings that are "
            "there: of a stage that makes them, run that first, and give --workdir.",
        )
    return found
