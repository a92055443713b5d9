"""How a run works: options that change no byte of its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from annotate.engine.cost import Budget, Prices
from annotate.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run works. Nothing here changes a byte of its output, except `limit`, which cuts the corpus.

        pipeline.run("out", Options(limit=1000, device="cpu"))

    Attributes:
        workers: tasks or models at a time; None for as many as the cluster has.
        grow_to: models to ask for even while the cluster has no room for them, in place of `workers`: an autoscaler
            sees those that wait, and adds nodes. None to ask for no more than have room.
        device: where models run: "cpu", "cuda", or "auto" for GPUs where the cluster has them.
        limit: documents to reach; None for all.
        share: run even if another run works in the directory.
        rescore: remove the committed scores of the pipeline, and score again from nothing.
        stall_seconds: give up if no result comes for so many seconds.
        budget: end the run when its calls have cost so much: money at the prices or, without prices, core-hours.
        price_core_hour: price of a core-hour, in any currency.
        price_gpu_hour: price of a GPU-hour.
        by_value: modules whose functions and classes travel to the workers with the pipeline (the pipeline file).
    """

    workers: int | None = None
    grow_to: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    limit: int | None = None
    share: bool = False
    rescore: bool = False
    stall_seconds: float = 3600.0
    budget: float | None = None
    price_core_hour: float | None = None
    price_gpu_hour: float | None = None
    by_value: tuple[str, ...] = ()

    @property
    def prices(self) -> Prices:
        """The prices."""
        return Prices(self.price_core_hour, self.price_gpu_hour)

    def new_budget(self) -> Budget:
        """The budget of a run, of which nothing is spent."""
        return Budget(self.budget, self.prices)

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f'device must be "auto", "cpu" or "cuda", got {self.device!r}')
        for name in ("workers", "grow_to", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.workers and self.grow_to:
            raise ConfigError(
                f"workers is {self.workers} and grow_to is {self.grow_to}: only one of them can be given",
                hint="grow_to is for clusters with an autoscaler, and workers for all others.",
            )
        self.new_budget()  # checks it
