"""The kinds of stage, one file each, and the questions that each answers; sources are opened before, in `source`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from annotate.engine import map as maps
from annotate.engine import model as models
from annotate.engine import reduce as reduces
from annotate.engine import shuffle as shuffles
from annotate.engine.calls import Calls
from annotate.engine.datasets import Dataset
from annotate.engine.running import Running
from annotate.graph import Kind


@dataclass(frozen=True)
class Maker:
    """The answers of a kind. `count` and `ahead` take one dataset, the others all datasets that are made together.

    Attributes:
        steps: makes the datasets: gives the scheduler one step of calls after the other.
        label: the name of the datasets in messages.
        claim: the most CPUs that any task may claim while the datasets are made; None if that takes no model.
        count: number of units of a dataset, and how many of them are committed; None while the inputs are not there to
            tell.
        ahead: number of units that a dataset will have, given the number of units of its documents; None if unknown.
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
"""The makers by `Stage.made_as`. Sources have none: a run opens them before it makes anything, see `source`."""
