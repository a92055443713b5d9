"""Training of a tail: a probe's own copies of an encoder's next layers, beside a linear head.

The trunk stays as it is, so that all probes still share it. The tail starts where the linear head's highest feature is,
which means that the trunk need not run any further. What is trained goes through the code that scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from annotate.errors import ConfigError
from annotate.models.base import FloatArray
from annotate.models.batches import Batches
from annotate.models.device import find_device
from annotate.probes.encoder import Encoder
from annotate.probes.encoder_forward import load_trunk, pool_batch
from annotate.probes.file import Feature, Tail
from annotate.probes.linear_head import FloatVector, LinearHead, standardise
from annotate.probes.trunk import Branch, Trunk

BATCH_ROWS = 32
EPOCHS = 3
LAYER_RATE = 2e-4
HEAD_RATE = 1e-3
WARM_UP = 0.1
"""Share of the steps over which the learning rate rises; after that it falls to 0 in a straight line."""


@dataclass(frozen=True, kw_only=True)
class TrainedTail:
    """A tail, and the head that reads the trunk's features and its own.

    Attributes:
        features: what it reads of the tail.
        weight: float64 `[width]`, of the tail's features.
        linear: the head of the trunk's features, trained with it.
        layers: the tail's parameters, float16.
    """

    features: tuple[Feature, ...]
    weight: FloatVector
    linear: LinearHead
    layers: Tail


class _Model(nn.Module):
    """The linear head, and a tail whose pooled output is added to its score."""

    def __init__(self, branch: Branch, linear: LinearHead, width: int) -> None:
        super().__init__()
        self.layers = branch.layers
        # From 0: a head that fits the training spans already would leave the tail nothing to learn.
        self.trunk_weight = nn.Parameter(torch.zeros(len(linear.weight)))
        self.tail_weight = nn.Parameter(torch.zeros(width))
        self.offsets = nn.Parameter(torch.from_numpy(linear.offsets.astype(np.float32)))

    def groups(self) -> list[dict[str, object]]:
        heads = [self.trunk_weight, self.tail_weight, self.offsets]
        return [{"params": list(self.layers.parameters()), "lr": LAYER_RATE}, {"params": heads, "lr": HEAD_RATE}]


def train_tail(
    encoder: Encoder,
    texts: Sequence[str],
    targets: FloatVector,
    sources: npt.NDArray[np.int64],
    weights: FloatVector,
    features: FloatArray,
    linear: LinearHead,
    *,
    start: int,
    layers: int,
    seed: int,
    device: str,
) -> TrainedTail:
    """Train copies of `layers` layers from `start` on, together with a linear head, by AdamW on the cross-entropy.

    Args:
        encoder: the shared trunk.
        texts: `n` of them.
        targets: `[n]` in [0, 1].
        sources: int64 `[n]`.
        weights: `[n]`, positive: how many spans each counts as.
        features: float32 `[n, trunk width]`, what `linear` reads.
        linear: a head fitted without a tail, which gives the standardisation and the intercepts to start from.
        start: the trunk's layer that the tail takes its input from, counted from 1.
        layers: how many layers the tail has.
        seed: of dropout and the order of batches.
        device: where to train.

    Raises:
        ConfigError: the encoder has too few layers.
    """
    place = find_device(device)
    trunk = load_trunk(encoder, device)
    if layers < 1 or start + layers > len(trunk.layers):
        raise ConfigError(
            f"a tail of {layers} layers from layer {start} on does not fit an encoder of {len(trunk.layers)} layers",
            hint="read features of lower layers, or use a shorter tail",
        )
    prepared = encoder.prepare(pa.table({"text": pa.array(texts, pa.string())}))
    # Row by row in order of length: the spans of each distinct text become one.
    rows = prepared.inverse
    first = np.unique(rows, return_index=True)[1]
    order = prepared.arrays["order"]
    counts = np.bincount(rows, weights)
    goal = torch.from_numpy((np.bincount(rows, targets * weights) / counts)[order].astype(np.float32)).to(place)
    each = (counts / np.bincount(rows))[order]
    weight = torch.from_numpy((each / each.mean()).astype(np.float32)).to(place)
    group = torch.from_numpy(sources[first][order]).to(place)
    read = standardise(features[first][order], linear.mean, linear.scale).astype(np.float32)
    frozen = torch.from_numpy(read).to(place)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        trunk.model.requires_grad_(False)
        branch = Branch(start=start, layers=trunk.copy_layers(start, layers).requires_grad_(True).train())
        wanted = (Feature(layer=start + layers, pool="mean", tail=True),)
        model = _Model(branch, linear, trunk.width).to(place)
        batches = encoder.batches(prepared)
        _optimise(encoder, trunk, branch, wanted, model, batches, (frozen, goal, group, weight), seed)
    trained = LinearHead(
        weight=model.trunk_weight.detach().cpu().numpy().astype(np.float64),
        offsets=model.offsets.detach().cpu().numpy().astype(np.float64),
        mean=linear.mean,
        scale=linear.scale,
        penalty=linear.penalty,
    )
    return TrainedTail(
        features=wanted,
        weight=model.tail_weight.detach().cpu().numpy().astype(np.float64),
        linear=trained,
        layers={start + i: _parameters(layer) for i, layer in enumerate(branch.layers)},
    )


def _optimise(
    encoder: Encoder,
    trunk: Trunk,
    branch: Branch,
    wanted: tuple[Feature, ...],
    model: _Model,
    batches: Batches,
    data: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    seed: int,
) -> None:
    frozen, goal, group, weight = data
    steps = list(_plan(len(goal), seed))
    optimiser = torch.optim.AdamW(model.groups(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, len(steps)))
    branches = {0: (branch, frozenset(wanted))}
    for start, stop in steps:
        pools = pool_batch(trunk, batches, start, stop, goal.device, encoder.dtype, frozenset(), branches)
        tail = torch.cat([pools[0, feature] for feature in wanted], dim=1)
        logits = frozen[start:stop] @ model.trunk_weight + tail @ model.tail_weight
        logits = logits + model.offsets[group[start:stop]]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, goal[start:stop], weight[start:stop])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def _plan(rows: int, seed: int) -> Iterator[tuple[int, int]]:
    """Batches of neighbours in length, cut at another place in each epoch, in random order."""
    draws = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        bounds = np.unique(np.clip(np.arange(-int(draws.integers(BATCH_ROWS)), rows + BATCH_ROWS, BATCH_ROWS), 0, rows))
        for i in draws.permutation(len(bounds) - 1):
            yield int(bounds[i]), int(bounds[i + 1])


def _rate(step: int, steps: int) -> float:
    warm = max(1, math.ceil(WARM_UP * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def _parameters(layer: nn.Module) -> dict[str, npt.NDArray[np.float16]]:
    return {name: values.detach().cpu().numpy().astype(np.float16) for name, values in layer.state_dict().items()}
