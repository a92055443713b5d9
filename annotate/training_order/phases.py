"""Phases of training: how much text each has, and how many of its documents keep their tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from annotate.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training. Phases follow each other in the order in which a scheme has them.

        (Phase(name="warm-up", share=0.1, tag_rate=(0.0, 0.9)), Phase(name="main", tag_rate=0.9))

    Give `tokens` or `share`. One phase may have neither: it gets what the others leave.

    Attributes:
        name: of letters, digits, `_`, `.` and `-`.
        tokens: its budget, in tokens of the untagged text.
        share: its budget, as a share of all text there is to train on.
        tag_rate: the share of its documents that keep their tags; the others get none. Two numbers are a ramp: the
            share at the start of the phase, and at its end.
    """

    name: str
    tokens: int | None = None
    share: float | None = None
    tag_rate: float | tuple[float, float] = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"a phase's name must be of letters, digits, `_`, `.` and `-`, got {self.name!r}.")
        if self.tokens is not None and self.share is not None:
            raise ConfigError(f"the budget of phase {self.name!r} must be tokens or a share, got both.")
        if self.tokens is not None and (not _whole(self.tokens) or self.tokens < 1):
            raise ConfigError(f"tokens of phase {self.name!r} must be a whole number from 1 on, got {self.tokens!r}.")
        if self.share is not None and (not _number(self.share) or not 0 < self.share <= 1):
            raise ConfigError(f"the share of phase {self.name!r} must lie in (0, 1], got {self.share!r}.")
        if isinstance(self.tag_rate, Sequence):  # TOML gives a list
            object.__setattr__(self, "tag_rate", tuple(self.tag_rate))
        rates = self.tag_rate if isinstance(self.tag_rate, tuple) else (self.tag_rate,)
        if len(rates) not in (1, 2) or not all(_number(rate) and 0 <= rate <= 1 for rate in rates):
            raise ConfigError(
                f"tag_rate of phase {self.name!r} must lie in [0, 1], or be two such numbers, got {self.tag_rate!r}."
            )

    @property
    def rates(self) -> tuple[float, float]:
        """The tag rate at the start of the phase, and at its end."""
        return self.tag_rate if isinstance(self.tag_rate, tuple) else (self.tag_rate, self.tag_rate)

    @property
    def budget(self) -> str:
        """Its budget in words."""
        if self.tokens is not None:
            return f"{self.tokens:,} tokens"
        return "what the others leave" if self.share is None else f"{self.share:.3g} of all"


def check_phases(phases: Sequence[Phase]) -> None:
    """Check that phases go together.

    Raises:
        ConfigError: two have the same name; two have no budget; or the shares are more than there is.
    """
    names = [phase.name for phase in phases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"phases must have different names, got {repeated[0]!r} twice.")
    rest = [phase.name for phase in phases if phase.tokens is None and phase.share is None]
    if len(rest) > 1:
        raise ConfigError(
            f"one phase at most can take what the others leave, got {' and '.join(map(repr, rest))}.",
            hint="Give the others `tokens` or a `share`.",
        )
    shares = sum(phase.share for phase in phases if phase.share is not None)
    if shares > 1 + 1e-9 or (shares > 1 - 1e-9 and len([p for p in phases if p.share is None])):
        raise ConfigError(
            f"the shares of phases sum to {shares:.6g}, which leaves nothing for the others."
            if shares <= 1 + 1e-9
            else f"the shares of phases sum to {shares:.6g}, which is more than there is.",
            hint="Lower them: a share is of all there is to train on, and they must sum to 1 at most.",
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
