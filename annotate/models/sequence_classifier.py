"""Sequence classifiers, the backbone of classifiers and reward models: what they read, and their logits."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

import pyarrow as pa

from annotate.errors import ConfigError
from annotate.models.base import Forward, Json, Prepared, check_served
from annotate.models.batches import sort_and_batch
from annotate.models.chat_template import DATE, encode_chat, read_chat
from annotate.models.encode import encode, text_list
from annotate.models.prompts import encode_pairs
from annotate.models.reading import Reading
from annotate.models.repeats import drop_repeats
from annotate.models.text_model import TextModel

if TYPE_CHECKING:
    from annotate.models.sequence_forward import Readout

Inputs = Literal["text", "pair", "chat"]
Squashing = Literal["none", "sigmoid", "softmax"]
"""What turns logits into probabilities."""


class HasReadout(Protocol):
    """What is needed of a scorer that a sequence classifier serves."""

    def readout(self) -> Readout:
        """What turns logits into scores."""


@dataclass(frozen=True)
class SequenceClassifier(TextModel):
    """Any `AutoModelForSequenceClassification`.

    Attributes:
        inputs: "text": the span alone; "pair": a prompt, then the span; "chat": the model's chat template, with the
            prompt as the user's turn and the span as the assistant's.
        prompt: the same for all spans.
        prompt_column: a prompt for each span, from the span table; null counts as empty.
        date: what the chat template gets for today, `YYYY-MM-DD`.
    """

    inputs: Inputs = "text"
    prompt: str | None = None
    prompt_column: str | None = None
    date: str = DATE

    spreads: ClassVar[bool] = True

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
        # Earlier versions cut long prompts in another way; scores of spans without a prompt still hold.
        cut = {} if self.inputs == "text" else {"cut": "both"}
        date = {"date": self.date} if self.inputs == "chat" else {}
        # Earlier versions left out the types of a text alone.
        types = {"types": True} if self.inputs == "text" and self._types() else {}
        return {**super().identity(), **inputs, **cut, **date, **types}

    def resolved(self) -> Self:
        """The same model, pinned.

        Raises:
            ConfigError: as for any model; or its chat template does not write prompt and span.
        """
        if self.inputs == "chat":
            read_chat(self.tokenizer(), self.date, self.name)
        return super().resolved()

    def reading(self) -> Reading:
        """Tokenizer, window, and the chat template where it is used.

        Raises:
            ConfigError: they can't be found, or the template does not write prompt and span.
        """
        found, tokenizer = super().reading(), self.tokenizer()
        if self.inputs == "chat":
            return replace(found, chat=read_chat(tokenizer, self.date, self.name))
        return replace(found, types=self._types())

    def prepare(self, spans: pa.Table, reading: Reading | None = None) -> Prepared:
        """Drop repeats, put prompt and span together, tokenize, sort and batch."""
        reading = reading or self.reading()
        distinct, inverse = drop_repeats(spans, self.columns)
        texts = text_list(distinct.column("text"))
        tokenizer, window = reading.tokenizer.parsed(), reading.window
        if self.inputs == "text":
            encoded = encode(tokenizer, texts, window, types=reading.types)
        elif reading.chat is None:
            encoded = encode_pairs(tokenizer, self._prompts(distinct), texts, window, self.name, types=reading.types)
        else:
            encoded = encode_chat(tokenizer, reading.chat, self._prompts(distinct), texts, window, self.name)
        return sort_and_batch(encoded, inverse, self.batch_tokens)

    def _types(self) -> bool:
        """Whether the model is told types of tokens. Those of a text alone are mostly all 0; XLNet has others."""
        tokenizer = self.tokenizer()
        told = "token_type_ids" in tokenizer.model_input_names
        return told and (self.inputs == "pair" or any(tokenizer.backend_tokenizer.encode("a").type_ids))

    def _prompts(self, distinct: pa.Table) -> list[str]:
        if self.prompt_column is not None:
            return text_list(distinct.column(self.prompt_column))
        return [self.prompt or ""] * distinct.num_rows

    def load(self, scorers: Sequence[HasReadout], device: str) -> Forward:
        """Read the weights onto `device`.

        Raises:
            ConfigError: the model is no sequence classifier, or lacks a label that a scorer names.
        """
        from annotate.models.sequence_forward import SequenceForward
        from annotate.models.smoke_test import smoke_test

        check_served(scorers, "readout", "a sequence classifier")
        readouts = [scorer.readout() for scorer in scorers]
        return smoke_test(SequenceForward(self, readouts, device), self, len(readouts))

    def labels(self) -> list[str]:
        """Names of the model's outputs, in order."""
        names = self.config().id2label
        return [names[i] for i in sorted(names)]

    def squashing(self) -> Squashing:
        """What turns its logits into probabilities, as its configuration says; "none" for a regression or a reward."""
        config = self.config()
        problem, labels = config.problem_type, config.num_labels
        if problem == "regression" or (problem is None and labels == 1):
            return "none"
        return "sigmoid" if problem == "multi_label_classification" or labels == 1 else "softmax"

    def says_squashing(self) -> bool:
        """Whether that is said: of one label without a `problem_type` it is not."""
        config = self.config()
        return config.num_labels > 1 or config.problem_type is not None
