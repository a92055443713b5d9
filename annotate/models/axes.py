"""Checks of axis names, anchors and signs, which several kinds of scorer share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from annotate.errors import ConfigError


def check_axes(axes: Sequence[str], anchors: Mapping[str, tuple[str, str]]) -> None:
    """Refuse axis names that a rule could not use, and anchors that fit no axis.

    Raises:
        ConfigError: a name is no identifier or comes twice, or an anchor is not a pair of different texts.
    """
    if not axes:
        raise ConfigError("a scorer needs one axis or more, got none")
    for axis in axes:
        if not isinstance(axis, str) or not axis.isidentifier():
            raise ConfigError(f"an axis name must be letters, digits and underscores, got {axis!r}")
    if len(set(axes)) < len(axes):
        raise ConfigError(f"axis names must differ, got {tuple(axes)}")
    for axis, pair in anchors.items():
        if axis not in axes:
            raise ConfigError(f"anchors are for the axes {tuple(axes)}, got one for {axis!r}")
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"the anchors of {axis!r} must be (low-scoring text, high-scoring text), got {pair!r}")


def check_sign(sign: int) -> None:
    """Refuse any sign but 1 and -1.

    Raises:
        ConfigError: it is another number.
    """
    if sign not in (1, -1):
        raise ConfigError(f"sign must be 1 or -1, got {sign!r}")
