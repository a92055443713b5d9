"""The kinds of stage that the engine knows, a file each, and the few questions that each answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from annotate.engine import map as maps
from annotate.engine import model as models
from annotate.engine import reduce as reduces
from annotate.engine import shuffle as shuffles
from annotate.engine.datasets import Dataset
from annotate.engine.running import Running
from annotate.engine.scheduler import Calls
from annotate.graph import Kind


@dataclass(frozen=True)
class Maker:
    """What a kind answers about datasets to be made; all but `count` of a stage, or of stages that are made together.

    Attributes:
        steps: makes the datasets: the calls that a scheduler is to do, one step after the other.
        label: how people know what is made.
        claim: the CPUs that any task may claim meanwhile; None where no models are held.
        count: how many units a dataset whose inputs are committed has, and how many of them are; None where that is
            known only when it is made.
        ahead: how many it will have, given the units of the documents that it is about; None where that can't be told.
    """

    steps: Callable[[Sequence[Dataset], Running], Iterator[Calls]]
    label: Callable[[Sequence[Dataset]], str]
    claim: Callable[[Sequence[Dataset], Running], float | None]
    count: Callable[[Dataset], tuple[int, int] | None]
    ahead: Callable[[Dataset, int], int | None]


def _one(datasets: Sequence[Dataset]) -> str:
    return datasets[0].label


def _no_models(datasets: Sequence[Dataset], running: Running) -> None:
    del datasets, running


MAKERS: Mapping[Kind, Maker] = {
    "map": Maker(maps.steps, _one, _no_models, maps.count, maps.ahead),
    "reduce": Maker(reduces.steps, _one, _no_models, reduces.count, reduces.ahead),
    "shuffle": Maker(shuffles.steps, _one, _no_models, shuffles.count, shuffles.ahead),
    "model": Maker(models.steps, models.label, models.claim, models.count, models.ahead),
}
"""By the kind that a stage says it is; sources are opened before, see `annotate.engine.source`."""
