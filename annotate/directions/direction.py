"""A direction: what a condition adds to the hidden states of spans, layer by layer, and its file.

The file is safetensors. Tensor `vectors`: float32 `[n_layers, width]`, layer 1 first. Its metadata holds, under
`annotate.direction`, a card in JSON. Files come from anywhere, so everything is checked.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from annotate.errors import ConfigError
from annotate.models.base import FloatArray
from annotate.probes.file import EncoderHashes, Feature, ProbeCard, save_probe
from annotate.storage.local_copies import local_copy
from annotate.storage.store import Directory

KEY = "annotate.direction"
Bool = npt.NDArray[np.bool_]
Found = Literal["tags", "texts"]


@dataclass(frozen=True, kw_only=True)
class DirectionCard:
    """What a direction's file says of itself.

    Attributes:
        model: the model that it was found in: its name, and hashes of its files.
        found: "tags": hidden states of the same text with tags and without. "texts": those of untagged spans that
            have the tags, and of spans that don't.
        tags: the condition.
        against: the tags it is set against; empty: none.
        spans: how many spans the means are of.
    """

    model: EncoderHashes
    found: Found
    tags: tuple[str, ...]
    against: tuple[str, ...]
    spans: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """What a condition adds to the hidden states of spans.

    Attributes:
        card: what it is.
        vectors: float32 `[n_layers, width]`, layer 1 first.
    """

    card: DirectionCard
    vectors: FloatArray

    def at(self, layer: int, weight: float = 1.0) -> dict[int, torch.Tensor]:
        """What `steered` takes, to add the direction at one layer, counted from 1.

        Raises:
            ConfigError: there is no such layer.
        """
        if not 1 <= layer <= len(self.vectors):
            raise ConfigError(f"there is no layer {layer}; the direction has {len(self.vectors)}, counted from 1")
        return {layer: weight * torch.from_numpy(self.vectors[layer - 1])}

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file, which may be at a URL; an existing one is replaced.

        Raises:
            StorageError: it can't be written.
        """
        folder, name = Directory.of_file(path)
        card = json.dumps(dataclasses.asdict(self.card), sort_keys=True, ensure_ascii=False)
        folder.put(name, save({"vectors": np.ascontiguousarray(self.vectors)}, metadata={KEY: card}))

    def save_probe(
        self, path: str | PathLike[str], *, layer: int, axis: str, anchors: tuple[str, str], max_length: int
    ) -> None:
        """Write a probe whose score is the projection of a span's mean hidden state on the direction.

        `Probe(path)` then scores spans of any corpus with the model of the direction.

        Args:
            path: where to.
            layer: whose output is projected, counted from 1.
            axis: the name of the score.
            anchors: a text that must score low, and one that must score high.
            max_length: tokens of an input at most.

        Raises:
            ConfigError: there is no such layer, or the anchors are not two texts.
            StorageError: it can't be written.
        """
        vector = self.at(layer)[layer].numpy().astype(np.float64)
        against = ", ".join(self.card.against) or "none of these tags"
        card = ProbeCard(
            axis=axis,
            encoder=self.card.model,
            features=(Feature(layer=layer),),
            max_length=max_length,
            anchors=anchors,
            meaning=f"the hidden state is like that of text under {', '.join(self.card.tags)}, not {against}",
            sources=[{"direction": self.card.found, "spans": self.card.spans}],
        )
        save_probe(str(path), card, vector / np.linalg.norm(vector), 0.0)


def load_direction(path: str | PathLike[str]) -> Direction:
    """Read and check a direction's file.

        load_direction("nice.safetensors").card.tags

    Raises:
        ConfigError: the file is missing, or is no direction; the message names file and fault.
    """
    try:
        with safe_open(local_copy(str(path)), framework="numpy") as file:
            card = (file.metadata() or {}).get(KEY)
            if card is None:
                raise ConfigError(f"{path} is no direction: its metadata has no {KEY!r}")
            vectors = file.get_tensor("vectors")
        direction = Direction(card=pydantic.TypeAdapter(DirectionCard).validate_json(card), vectors=vectors)
    except FileNotFoundError as error:
        raise ConfigError(f"direction {path} does not exist", hint="Check the path.") from error
    except (SafetensorError, OSError, TypeError) as error:
        raise ConfigError(f"direction {path} is no readable safetensors file: {error}") from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"direction {path}: its card is wrong at {'.'.join(map(str, first['loc']))!r}: {first['msg']}"
        ) from error
    if vectors.ndim != 2 or not vectors.size or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise ConfigError(
            f"direction {path}: vectors must be finite float32 [n_layers, width], got {vectors.dtype} {vectors.shape}"
        )
    return direction


def mean_difference(states: FloatArray, others: FloatArray) -> FloatArray:
    """The mean over spans of the difference of two states of each: DiffMean over pairs.

    Args:
        states: float32 `[n_layers, n_spans, width]`; NaN for a span without a token.
        others: the same spans otherwise read.

    Returns:
        float32 `[n_layers, width]`.
    """
    return np.nanmean(states.astype(np.float64) - others, axis=1).astype(np.float32)


def difference_of_means(states: FloatArray, having: Bool, lacking: Bool) -> FloatArray:
    """The mean state of some spans less that of others: DiffMean (AxBench, arXiv 2501.17148, section 3).

    Args:
        states: float32 `[n_layers, n_spans, width]`; NaN for a span without a token.
        having: bool `[n_spans]`.
        lacking: bool `[n_spans]`.

    Returns:
        float32 `[n_layers, width]`.

    Raises:
        ConfigError: there are no spans of one kind.
    """
    if not having.any() or not lacking.any():
        raise ConfigError(
            f"{having.sum()} spans have the tag and {lacking.sum()} are set against them: both are needed",
            hint="Look at more documents: --documents.",
        )
    means = (np.nanmean(states[:, which].astype(np.float64), axis=1) for which in (having, lacking))
    return (next(means) - next(means)).astype(np.float32)
