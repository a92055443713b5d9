"""The file of a probe: a linear head on an encoder's pooled hidden states, in one safetensors file with its card.

Tensors:

    weight                      float32 `[n_features * width + n_word_features]`
    bias                        float32 `[1]`
    tail.<layer>.<parameter>    float32 or float16, where the probe has a tail: the parameters of its own copies of the
                                encoder's layers, named as in the layer; layers are counted from 0
    words.<array>               where the probe has a list of words: the arrays of `WordList`

The card is JSON in the file's metadata under `annotate.probe`. Files come from anywhere, so everything is checked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from annotate.curves import Isotonic, Platt
from annotate.errors import ConfigError
from annotate.models.axes import check_axes
from annotate.models.base import FloatArray, Pool
from annotate.probes.word_list import WordList, check_word_list, feature_names
from annotate.storage.store import Directory

FORMAT = 1
KEY = "annotate.probe"

_WORDS: Mapping[str, type[np.generic]] = {"keys": np.uint64, "group": np.uint8, "severity": np.float32}
"""The arrays of a list of words."""

Tail = Mapping[int, Mapping[str, npt.NDArray[np.floating[Any]]]]
"""By layer, counted from 0, its parameters by name."""


@dataclass(frozen=True, kw_only=True, order=True)
class Feature:
    """One pooled hidden state.

    Attributes:
        layer: 0 for the embeddings, else the layer whose output it is, counted from 1.
        pool: "mean", "max", "first" (the [CLS] token of BERT) or "last".
        tail: whether the layer is of the probe's own tail, not of the shared trunk.
    """

    layer: int
    pool: Pool = "mean"
    tail: bool = False


@dataclass(frozen=True, kw_only=True)
class EncoderHashes:
    """The encoder that a probe was made for: a name to find it by, and the hashes that `ModelFiles.hashes` gives."""

    name: str
    weights: str
    tokenizer: str
    config: str

    def hashes(self) -> dict[str, str]:
        """The hashes alone."""
        return {"weights": self.weights, "tokenizer": self.tokenizer, "config": self.config}


@dataclass(frozen=True, kw_only=True)
class WordsCard:
    """What the card says of a list of words: all but the words.

    Attributes:
        groups: names of the groups.
        digest: SHA-256 of the list, as `WordList.digest` gives it.
    """

    groups: tuple[str, ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class ProbeCard:
    """What a probe's file says of itself.

    Attributes:
        axis: what is measured.
        encoder: the encoder it was made for.
        features: what the head reads, in the order of its weights.
        max_length: tokens of an input at most, in training.
        prefix: what stood before each text.
        anchors: a text that must score low, and one that must score high.
        meaning: what a high score means, in a sentence.
        calibration: from score to the probability of the label, fitted on held-out labels.
        sources: the training data: any JSON, for people.
        words: of the list of words, if the probe has one.
        format: version of the file format.
    """

    axis: str
    encoder: EncoderHashes
    features: tuple[Feature, ...]
    max_length: int
    anchors: tuple[str, str]
    meaning: str
    calibration: Platt | Isotonic | None = None
    sources: list[Any] = field(default_factory=list)
    prefix: str = ""
    words: WordsCard | None = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Head:
    """A probe as read from its file.

    Attributes:
        card: what the file says of itself.
        weight: float32 `[n_features * width + n_word_features]`.
        bias: added to the product.
        tail: the probe's own layers, consecutive and up to any layer of the encoder; empty for a plain linear probe.
        words: the list of words whose features it reads beside the hidden states.
    """

    card: ProbeCard
    weight: FloatArray
    bias: float
    tail: Tail = field(default_factory=dict)
    words: WordList | None = None

    @property
    def width(self) -> int:
        """Hidden size of the encoder."""
        return (len(self.weight) - count_word_features(self.words)) // len(self.card.features)


def count_word_features(words: WordList | None) -> int:
    """Number of features of a list of words."""
    return len(feature_names(words.groups)) if words else 0


def save_probe(
    path: str | Path,
    card: ProbeCard,
    weight: npt.NDArray[np.floating[Any]],
    bias: float,
    *,
    mean: npt.NDArray[np.floating[Any]] | None = None,
    scale: npt.NDArray[np.floating[Any]] | None = None,
    tail: Tail | None = None,
    words: WordList | None = None,
) -> None:
    """Write a probe's file; equal probes give equal bytes.

    Args:
        path: where to, which may be a URL; an existing file is replaced.
        card: what the file says of itself; what it says of words is put in here.
        weight: `[n_features * width + n_word_features]`.
        bias: added to the product.
        mean: as long; with `scale`, the weights are for `(feature - mean) / scale`, which is folded in.
        scale: see `mean`.
        tail: the probe's own layers, float32 or float16; float16 halves the file.
        words: the list of words, if it reads one.

    Raises:
        ConfigError: what would be written is no valid probe.
        StorageError: it can't be written.
    """
    said = None if words is None else WordsCard(groups=words.groups, digest=words.digest())
    card = dataclasses.replace(card, words=said)
    folded = np.asarray(weight, np.float64)
    offset = float(bias)
    if scale is not None:
        folded = folded / np.asarray(scale, np.float64)
    if mean is not None:
        offset -= float(folded @ np.asarray(mean, np.float64))
    tensors: dict[str, npt.NDArray[Any]] = {
        "weight": folded.astype(np.float32),
        "bias": np.array([offset], np.float32),
    }
    for layer, parameters in sorted((tail or {}).items()):
        for name, values in sorted(parameters.items()):
            tensors[f"tail.{layer}.{name}"] = np.ascontiguousarray(values)
    if words is not None:
        tensors.update({f"words.{name}": getattr(words, name) for name in _WORDS})
    _read_head(str(path), _read_card(str(path), _card_json(card)), tensors)
    folder, name = Directory.of_file(path)
    folder.put(name, save(tensors, metadata={KEY: _card_json(card)}))


def load_probe(path: str | Path) -> Head:
    """Read and check a probe's file.

        load_probe("kindness.safetensors").card.meaning

    Raises:
        ConfigError: the file is missing, or is no valid probe; the message names file and fault.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            card = (file.metadata() or {}).get(KEY)
            if card is None:
                raise ConfigError(f"{path} is no probe: its metadata has no {KEY!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise ConfigError(f"probe {path} does not exist") from error
    except (SafetensorError, OSError, TypeError) as error:
        raise ConfigError(f"probe {path} is no readable safetensors file: {error}") from error
    return _read_head(str(path), _read_card(str(path), card), tensors)


def _card_json(card: ProbeCard) -> str:
    return json.dumps(dataclasses.asdict(card), sort_keys=True, ensure_ascii=False)


def _read_card(path: str, text: str) -> ProbeCard:
    try:
        found = json.loads(text).get("format")
        if found != FORMAT:
            raise ConfigError(f"probe {path} has format {found!r}; this version reads {FORMAT}")
        card = pydantic.TypeAdapter(ProbeCard).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"probe {path}: its card is wrong at {where!r}: {first['msg']}") from error
    except ConfigError as error:
        raise ConfigError(f"probe {path}: {error.message}") from error
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"probe {path}: its card is no JSON object") from error
    try:
        check_axes((card.axis,), {card.axis: card.anchors})
    except ConfigError as error:
        raise ConfigError(f"probe {path}: {error.message}") from error
    fault = _fault(card)
    if fault:
        raise ConfigError(f"probe {path}: {fault}")
    return card


def _fault(card: ProbeCard) -> str | None:
    """What is wrong with the values of a card, if anything."""
    if not card.features or len(set(card.features)) < len(card.features):
        return f"features must be one or more, and differ, got {card.features}"
    if min(feature.layer for feature in card.features) < 0:
        return f"layers count from 0, got {card.features}"
    if not 4 <= card.max_length <= 10**6:
        return f"max_length must be from 4 to a million, got {card.max_length}"
    return None


def _read_head(path: str, card: ProbeCard, tensors: Mapping[str, npt.NDArray[Any]]) -> Head:
    """Check names, shapes and dtypes of the tensors."""
    weight = _tensor(path, tensors, "weight", (np.float32,))
    bias = _tensor(path, tensors, "bias", (np.float32,))
    words = _read_words(path, card, tensors)
    pooled = len(weight) - count_word_features(words) if weight.ndim == 1 else 0
    if pooled <= 0 or pooled % len(card.features):
        beside = f" + {count_word_features(words)}" if words else ""
        raise ConfigError(
            f"probe {path}: weight must be [n_features * width{beside}] with {len(card.features)} features, "
            f"got {weight.shape}"
        )
    if bias.shape != (1,):
        raise ConfigError(f"probe {path}: bias must be [1], got {bias.shape}")
    tail: dict[int, dict[str, npt.NDArray[np.floating[Any]]]] = {}
    own = {"weight", "bias", *(f"words.{name}" for name in _WORDS if words is not None)}
    for name in sorted(set(tensors) - own):
        kind, _, rest = name.partition(".")
        layer, _, parameter = rest.partition(".")
        if kind != "tail" or not layer.isdecimal() or not parameter:
            raise ConfigError(f"probe {path}: unknown tensor {name!r}")
        tail.setdefault(int(layer), {})[parameter] = _tensor(path, tensors, name, (np.float32, np.float16))
    _check_tail(path, card, sorted(tail))
    return Head(card=card, weight=weight, bias=float(bias[0]), tail=tail, words=words)


def _read_words(path: str, card: ProbeCard, tensors: Mapping[str, npt.NDArray[Any]]) -> WordList | None:
    """The list of words of a probe whose card has one."""
    if card.words is None:
        return None
    arrays = {name: _tensor(path, tensors, f"words.{name}", (dtype,)) for name, dtype in _WORDS.items()}
    words = WordList(groups=card.words.groups, **arrays)
    if fault := check_word_list(words):
        raise ConfigError(f"probe {path}: {fault}")
    if words.digest() != card.words.digest:
        raise ConfigError(f"probe {path}: its list of words is not the one that its card names, or is damaged")
    return words


def _check_tail(path: str, card: ProbeCard, layers: list[int]) -> None:
    if layers and layers != list(range(layers[0], layers[0] + len(layers))):
        raise ConfigError(f"probe {path}: the layers of a tail must follow one another, got {layers}")
    outputs = {layer + 1 for layer in layers}
    wrong = [feature for feature in card.features if feature.tail and feature.layer not in outputs]
    if wrong:
        raise ConfigError(f"probe {path}: {wrong[0]} is of the tail, whose outputs are layers {sorted(outputs)}")
    if layers and not any(feature.tail for feature in card.features):
        raise ConfigError(f"probe {path} has a tail that no feature reads")


def _tensor(
    path: str, tensors: Mapping[str, npt.NDArray[Any]], name: str, dtypes: tuple[type[np.generic], ...]
) -> npt.NDArray[Any]:
    values = tensors.get(name)
    if values is None:
        raise ConfigError(f"probe {path}: tensor {name!r} is missing; it has {sorted(tensors)}")
    if values.dtype.type not in dtypes:
        raise ConfigError(f"probe {path}: {name} must be {' or '.join(d.__name__ for d in dtypes)}, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ConfigError(f"probe {path}: {name} holds numbers that are not finite")
    return values
