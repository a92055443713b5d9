"""A loaded encoder with the heads of some probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from annotate.errors import ConfigError
from annotate.models.base import FloatArray, Prepared, Scores
from annotate.models.batches import Batches
from annotate.models.device import find_device, to_device
from annotate.models.files import check_hashes
from annotate.models.load import load_model
from annotate.models.precision import precision
from annotate.models.run import Room, run_batches
from annotate.models.text_model import Dtype, TextModel
from annotate.probes.file import Feature, Head, Tail
from annotate.probes.trunk import Branch, Trunk
from annotate.probes.word_features import WordFinder


class EncoderForward:
    """Runs the shared trunk once a batch, and each wanted head on the pools."""

    def __init__(self, encoder: TextModel, heads: Sequence[Head], device: str) -> None:
        self.device = find_device(device)
        self.room = Room(self.device)
        self.name = encoder.name
        self.dtype = encoder.dtype
        self.encoder = encoder
        self.trunk = load_trunk(encoder, device)
        self.heads = heads
        found = encoder.files().hashes() if heads else {}
        for head in heads:
            card = head.card
            check_hashes(encoder.name, found, card.encoder.hashes(), needed_by=f"the probe of {card.axis!r}")
            self._check_layers(head)
        self.weights = [torch.from_numpy(head.weight).to(self.device) for head in heads]
        self.branches = {i: load_tail(self.trunk, head.tail) for i, head in enumerate(heads) if head.tail}
        # The list is in token ids: that the tokenizer is the list's own, the hashes above have said.
        self.lists = {i: head.words.digest() for i, head in enumerate(heads) if head.words}
        self.finders = {
            self.lists[i]: WordFinder(head.words, encoder.reading().tokenizer)
            for i, head in enumerate(heads)
            if head.words
        }

    def _check_layers(self, head: Head) -> None:
        layers = len(self.trunk.layers)
        highest = max(feature.layer for feature in head.card.features)
        if highest > layers:
            raise ConfigError(f"the probe of {head.card.axis!r} reads layer {highest}; the encoder has {layers}")
        if head.width != self.trunk.width:
            raise ConfigError(
                f"the probe of {head.card.axis!r} has {head.width} weights a feature; "
                f"the encoder's hidden states have {self.trunk.width} numbers"
            )

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the heads at positions `wanted`."""
        features = [self.heads[i].card.features for i in wanted]
        trunk = frozenset(feature for some in features for feature in some if not feature.tail)
        branches = {
            i: (self.branches[i], frozenset(feature for feature in some if feature.tail))
            for i, some in zip(wanted, features, strict=True)
            if i in self.branches
        }
        batches = self.encoder.batches(prepared)
        lists = frozenset(self.lists[i] for i in wanted if i in self.lists)

        def step(start: int, stop: int) -> torch.Tensor:
            pools = pool_batch(self.trunk, batches, start, stop, self.device, self.dtype, trunk, branches)
            # A GPU is busy with the pools meanwhile. The batch's tokens are looked through once for each distinct list.
            words = {digest: self._words(digest, batches, start, stop) for digest in lists}
            scores = torch.empty((stop - start, len(wanted)), device=self.device)
            for column, (i, some) in enumerate(zip(wanted, features, strict=True)):
                parts = [pools[i if feature.tail else None, feature] for feature in some]
                if i in self.lists:
                    parts.append(words[self.lists[i]])
                read = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
                scores[:, column] = torch.mv(read, self.weights[i]) + self.heads[i].bias
            return scores

        return run_batches(step, batches, [1] * len(wanted), self.room, self.name)

    def _words(self, digest: str, batches: Batches, start: int, stop: int) -> torch.Tensor:
        """What heads with this list of words read of it in rows `start` to `stop`: float32 `[rows, n_groups + 3]`."""
        found = self.finders[digest].features(batches.tokens(start, stop), batches.lengths(start, stop))
        return to_device(found, self.device)


def load_trunk(encoder: TextModel, device: str) -> Trunk:
    """Read an encoder's weights onto `device`, without its pooler."""
    model = load_model("AutoModel", encoder, device, optional=("pooler.",))
    if hasattr(model, "pooler"):
        model.pooler = None
    return Trunk(model, encoder.name)


def pool_batch(
    trunk: Trunk,
    batches: Batches,
    start: int,
    stop: int,
    device: torch.device,
    dtype: Dtype,
    features: frozenset[Feature],
    branches: Mapping[int, tuple[Branch, frozenset[Feature]]],
) -> Mapping[tuple[int | None, Feature], torch.Tensor]:
    """Run the trunk and the branches on rows `start` to `stop`."""
    batch = batches.read(start, stop)
    mask = None if batch.mask is None else to_device(batch.mask, device)
    with precision(device, dtype):
        ids, lengths, starts = (to_device(array, device) for array in (batch.ids, batch.lengths, batch.starts))
        return trunk.pools(ids, lengths, starts, mask, features, branches)


def load_tail(trunk: Trunk, tail: Tail) -> Branch:
    """Copies of the trunk's layers with the tail's parameters in them.

    Raises:
        ConfigError: the layers or parameters are not those of the encoder.
    """
    start = min(tail)
    if start + len(tail) > len(trunk.layers):
        raise ConfigError(f"a tail has the layers {sorted(tail)}; the encoder has {len(trunk.layers)}")
    layers = trunk.copy_layers(start, len(tail))
    for layer, parameters in zip(layers, (tail[i] for i in sorted(tail)), strict=True):
        values = {name: torch.from_numpy(np.array(array)) for name, array in parameters.items()}
        try:
            layer.load_state_dict(values)
        except RuntimeError as error:
            raise ConfigError(f"a tail's parameters are not those of the encoder's layers: {error}") from error
    return Branch(start=start, layers=layers)


def extract_features(encoder: TextModel, prepared: Prepared, features: Sequence[Feature], device: str) -> FloatArray:
    """Pooled hidden states of the distinct inputs: float32 `[n_distinct, n_features * width]`, NaN where it failed."""
    place = find_device(device)
    trunk = load_trunk(encoder, device)
    wanted = frozenset(features)
    batches = encoder.batches(prepared)

    def step(start: int, stop: int) -> torch.Tensor:
        pools = pool_batch(trunk, batches, start, stop, place, encoder.dtype, wanted, {})
        return torch.cat([pools[None, feature] for feature in features], dim=1)

    width = len(features) * trunk.width
    (scores,) = run_batches(step, batches, [width], Room(place), encoder.name)
    return scores.values
