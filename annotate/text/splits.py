"""Splits for training, calibration and evaluation: by split group, so that near-copies are never on both sides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.randomness import keyed_hash, uniform

SplitName = Literal["train", "calibration", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Shares of the split groups; a group is in one split whole, drawn by a hash of it.

    Attributes:
        train: share for training.
        calibration: share that thresholds are fitted on, and nothing else.
        evaluation: share that is kept for evaluation.
        seed: of what is drawn.
    """

    train: float = 0.98
    calibration: float = 0.01
    evaluation: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        shares = [getattr(self, name) for name in get_args(SplitName)]
        if not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-9:
            raise ConfigError(f"the shares of splits must not be negative and sum to 1, got {shares}")

    def identity(self) -> dict[str, Any]:
        """All that decides a split, JSON-ready."""
        return asdict(self)

    def chosen(self, groups: npt.NDArray[np.uint64], split: SplitName) -> npt.NDArray[np.bool_]:
        """Which documents are in a split.

        Args:
            groups: uint64 `[n]`, the split group of each document.
            split: which.

        Returns:
            bool `[n]`.
        """
        if not len(groups):
            return np.zeros(0, bool)
        names = get_args(SplitName)
        edges = np.cumsum([0.0, *(getattr(self, name) for name in names)])
        edges[-1] = 1.0
        at = names.index(split)
        drawn = uniform(keyed_hash(self.seed, groups))
        inside: npt.NDArray[np.bool_] = (drawn >= edges[at]) & (drawn < edges[at + 1])
        return inside
