"""The model that is looked at: how it reads, in which layers, and how often a direction is added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from tokenizers import Tokenizer

from annotate.directions.divergence import divergences
from annotate.directions.progress import Progress, Tell
from annotate.directions.rows import Reader, Rows, alone
from annotate.directions.spans import TaggedSpans
from annotate.directions.states import span_states
from annotate.directions.steering import Additions
from annotate.errors import ConfigError
from annotate.inference.tagged import Trained
from annotate.models.base import FloatArray
from annotate.models.causal_model import CausalModel
from annotate.models.load import load_model
from annotate.probes.file import EncoderHashes
from annotate.proof.intervals import Float64
from annotate.storage.results import tags_folder

WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""How often a direction is added, in units of itself."""

LAYERS = 6
"""How many are looked at, at most, unless they are named."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A causal language model.

    Attributes:
        model: of Transformers.
        hashes: its name, and the hashes of its files.
        reader: how its texts are tokenized.
        tokenizer: its tokenizer, by which a probe reads spans.
        max_length: tokens of a text at most.
        layers: those that are looked at, counted from 1.
        weights: how often a direction may be added, in units of itself.
        seed: of whatever is drawn.
    """

    model: Any
    hashes: EncoderHashes
    reader: Reader
    tokenizer: Tokenizer
    max_length: int
    layers: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int

    @staticmethod
    def load(
        workdir: str | PathLike[str],
        model: str,
        *,
        output: str | None,
        untagged: bool,
        device: str,
        layers: Sequence[int] | None,
        weights: Sequence[float],
        seed: int,
    ) -> Subject:
        """Load a model, and the tokenizer that its texts need; the arguments are those of `find_directions`.

        Raises:
            ConfigError: the model can't be read, or has no rows for the tags; or a layer does not exist.
            StorageError: the run has no token shards.
        """
        settings = CausalModel(model)
        n = int(settings.config().get_text_config().num_hidden_layers)
        if wrong := [layer for layer in layers or () if not 1 <= layer <= n]:
            raise ConfigError(f"there is no layer {wrong[0]}; the model has {n}, counted from 1")
        if not weights or 0 in weights:
            raise ConfigError(f"weights are one or more numbers other than 0, got {list(weights)}")
        files, tokenizer = settings.files(), settings.tokenizer()
        loaded = load_model("AutoModelForCausalLM", settings, device)
        reader = Reader.of_tokenizer(tokenizer) if untagged else _of_shards(workdir, output, model, loaded, tokenizer)
        looked = tuple(layers) if layers else tuple(sorted({round(n * k / LAYERS) for k in range(1, LAYERS + 1)} - {0}))
        return Subject(
            model=loaded,
            hashes=EncoderHashes(name=model, **files.hashes()),
            reader=reader,
            tokenizer=settings.reading().tokenizer.parsed(),
            max_length=settings.window(),
            layers=looked,
            weights=tuple(map(float, weights)),
            seed=seed,
        )

    @property
    def knows_tags(self) -> bool:
        """Whether the model has seen the tags."""
        return self.reader.trained is not None

    @property
    def banned(self) -> list[int]:
        """The ids of all tags."""
        return [] if self.reader.trained is None else sorted(self.reader.trained.vocabulary.ids)

    def named(self, tags: str | Sequence[str]) -> tuple[str, ...]:
        """The tags that names stand for, as a prompt takes them."""
        given = (tags,) if isinstance(tags, str) else tuple(tags)
        return given if self.reader.trained is None else self.reader.trained.named(given)

    def states(self, rows: Rows, texts: TaggedSpans, tell: Tell, what: str) -> FloatArray:
        """Hidden states of the spans of texts: float32 `[n_layers, n_spans, width]`; `what` is told of them."""
        return span_states(self.model, rows, texts.table.num_rows, tell=Progress(tell, what).at)

    def states_alone(self, texts: Sequence[str], tell: Tell, what: str) -> FloatArray:
        """Hidden states of texts that are read as a probe reads them, each by itself: as `states`.

        NaN for a text without a token.
        """
        rows = alone(self.tokenizer, texts, self.max_length)
        return span_states(self.model, rows, len(texts), tell=Progress(tell, what).at)

    def rows(self, texts: TaggedSpans, names: Sequence[str]) -> Rows:
        """The rows of texts under tags; of untagged texts if there are none."""
        return self.reader.under(texts, names) if names else self.reader.untagged(texts)

    def divergences(
        self, texts: TaggedSpans, own: Sequence[str], against: Sequence[str], tries: Sequence[Additions], tell: Tell
    ) -> Float64:
        """Divergences of texts under tags from the same set against them and steered: float64 `[n_tries, n_texts]`."""
        told = Progress(tell, f"{len(tries)} ways to steer, on {len(texts.spans)} documents")
        sums, _ = divergences(
            self.model,
            self.rows(texts, own),
            self.rows(texts, against),
            tries,
            banned=self.banned,
            tell=told.at,
        )
        return sums


def added(vectors: FloatArray, layer: int, weight: float) -> Additions:
    """What `steered` takes, for directions float32 `[n_layers, width]`."""
    return {layer: weight * torch.from_numpy(vectors[layer - 1])} if weight else {}


def _of_shards(workdir: str | PathLike[str], output: str | None, name: str, model: Any, tokenizer: Any) -> Reader:
    hint = (
        "Name the model that was trained on its token shards, with the tokenizer that lies beside them. For a model "
        "that has not seen the tags, write --untagged."
    )
    folder = tags_folder(workdir, output)
    try:
        trained = Trained.read(tokenizer, folder)
        trained.check_rows(model)
    except ConfigError as error:
        raise ConfigError(f"model {name!r} was not trained on {folder}: {error.message}", hint=hint) from error
    return Reader.of_shards(trained)
