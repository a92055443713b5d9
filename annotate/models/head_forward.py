"""A loaded encoder with a head of its own, and the readouts of some scorers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from annotate.errors import ConfigError
from annotate.models.base import Pool, Prepared, Scores
from annotate.models.device import find_device, to_device
from annotate.models.load import BUFFERS, load_model
from annotate.models.pooling import pool
from annotate.models.precision import precision
from annotate.models.run import Room, run_batches
from annotate.models.sequence_forward import Readout
from annotate.models.text_model import TextModel

_BETWEEN: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True, kw_only=True)
class OwnHead:
    """What is declared of a head; see `EncoderWithHead`.

    Attributes:
        name: what to call it in messages.
        files: where its tensors are.
        apart: whether these are files of its own, and not the model's.
        encoder: what the names of the encoder's tensors there begin with.
        layers: names of its linear layers.
        outputs: how many numbers the last one gives.
        pool: what it reads.
        normalize: whether that is scaled to length 1.
        between: what stands between two layers.
    """

    name: str
    files: Sequence[Path]
    apart: bool
    encoder: str | None
    layers: Sequence[str]
    outputs: int
    pool: Pool
    normalize: bool
    between: str


class HeadForward:
    """Runs the encoder once a batch, the head in float32 on what is pooled, and each wanted readout on its outputs."""

    def __init__(self, settings: TextModel, head: OwnHead, readouts: Sequence[Readout], device: str) -> None:
        self.device = find_device(device)
        self.room = Room(self.device)
        self.settings = settings
        self.head = head
        self.readouts = readouts
        tensors = _read(head.files)
        encoder = None if head.encoder is None else _taken(tensors, head.encoder)
        self.model = load_model("AutoModel", settings, device, optional=("pooler.",), weights=encoder)
        if not head.apart and encoder is None:
            tensors = _not_of(self.model, tensors)
        self.layers = _layers(head, tensors, int(self.model.config.hidden_size)).to(self.device)

    def __call__(self, prepared: Prepared, wanted: Sequence[int]) -> list[Scores]:
        """Score the inputs for the readouts at positions `wanted`."""
        batches = self.settings.batches(prepared)

        def step(start: int, stop: int) -> torch.Tensor:
            batch = batches.read(start, stop)
            ids, lengths, starts = (to_device(a, self.device) for a in (batch.ids, batch.lengths, batch.starts))
            mask = None if batch.mask is None else to_device(batch.mask, self.device)
            with precision(self.device, self.settings.dtype):
                hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            outputs = self._outputs(pool(hidden, self.head.pool, lengths, starts, mask))
            return torch.stack([self.readouts[i](outputs) for i in wanted], dim=1)

        return run_batches(step, batches, [1] * len(wanted), self.room, self.settings.name)

    def _outputs(self, pooled: torch.Tensor) -> torch.Tensor:
        """Outputs of the head, float32 `[rows, n_outputs]`, for pooled states `[rows, width]`."""
        state = nn.functional.normalize(pooled, dim=1) if self.head.normalize else pooled
        for i, layer in enumerate(self.layers):
            state = layer(state if i == 0 else _BETWEEN[self.head.between](state))
        return state


def _read(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The tensors of the head's files, and of the encoder where they are there too."""
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path} is no readable safetensors file: {error}") from error
    return tensors


def _taken(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take out the tensors whose names begin with a prefix, which is cut off."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in sorted(tensors) if name.startswith(prefix)}


def _not_of(model: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a model's own file that are not its encoder's, nor of the pooler that is not used."""
    known, prefix = model.state_dict(), f"{model.base_model_prefix}."
    inside = {name: name.removeprefix(prefix) for name in tensors}
    return {
        name: tensors[name]
        for name, short in inside.items()
        if short not in known and not short.startswith("pooler.") and not short.endswith(BUFFERS)
    }


def _layers(head: OwnHead, tensors: Mapping[str, torch.Tensor], width: int) -> nn.ModuleList:
    """The linear layers of a head.

    Raises:
        ConfigError: a tensor is missing, has another shape than those around it need, or is left over.
    """
    left, layers = dict(tensors), nn.ModuleList()
    for name in head.layers:
        weight, bias = left.pop(f"{name}.weight", None), left.pop(f"{name}.bias", None)
        if weight is None:
            raise ConfigError(
                f"{head.name} has no tensor {f'{name}.weight'!r}; it has {_some(tensors)}",
                hint="Name its layers by these: layers=[...]; encoder=... is what the encoder's tensors begin with.",
            )
        if weight.ndim != 2 or weight.shape[1] != width:
            raise ConfigError(f"{head.name}: {name}.weight must be [outputs, {width}], got {list(weight.shape)}")
        width = int(weight.shape[0])
        layer = nn.Linear(weight.shape[1], width, bias=bias is not None)
        layer.load_state_dict({"weight": weight.float()} | ({} if bias is None else {"bias": bias.float()}))
        layers.append(layer)
    if left:
        raise ConfigError(
            f"{head.name} has tensors that no layer takes: {_some(left)}; without them it is another model",
            hint="Name all its layers; one that is no linear layer can't be declared.",
        )
    if width != head.outputs:
        raise ConfigError(f"{head.name} has {width} outputs, got names for {head.outputs}")
    return layers.eval().requires_grad_(requires_grad=False)


def _some(tensors: Mapping[str, torch.Tensor]) -> str:
    names = sorted(tensors)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
