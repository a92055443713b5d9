"""The part of a plan about text that is to be generated: tokens, time and money, before anything is paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from annotate.engine.cost import Cost
from annotate.engine.datasets import Dataset
from annotate.engine.options import Options
from annotate.engine.plan_models import models_at_a_time, models_of, on_gpu, share_done
from annotate.graph import Stage
from annotate.models.foretold import Foretold
from annotate.storage.store import Directory


@dataclass(frozen=True)
class GenerationPlan:
    """An estimate for a stage that generates text, from the first documents of a unit.

    Attributes:
        label: label of the stage.
        whole: what all documents will take that are still to be generated; of no documents, if none of those that
            were looked at can be completed.
        models: number of models at a time.
        gpus: that each takes; 0 if it is on a CPU, or elsewhere.
        threads: of each on a CPU.
    """

    label: str
    whole: Foretold
    models: int
    gpus: float
    threads: int

    @property
    def total_seconds(self) -> float | None:
        """Time of the stage, if each completion is as long as it may be; None if that is not known."""
        return None if self.whole.seconds is None else self.whole.seconds / self.models

    @property
    def cost(self) -> Cost:
        """Of the machines of the run; what a server takes is not in it."""
        hours = (self.whole.seconds or 0.0) / 3600
        return Cost(hours * (1 if self.gpus else self.threads), hours * self.gpus)


def generations(
    missing: Sequence[Stage], datasets: Mapping[Stage, Dataset], workdir: Directory, options: Options
) -> list[GenerationPlan]:
    """What stages will take whose models write text."""
    plans = []
    for stages, documents, unit in models_of(datasets):
        stage = stages[0]
        if stage not in missing:
            continue
        on_a_gpu = stage.gpu and on_gpu(stage, options)
        found = stage.foretell(workdir, unit, "cuda" if on_a_gpu else "cpu")
        if found is None:
            continue
        assert documents.manifest is not None, "so a unit of it was found"
        share = 1 - share_done(datasets[stage])
        models = options.workers or options.grow_to or models_at_a_time(stage, options)
        gpus = stage.gpus if on_a_gpu else 0.0
        whole = found.times(documents.manifest.rows * share / max(found.documents, 1))
        if whole.seconds is not None:
            once = whole.unit_seconds * documents.manifest.units * share
            whole = replace(whole, seconds=whole.seconds + once, unit_seconds=0.0)
        plans.append(GenerationPlan(datasets[stage].label, whole, models, gpus, stage.threads))
    return plans
