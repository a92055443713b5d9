"""What a model makes of a run's documents. What does not depend on a tag is read once, for all tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotate.directions.divergence import span_log_likelihoods
from annotate.directions.progress import Tell
from annotate.directions.spans import TaggedSpans
from annotate.directions.subject import Subject
from annotate.errors import ConfigError
from annotate.models.base import FloatArray
from annotate.proof.intervals import Float64
from annotate.randomness import keyed_hash, name_key

ByLayer = Mapping[int, FloatArray]
ANCHOR = 200
"""Characters of an anchor of a probe at most."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The documents, drawn in three."""

    finding: TaggedSpans
    choosing: TaggedSpans
    measuring: TaggedSpans

    @staticmethod
    def of(texts: TaggedSpans, *, seed: int = 0) -> Parts:
        """Three fifths, one, and one, drawn by a hash of each document's number.

        Raises:
            ConfigError: there are fewer than five documents.
        """
        drawn = keyed_hash(seed, name_key("directions: parts"), np.arange(len(texts.spans)))
        fifth = np.argsort(np.argsort(drawn, kind="stable"), kind="stable") % 5
        if len(fifth) < 5:
            raise ConfigError(
                f"{len(fifth)} documents can't be drawn in three: five or more are needed",
                hint="Look at more: --documents.",
            )
        finding, choosing, measuring = (texts.where(which.tolist()) for which in (fifth < 3, fifth == 3, fifth == 4))
        return Parts(finding=finding, choosing=choosing, measuring=measuring)


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """A model, the documents, and what it makes of them whichever tag is looked at.

    Hidden states are float32 `[n_spans, width]` by layer, of the layers that are looked at; those that directions are
    found in are float32 `[n_layers, n_spans, width]`, of all layers.

    Attributes:
        subject: the model.
        parts: the documents.
        against: the tags that each tag is set against; empty: text without the tag.
        finding: the states of untagged spans, of the documents that directions are found in.
        opposite: the states of the same spans under `against`.
        choosing: as `finding`, of the documents that are chosen on; None for a model that has seen the tags.
        measuring: likewise, of those that are measured on.
        alone: the states of the spans that are measured on, each read by itself, as a probe does.
        likelihoods: their log-likelihoods in untagged documents, nats a token: float64 `[n_spans]`.
        short: spans that directions are found in, of 200 characters at most, if there are any such.
        short_alone: their states, each read by itself.
    """

    subject: Subject
    parts: Parts
    against: tuple[str, ...]
    finding: FloatArray
    opposite: FloatArray
    choosing: ByLayer | None
    measuring: ByLayer
    alone: ByLayer
    likelihoods: Float64
    short: Sequence[str]
    short_alone: ByLayer

    @staticmethod
    def of(subject: Subject, parts: Parts, against: tuple[str, ...], tell: Tell) -> Readings:
        """Read the documents."""

        def untagged(texts: TaggedSpans, what: str) -> FloatArray:
            return subject.states(subject.reader.untagged(texts), texts, tell, f"hidden states of spans to {what}")

        def looked_at(states: FloatArray) -> ByLayer:
            return {layer: states[layer - 1].copy() for layer in subject.layers}  # copies: the rest is let go

        finding = untagged(parts.finding, "find directions in")
        opposite = finding
        if against and subject.knows_tags:
            rows = subject.reader.under(parts.finding, against)
            opposite = subject.states(rows, parts.finding, tell, "hidden states of the same under --against")
        spans = list(dict.fromkeys(span.strip() for each in parts.finding.spans for span in each if span.strip()))
        short = [span for span in spans if len(span) <= ANCHOR] or spans
        measured = [span for each in parts.measuring.spans for span in each]
        return Readings(
            subject=subject,
            parts=parts,
            against=against,
            finding=finding,
            opposite=opposite,
            choosing=None if subject.knows_tags else looked_at(untagged(parts.choosing, "choose a layer on")),
            measuring=looked_at(untagged(parts.measuring, "measure on")),
            alone=looked_at(subject.states_alone(measured, tell, "hidden states of the same, each read by itself")),
            likelihoods=span_log_likelihoods(
                subject.model,
                subject.reader.untagged(parts.measuring),
                len(measured),
                {},
                banned=subject.banned,
            ),
            short=short,
            short_alone=looked_at(subject.states_alone(short, tell, "hidden states of anchors, each read by itself")),
        )
