"""The models of a plan: which can be tried on a sample, on what, and how many there would be at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import ray

from annotate.engine.cluster import Resources, is_to_grow, models_on
from annotate.engine.datasets import Dataset
from annotate.engine.kinds import MAKERS
from annotate.engine.options import Options
from annotate.engine.run import together
from annotate.errors import ConfigError
from annotate.graph import Model, Stage, documents_of
from annotate.storage.manifests import Unit


def models_of(datasets: Mapping[Stage, Dataset]) -> Iterator[tuple[list[Model], Dataset, Unit]]:
    """The model stages that run together, the documents that they read, and a unit of these to take a sample of.

    Models whose documents are still to be made are left out.
    """
    for some in together([stage for stage in datasets if stage.made_as == "model"]):
        stages = [stage for stage in some if isinstance(stage, Model)]
        corpus = datasets[documents_of(stages[0])]
        if corpus.manifest is None:
            corpus.find()
        if corpus.manifest is None:
            continue
        # From the middle: what is first is seldom like the rest.
        yield stages, corpus, next(itertools.islice(corpus.units(), corpus.manifest.units // 2, None))


def check_device(missing: Sequence[Stage], options: Options) -> None:
    """Check that there is a GPU, if models are to run and one is asked for.

    This process may be connected to no cluster. Then a run would be on this machine, unless RAY_ADDRESS names another.
    A cluster that has no CPU yet, and is to grow, is not asked.

    Raises:
        ConfigError: there is none.
    """
    models = [stage for stage in missing if isinstance(stage, Model)]
    if options.device != "cuda" or not models:
        return
    if ray.is_initialized():
        for stage in models if not is_to_grow(options) else ():
            Resources.of_models(stage, options)
    elif not os.environ.get("RAY_ADDRESS") and not _gpus():
        raise ConfigError(
            'the device "cuda" was asked for, but torch finds no GPU on this machine',
            hint='Use the device "auto" or "cpu"; or set RAY_ADDRESS, if the run will be on a cluster with GPUs.',
        )


def on_gpu(stage: Model, options: Options) -> bool:
    """Whether a model is timed on a GPU of this machine, as a run on it would have it."""
    return bool(_gpus()) and (options.device == "cuda" or (options.device == "auto" and stage.gpu))


def models_at_a_time(stage: Model, options: Options) -> int:
    """Number of models at a time on this machine."""
    if on_gpu(stage, options):
        return max(1, models_on(_gpus(), stage.gpus))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // stage.threads)


def _gpus() -> int:
    import torch  # a plan of what is done should not wait for it

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def share_done(dataset: Dataset) -> float:
    """Share of the units of a stage that are committed; 0 if its inputs are not there yet."""
    counted = MAKERS[dataset.stage.made_as].count(dataset)
    if counted is None:
        return 0.0
    units, done = counted
    return done / max(units, 1)
