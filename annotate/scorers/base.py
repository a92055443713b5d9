"""What a scorer is: the protocol that every kind, and a user's own, implements."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.models.base import Backbone, Json


@runtime_checkable
class Scorer(Protocol):
    """Gives every span a float32 score on one or more axes.

    Scorers with equal backbones share one forward pass. Each has a head of its own, so a new axis never rescores the
    old ones.
    """

    @property
    def axes(self) -> Sequence[str]:
        """Names of what is measured, one a column of the scores."""
        ...

    @property
    def backbone(self) -> Backbone:
        """What does the work; scorers with equal backbones share it."""
        ...

    @property
    def anchors(self) -> Mapping[str, tuple[str, str]]:
        """By axis, a text that must score low and one that must score high; an axis may have none."""
        ...

    @property
    def curves(self) -> Mapping[str, Curve]:
        """By axis, how its score becomes a probability; an axis of which that is not known has none."""
        ...

    def resolved(self) -> Scorer:
        """The same scorer with every name pinned: a hub revision to a commit, a path to an absolute one."""
        ...

    def identity(self) -> Json:
        """All that can change a score, JSON-ready, as part of the recipe: files by their hashes, never by path."""
        ...


def check_scorer(scorer: object) -> None:
    """Refuse what is no scorer, by the name of what it lacks.

    Raises:
        ConfigError: it, or its backbone, lacks a member of the protocol.
    """
    _check_members(scorer, Scorer, "scorer")
    _check_members(scorer.backbone, Backbone, "backbone")  # type: ignore[attr-defined]


def _check_members(found: object, protocol: type, what: str) -> None:
    nothing = object()
    members = [name for name in vars(protocol) if not name.startswith("_")]
    # Statically: a property may read a model's files, or fail.
    if missing := [name for name in members if inspect.getattr_static(found, name, nothing) is nothing]:
        raise ConfigError(
            f"{type(found).__name__} is no {what}: it has no {', '.join(missing)}",
            hint=f"{protocol.__module__}.{protocol.__name__} says what each of its members is.",
        )
