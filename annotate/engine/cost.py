"""What a run costs: core-hours and GPU-hours, money at prices, and the budget that ends a run.

The cost is what calls take: a call takes one core while it goes on, or more if its threads keep more busy, and the GPU
that its process holds. What a cluster costs while it is idle is not in it, since another run may use it meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from annotate.amounts import amount
from annotate.errors import BudgetError, ConfigError

CORE_SECONDS_A_DOCUMENT, CORE_SECONDS_A_MB = 0.0002, 0.1
"""About what all stages without models take of a core, by docs/near-duplicates.md and docs/benchmarks.md."""


@dataclass(frozen=True)
class Cost:
    """Core-hours and GPU-hours."""

    core_hours: float = 0.0
    gpu_hours: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.core_hours + other.core_hours, self.gpu_hours + other.gpu_hours)


@dataclass(frozen=True)
class Prices:
    """Prices of a core-hour and of a GPU-hour, in any currency; None where none is given."""

    core_hour: float | None = None
    gpu_hour: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("core", self.core_hour), ("gpu", self.gpu_hour)):
            if price is not None and price < 0:
                raise ConfigError(f"the price of a {name}-hour must not be negative, got {price}")

    @property
    def given(self) -> bool:
        """Whether there is a price."""
        return self.core_hour is not None or self.gpu_hour is not None

    def of(self, cost: Cost) -> float:
        """What a cost comes to in money; a price that is not given counts as 0."""
        return cost.core_hours * (self.core_hour or 0.0) + cost.gpu_hours * (self.gpu_hour or 0.0)

    def told(self, cost: Cost) -> str:
        """A cost for people: hours and, if a price is given, money."""
        gpus = f" and {amount(cost.gpu_hours)} GPU-hours" if cost.gpu_hours else ""
        money = f", {amount(self.of(cost))} at the prices given" if self.given else ""
        return f"{amount(cost.core_hours)} core-hours{gpus}{money}"


@dataclass
class Budget:
    """The budget of a run: an amount of money at the prices or, where no price is given, core-hours.

    Attributes:
        amount: None for no end.
        prices: of hours.
        spent: by the calls so far.
    """

    amount: float | None
    prices: Prices
    spent: Cost = Cost()  # frozen

    def __post_init__(self) -> None:
        if self.amount is not None and self.amount <= 0:
            raise ConfigError(f"the budget must be more than 0, got {self.amount}")

    def check_gpus(self) -> None:
        """Check that a budget counts GPUs; for a run that has models on GPUs.

        Raises:
            ConfigError: a GPU-hour has no price.
        """
        if self.amount is not None and self.prices.gpu_hour is None:
            raise ConfigError(
                "the run has a budget, and models on GPUs, but a GPU-hour has no price",
                hint="Give --price-gpu-hour too: the budget is then an amount of money. 0 leaves GPUs out of it.",
            )

    def spend(self, cost: Cost) -> None:
        """Count the cost of a call."""
        self.spent += cost

    def check(self) -> None:
        """Check whether something is left.

        Raises:
            BudgetError: the budget is spent.
        """
        if self.amount is None:
            return
        used = self.prices.of(self.spent) if self.prices.given else self.spent.core_hours
        if used >= self.amount:
            raise BudgetError(
                f"the budget of {self.amount:,g} is spent: this run has taken {self.prices.told(self.spent)}",
                hint="What is committed stays. Run the same command again to go on: each run has a budget of its own.",
            )
