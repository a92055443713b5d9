"""An encoder with a head of its own, the backbone of classifiers that no class of Transformers makes: what it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, Self, get_args

import pyarrow as pa

from annotate.arguments import as_path, as_tuple
from annotate.errors import ConfigError
from annotate.models.base import Forward, Json, Pool, Prepared, check_served
from annotate.models.batches import sort_and_batch
from annotate.models.encode import encode, text_list
from annotate.models.files import hash_files
from annotate.models.reading import Reading
from annotate.models.repeats import drop_repeats
from annotate.models.sequence_classifier import HasReadout, Squashing
from annotate.models.text_model import TextModel
from annotate.storage.local_copies import local_copy

Between = Literal["relu", "gelu", "tanh"]


@dataclass(frozen=True)
class EncoderWithHead(TextModel):
    """A Transformers encoder, and linear layers on its pooled output, as a model card's own code has them.

        head = EncoderWithHead("quality", encoder="model.", layers=["fc"], names=["High", "Medium", "Low"])
        Classifier(head, axis="quality", label="High")

    No code of the model runs: this declares what it does. Dropout does nothing when a model scores, so it is left out.
    All is read from safetensors. A tensor of the head's file that neither encoder nor layers take is an error.

    Attributes:
        model: config, tokenizer and weights of the encoder: a directory or a hub id.
        layers: names of the head's linear layers, in order; each has a tensor NAME.weight and, mostly, NAME.bias.
        names: what the outputs of the last layer are called; none where it gives one number, as a regression.
        head: the file of the head's tensors, `.safetensors`, local or at a URL; None: they are in the model's own file.
        encoder: what the names of the encoder's tensors begin with, where they are in the head's file too; None: they
            are the model's own.
        pool: what the head reads of the last layer: the state of the "first" token or the "last", "mean", or "max".
        normalize: whether the pooled vector is scaled to length 1, as that of an embedding model.
        between: what stands between two layers.
        squash: what makes probabilities of the outputs: "softmax", "sigmoid" of each, or "none"; None: "softmax" where
            there are several, else "none".
        revision: as for other models, like the settings that follow it there.
    """

    _: KW_ONLY
    layers: Sequence[str]
    names: Sequence[str] = ()
    head: str | PathLike[str] | None = None
    encoder: str | None = None
    pool: Pool = "first"
    normalize: bool = False
    between: Between = "relu"
    squash: Squashing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "names"):
            object.__setattr__(self, name, as_tuple(getattr(self, name), name))
        if self.head is not None:
            object.__setattr__(self, "head", as_path(self.head, "head"))
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"layers must be one or more, and differ, got {self.layers}")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"names of outputs must differ, got {self.names}")
        choices = {"pool": Pool, "between": Between, "squash": Squashing}
        for name, kind in choices.items():
            if (value := getattr(self, name)) not in get_args(kind) and (name, value) != ("squash", None):
                raise ConfigError(f"{name} must be one of {get_args(kind)}, got {value!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """It reads the text alone."""
        return ("text",)

    def labels(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self.names) or ["LABEL_0"]

    def squashing(self) -> Squashing:
        """What turns its outputs into probabilities."""
        return self.squash or ("softmax" if len(self.names) > 1 else "none")

    def says_squashing(self) -> bool:
        """Whether that is said, and not guessed."""
        return self.squash is not None or len(self.names) > 1

    def head_files(self) -> list[Path]:
        """The files that the head's tensors are in.

        Raises:
            ConfigError: there is none, or it is no safetensors file.
        """
        if self.head is None:
            return self.files().weights()
        path = local_copy(str(self.head))
        if path.suffix != ".safetensors":
            raise ConfigError(
                f"head {self.head!r} is no .safetensors file; other formats can run code when they are read",
                hint="Convert it once: torch.load(file, weights_only=True) reads the tensors of most checkpoints, and "
                "safetensors.torch.save_file writes them.",
            )
        if not path.is_file():
            raise ConfigError(f"head {self.head!r} does not exist", hint="Check the path.")
        return [path]

    def resolved(self) -> Self:
        """The same model, pinned, with the path of the head absolute.

        Raises:
            ConfigError: as for any model; or the head can't be found.
        """
        pinned = super().resolved()
        (path, *_) = self.head_files()
        if self.head is None or "://" in str(self.head):  # of a URL each node makes its own copy
            return pinned
        return dataclasses.replace(pinned, head=str(path.absolute()))

    def identity(self) -> Json:
        """The model's identity, and that of the head: its file by hash, and how it reads."""
        head = {
            "file": None if self.head is None else hash_files(self.head_files()),
            "encoder": self.encoder,
            "layers": list(self.layers),
            "pool": self.pool,
            "normalize": self.normalize,
            "between": self.between,
            "names": list(self.names),
            "squashing": self.squashing(),
        }
        return {**super().identity(), "head": head}

    def prepare(self, spans: pa.Table, reading: Reading | None = None) -> Prepared:
        """Drop repeats, tokenize, sort and batch."""
        reading = reading or self.reading()
        distinct, inverse = drop_repeats(spans, self.columns)
        encoded = encode(reading.tokenizer.parsed(), text_list(distinct.column("text")), reading.window)
        return sort_and_batch(encoded, inverse, self.batch_tokens)

    def load(self, scorers: Sequence[HasReadout], device: str) -> Forward:
        """Read encoder and head onto `device`.

        Raises:
            ConfigError: tensors are missing, left over, or do not fit each other.
        """
        from annotate.models.head_forward import HeadForward, OwnHead
        from annotate.models.smoke_test import smoke_test

        check_served(scorers, "readout", "an encoder with a head")
        readouts = [scorer.readout() for scorer in scorers]
        head = OwnHead(
            name=f"the head of {self.name!r}" if self.head is None else f"head {self.head!r}",
            files=self.head_files(),
            apart=self.head is not None,
            encoder=self.encoder,
            layers=self.layers,
            outputs=len(self.labels()),
            pool=self.pool,
            normalize=self.normalize,
            between=self.between,
        )
        return smoke_test(HeadForward(self, head, readouts, device), self, len(readouts))
