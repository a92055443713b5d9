"""One forward pass of an encoder that serves the heads of many probes.

A head reads *features*: the hidden states of a layer, pooled over the tokens. The pass computes the pools that the
wanted heads need and nothing above the highest layer among them. A head may also bring a *tail*: its own copies of
some layers, which branch off the shared trunk. Each head is a matrix product of its own, so that adding one leaves the
bytes of the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Protocol

import numpy as np
import pyarrow as pa

from annotate.models.base import FloatArray, Forward, Json, Prepared, check_served
from annotate.models.batches import sort_and_batch
from annotate.models.encode import encode, text_list
from annotate.models.files import MINILM
from annotate.models.reading import Reading
from annotate.models.repeats import drop_repeats
from annotate.models.text_model import TextModel
from annotate.probes.file import Feature, Head
from annotate.probes.word_features import WordFinder
from annotate.probes.word_list import WordList


class HasHead(Protocol):
    """What is needed of a scorer that an encoder serves."""

    def head(self) -> Head:
        """Read the head's file."""
        ...


@dataclass(frozen=True)
class Encoder(TextModel):
    """The backbone of probes: a Transformers encoder (BERT, RoBERTa, MiniLM, DeBERTa, ModernBERT, ...).

        Probe("niceness", encoder=Encoder(dtype="bfloat16"))

    Attributes:
        model: a directory or a hub id; by default the encoder of the shipped probes.
        revision: branch, tag or commit of a hub id.
        max_length: tokens of an input at most, special ones included; longer ones are cut, and recorded. None: what the
            model takes, at most 4,096.
        dtype: "float32"; or "bfloat16" or "float16" for the matrix products of the layers.
        batch_tokens: padded tokens of a batch at most.
        trust_remote_code: whether Python files that come with the model may run.
        prefix: what stands before each text, as the makers of some encoders want it: "query: " for e5. It takes its
            part of `max_length`.
    """

    model: str | PathLike[str] = MINILM
    _: KW_ONLY
    prefix: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Probes read the text alone."""
        return ("text",)

    def identity(self) -> Json:
        """The model's identity, and the prefix if there is one."""
        return {**super().identity(), **({"prefix": self.prefix} if self.prefix else {})}

    def prepare(self, spans: pa.Table, reading: Reading | None = None) -> Prepared:
        """Drop repeats, put the prefix before each text, tokenize, sort and batch."""
        reading = reading or self.reading()
        distinct, inverse = drop_repeats(spans, self.columns)
        texts = text_list(distinct.column("text"))
        if self.prefix:
            texts = [self.prefix + text for text in texts]
        encoded = encode(reading.tokenizer.parsed(), texts, reading.window)
        return sort_and_batch(encoded, inverse, self.batch_tokens)

    def load(self, scorers: Sequence[HasHead], device: str) -> Forward:
        """Read the encoder and the probes' heads onto `device`.

        Raises:
            ConfigError: a probe was made for another encoder, or a file can't be read.
        """
        from annotate.models.smoke_test import smoke_test
        from annotate.probes.encoder_forward import EncoderForward

        check_served(scorers, "head", "an encoder")
        heads = [scorer.head() for scorer in scorers]
        return smoke_test(EncoderForward(self, heads, device), self, len(heads))


def probe_features(
    encoder: Encoder, texts: Sequence[str], features: Sequence[Feature], *, device: str = "cpu"
) -> FloatArray:
    """The features that a probe's head would read, for training one.

    Returns:
        float32 `[n_texts, n_features * width]`, in the order of `features`; NaN where the encoder failed.
    """
    from annotate.probes.encoder_forward import extract_features

    prepared = encoder.prepare(pa.table({"text": pa.array(texts, pa.string())}))
    values: FloatArray = extract_features(encoder, prepared, features, device)[prepared.inverse]
    return values


def word_features(encoder: Encoder, texts: Sequence[str], words: WordList) -> FloatArray:
    """What a head would read of listed words, for training one.

    Returns:
        float32 `[n_texts, n_groups + 3]`, as `WordFinder.features` gives it.

    Raises:
        ConfigError: the encoder's tokenizer is of a kind whose tokens don't say where words begin.
    """
    reading = encoder.reading()
    prepared = encoder.prepare(pa.table({"text": pa.array(texts, pa.string())}), reading)
    found = WordFinder(words, reading.tokenizer).features(prepared.arrays["ids"], prepared.arrays["lengths"])
    values = np.empty_like(found)
    values[prepared.arrays["order"]] = found
    return values[prepared.inverse]
