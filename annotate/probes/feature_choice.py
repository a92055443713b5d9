"""Which hidden states a head reads: as the command line spells them, by default, and whether the encoder has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from annotate.errors import ConfigError
from annotate.models.base import Pool
from annotate.probes.encoder import Encoder
from annotate.probes.file import Feature


def parse_feature(text: str) -> Feature:
    """Read "4" (the mean of layer 4's hidden states) or "4:max".

    Raises:
        ConfigError: it is neither.
    """
    layer, _, pool = text.partition(":")
    pools = get_args(Pool)
    if not layer.isdecimal() or (pool or "mean") not in pools:
        raise ConfigError(f"a feature is LAYER or LAYER:POOL with a POOL of {', '.join(pools)}, got {text!r}")
    return Feature(layer=int(layer), pool=cast(Pool, pool or "mean"))


def default_features(encoder: Encoder) -> tuple[Feature, ...]:
    """Means of the hidden states at half and at two thirds of the depth: middle layers carry tone better than the last.

    Raises:
        ConfigError: the encoder's configuration does not say how many layers it has.
    """
    depth = _depth(encoder)
    if depth is None:
        raise ConfigError(
            f"the configuration of {encoder.model!r} does not say how many layers it has", hint="name the features"
        )
    return tuple(Feature(layer=layer) for layer in sorted({max(1, depth // 2), max(1, 2 * depth // 3)}))


def _depth(encoder: Encoder) -> int | None:
    """The number of an encoder's layers; None if its configuration does not say it."""
    depth = getattr(encoder.config(), "num_hidden_layers", None)
    return depth if isinstance(depth, int) else None


def check_depth(encoder: Encoder, features: Sequence[Feature]) -> None:
    """Refuse features of layers that the encoder lacks."""
    depth = _depth(encoder)
    highest = max((feature.layer for feature in features), default=0)
    if depth is not None and highest > depth:
        raise ConfigError(
            f"a feature of layer {highest} was asked for, but the encoder {encoder.name!r} has {depth} layers",
            hint=f"Name layers from 0 to {depth}; 0 is what goes into the first.",
        )
