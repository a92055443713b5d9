"""Causal language models, the backbone of likelihood scorers: what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.models.base import Forward, Json, Prepared, check_served
from annotate.models.batches import sort_and_batch
from annotate.models.encode import Encoded, IntArray, encode, text_list
from annotate.models.reading import Reading
from annotate.models.repeats import drop_repeats
from annotate.models.text_model import TextModel


class HasSign(Protocol):
    """What is needed of a scorer that a causal model serves."""

    @property
    def sign(self) -> int:
        """1, or -1 for surprisal."""
        ...


@dataclass(frozen=True)
class CausalModel(TextModel):
    """Any `AutoModelForCausalLM`.

        Likelihood(model=CausalModel("gpt2"))

    Attributes:
        context_column: a column whose text is read before the span and not counted; null counts as empty.
    """

    context_column: str | None = None

    spreads: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The text, and the column of contexts where there is one."""
        return ("text",) if self.context_column is None else ("text", self.context_column)

    def identity(self) -> Json:
        """The model's identity, and what it reads."""
        return {**super().identity(), "context_column": self.context_column, "first": self.first_id()}

    def first_id(self) -> int | None:
        """The token that starts each input, so that the span's first token has a probability too.

        The tokenizer's beginning-of-sequence token, or its end-of-sequence token where there is no other, as GPT-2 was
        trained. None where it has neither: then the first token of all is not counted.
        """
        tokenizer = self.tokenizer()
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return None if first is None else int(first)

    def reading(self) -> Reading:
        """Tokenizer, window and first token."""
        return replace(super().reading(), first=self.first_id())

    def prepare(self, spans: pa.Table, reading: Reading | None = None) -> Prepared:
        """Drop repeats, tokenize contexts and spans apart, join them, sort and batch.

        Where an input is too long, the start of the context is cut first, then the end of the span. The two are counted
        apart.
        """
        reading = reading or self.reading()
        distinct, inverse = drop_repeats(spans, self.columns)
        tokenizer, first = reading.tokenizer.parsed(), reading.first
        room = reading.window - (first is not None)
        spans_encoded = encode(tokenizer, text_list(distinct.column("text")), room, special=False)
        if self.context_column is None:
            before = np.zeros(distinct.num_rows, np.int32)
            context_ids = np.zeros(0, np.int32)
        else:
            contexts = encode(tokenizer, text_list(distinct.column(self.context_column)), None, special=False)
            context_ids, before = _keep_ends(contexts, room - spans_encoded.lengths)
            spans_encoded = replace(spans_encoded, context_cut=before < contexts.lengths)
        encoded, counted_from = _join(first, context_ids, before, spans_encoded)
        return sort_and_batch(encoded, inverse, self.batch_tokens, counted_from=counted_from)

    def load(self, scorers: Sequence[HasSign], device: str) -> Forward:
        """Read the weights onto `device`.

        Raises:
            ConfigError: the model is no causal language model.
        """
        from annotate.models.causal_forward import CausalForward
        from annotate.models.smoke_test import smoke_test

        check_served(scorers, "sign", "a causal model")
        signs = [scorer.sign for scorer in scorers]
        return smoke_test(CausalForward(self, signs, device), self, len(signs))


def _keep_ends(encoded: Encoded, room: IntArray) -> tuple[IntArray, IntArray]:
    """Keep the last `room` tokens of each input."""
    kept = np.minimum(encoded.lengths, np.maximum(room, 0))
    within = _positions(encoded.lengths)
    keep = within >= np.repeat(encoded.lengths - kept, encoded.lengths)
    return encoded.ids[keep], kept


def _positions(lengths: IntArray) -> npt.NDArray[np.int64]:
    """0, 1, 2, ... within each input."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _join(first: int | None, context_ids: IntArray, before: IntArray, spans: Encoded) -> tuple[Encoded, IntArray]:
    """Lay out start token, context and span of each input; also the position of the first token that is counted."""
    start = int(first is not None)
    lengths = (start + before + spans.lengths).astype(np.int32)
    within = _positions(lengths)
    counted_from = (start + before).astype(np.int32)
    is_span = within >= np.repeat(counted_from, lengths)
    is_context = ~is_span & (within >= start)
    ids = np.full(len(within), first if first is not None else 0, np.int32)
    ids[is_context] = context_ids
    ids[is_span] = spans.ids
    return replace(spans, ids=ids, lengths=lengths), counted_from
