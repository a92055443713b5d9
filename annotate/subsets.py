"""Subsets of a corpus for training, calibration and evaluation. Near-copies are never in two of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.randomness import keyed_hash, uniform

SubsetName = Literal["train", "calibration", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """How much of a corpus is in each subset: shares of its split groups, drawn by a hash of the group.

        NearDuplicates(corpus, subsets=Subsets(train=0.9, calibration=0.05, evaluation=0.05))

    A group is in one subset whole.

    Attributes:
        train: share for training.
        calibration: share that thresholds are fitted on, and nothing else.
        evaluation: share that is kept for evaluation.
        seed: of the hash that draws the groups.

    Raises:
        ConfigError: a share is negative, or they do not sum to 1.
    """

    train: float = 0.98
    calibration: float = 0.01
    evaluation: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in get_args(SubsetName)}
        if not min(shares.values()) >= 0 or not abs(sum(shares.values()) - 1) <= 1e-9:
            said = ", ".join(f"{name}={share}" for name, share in shares.items())
            raise ConfigError(f"the shares of subsets must not be negative and sum to 1, got {said}")

    def identity(self) -> dict[str, Any]:
        """All settings that decide in which subset a group is, JSON-ready."""
        return asdict(self)

    def inside(self, groups: npt.NDArray[np.uint64], subset: SubsetName) -> npt.NDArray[np.bool_]:
        """Which documents are in a subset.

        Args:
            groups: uint64 `[n]`, the split group of each document.
            subset: which.

        Returns:
            bool `[n]`.
        """
        if not len(groups):
            return np.zeros(0, bool)
        names = get_args(SubsetName)
        edges = np.cumsum([0.0, *(getattr(self, name) for name in names)])
        edges[-1] = 1.0
        at = names.index(subset)
        drawn = uniform(keyed_hash(self.seed, groups))
        found: npt.NDArray[np.bool_] = (drawn >= edges[at]) & (drawn < edges[at + 1])
        return found
