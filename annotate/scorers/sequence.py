"""Sequence classifiers, the backbone of classifiers and reward models: what they read, and their logits."""

from __future__ import annotations

import dataclasses
import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.scorers.base import Forward, Json, Prepared, Scorer
from annotate.scorers.chat import DATE, encode_chat, read_chat
from annotate.scorers.checks import check_axes, check_sign
from annotate.scorers.pairs import encode_pairs
from annotate.scorers.textmodel import Dtype, TextModel
from annotate.scorers.tokens import BATCH_TOKENS, drop_repeats, encode, sort_and_batch, text_list

if TYPE_CHECKING:
    import torch

Inputs = Literal["text", "pair", "chat"]

Readout = Callable[["torch.Tensor"], "torch.Tensor"]
"""Turns float32 logits `[rows, n_labels]` into scores `[rows]`."""


@dataclass(frozen=True)
class SequenceClassifier(TextModel):
    """Any `AutoModelForSequenceClassification`.

    Attributes:
        inputs: "text": the span alone; "pair": a prompt, then the span; "chat": the model's chat template, with the
            prompt as the user's turn and the span as the assistant's.
        prompt: the same for all spans.
        prompt_column: a prompt for each span, from the span table; null counts as empty.
        date: the day that the chat template is told it is, `YYYY-MM-DD`.
    """

    inputs: Inputs = "text"
    prompt: str | None = None
    prompt_column: str | None = None
    date: str = DATE

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            datetime.date.fromisoformat(self.date)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"date must be a day as YYYY-MM-DD, got {self.date!r}") from error
        if self.inputs != "chat" and self.date != DATE:
            raise ConfigError(f"a date is for a chat template, which inputs={self.inputs!r} does not use")
        if self.inputs not in ("text", "pair", "chat"):
            raise ConfigError(f"inputs must be 'text', 'pair' or 'chat', got {self.inputs!r}")
        prompts = (self.prompt is not None) + (self.prompt_column is not None)
        if prompts != (self.inputs != "text"):
            raise ConfigError(
                f"inputs={self.inputs!r} needs {'no prompt' if self.inputs == 'text' else 'prompt or prompt_column'}, "
                f"got prompt={self.prompt!r} and prompt_column={self.prompt_column!r}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The text, and the column of prompts where there is one."""
        return ("text",) if self.prompt_column is None else ("text", self.prompt_column)

    def identity(self) -> Json:
        """The model's identity, and what it reads."""
        inputs = {"inputs": self.inputs, "prompt": self.prompt, "prompt_column": self.prompt_column}
        # A long prompt was once cut elsewhere, or not at all; a span alone is read as ever.
        cut = {} if self.inputs == "text" else {"cut": "both"}
        date = {"date": self.date} if self.inputs == "chat" else {}
        return {**super().identity(), **inputs, **cut, **date}

    def resolved(self) -> Self:
        """The same model, pinned.

        Raises:
            ConfigError: as for any model; or its chat template does not write prompt and span.
        """
        if self.inputs == "chat":
            read_chat(self.tokenizer(), self.date, self.model)
        return super().resolved()

    def prepare(self, spans: pa.Table) -> Prepared:
        """Drop repeats, put prompt and span together, tokenize, sort and batch."""
        distinct, inverse = drop_repeats(spans, self.columns)
        texts = text_list(distinct.column("text"))
        tokenizer = self.tokenizer()
        if self.inputs == "text":
            encoded = encode(tokenizer.backend_tokenizer, texts, self.window())
        elif self.inputs == "pair":
            types = "token_type_ids" in tokenizer.model_input_names
            prompts = self._prompts(distinct)
            backend = tokenizer.backend_tokenizer
            encoded = encode_pairs(backend, prompts, texts, self.window(), self.model, types=types)
        else:
            encoded = encode_chat(tokenizer, self._prompts(distinct), texts, self.window(), self.date, self.model)
        return sort_and_batch(encoded, inverse, self.batch_tokens)

    def _prompts(self, distinct: pa.Table) -> list[str]:
        if self.prompt_column is not None:
            return text_list(distinct.column(self.prompt_column))
        return [self.prompt or ""] * distinct.num_rows

    def load(self, scorers: Sequence[Scorer], device: str) -> Forward:
        """Read the weights onto `device`.

        Raises:
            ConfigError: the model is no sequence classifier, or lacks a label that a scorer names.
        """
        from annotate.scorers.sequence_forward import SequenceForward
        from annotate.scorers.warm_up import warm_up

        readouts = []
        for scorer in scorers:
            if not isinstance(scorer, SequenceScorer):
                raise ConfigError(f"a sequence classifier serves classifiers and reward models, got {scorer!r}")
            readouts.append(scorer.readout())
        return warm_up(SequenceForward(self, readouts, device), self, len(readouts))

    def labels(self) -> list[str]:
        """Names of the model's outputs, in order."""
        names = self.config().id2label
        return [names[i] for i in sorted(names)]


@dataclass(frozen=True)
class SequenceScorer(ABC):
    """A scorer that makes one score of a sequence classifier's logits; `Classifier` and `RewardModel` say how."""

    model: str
    _: KW_ONLY
    axis: str
    sign: int = 1
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    revision: str | None = None
    max_length: int | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_axes(self.axes, self.anchors)
        check_sign(self.sign)
        _ = self.backbone  # its settings are checked there

    @property
    def axes(self) -> tuple[str, ...]:
        """The one axis."""
        return (self.axis,)

    @property
    @abstractmethod
    def backbone(self) -> SequenceClassifier:
        """The model and what it reads."""

    @abstractmethod
    def identity(self) -> Json:
        """The model's identity, and how the score is made of its logits."""

    @abstractmethod
    def readout(self) -> Readout:
        """Logits to scores.

        Raises:
            ConfigError: they are not what the scorer says of them.
        """

    def _reading(
        self, inputs: Inputs, prompt: str | None = None, prompt_column: str | None = None, date: str = DATE
    ) -> SequenceClassifier:
        """The model with these inputs."""
        return SequenceClassifier(
            self.model,
            revision=self.revision,
            max_length=self.max_length,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
            inputs=inputs,
            prompt=prompt,
            prompt_column=prompt_column,
            date=date,
        )

    def resolved(self) -> Self:
        """The same scorer with its directory made absolute or its revision a commit, checked against the config.

        Raises:
            ConfigError: the model is missing, or its logits are not what the scorer says of them.
        """
        backbone = self.backbone.resolved()
        resolved = dataclasses.replace(self, model=backbone.model, revision=backbone.revision)
        resolved.readout()
        return resolved
