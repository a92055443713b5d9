"""The bag-of-words baseline: a model that knows how often each token occurs under each tag, and nothing else.

A language model whose likelihood ratios classify no better has learned lexical cues only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.proof.intervals import Float64, Int64
from annotate.proof.windows import TagFamily, Text

PRIOR = 1000.0
"""How many tokens the distribution over all states counts for in that of each: rare tokens get no wild ratios."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Unigram:
    """Log-probabilities of tokens by state: float64 `[states, vocabulary]`, nats. State 0 is that of all tokens."""

    logs: Float64

    @staticmethod
    def of(tokens: Int64, states: Int64, *, vocabulary: int, n_states: int) -> Unigram:
        """Count tokens.

        Args:
            tokens: int64 `[n]`, of the text of training.
            states: int64 `[n]`, the state of each token's span: 0 without a tag, k with tag k.
            vocabulary: how many ids there are.
            n_states: how many states.
        """
        counts = np.bincount(states * vocabulary + tokens, minlength=n_states * vocabulary)
        by_state = counts.reshape(n_states, vocabulary).astype(np.float64)
        whole = by_state.sum(axis=0) + 1
        whole /= whole.sum()
        each = (by_state + PRIOR * whole) / (by_state.sum(axis=1, keepdims=True) + PRIOR)
        if n_states > 2:
            each[0] = whole  # without a tag, one of the family may have been left out: nothing is known
        return Unigram(logs=np.log(each))

    @staticmethod
    def of_text(text: Text, family: TagFamily, vocabulary: int) -> Unigram:
        """Count the tokens of the spans of a text, under the tags of a family."""
        inside = text.spans >= 0
        return Unigram.of(
            text.tokens[inside].astype(np.int64),
            text.of_spans.states(family)[text.spans[inside]],
            vocabulary=vocabulary,
            n_states=len(family.ids) + 1,
        )

    def likelihoods(self, tokens: Int64, spans: Int64, n: int) -> Float64:
        """Log-likelihoods of spans under each state: float64 `[n, states]`, nats.

        Args:
            tokens: int64 `[m]`.
            spans: int64 `[m]`, the number of each token's span, from 0 to n - 1.
            n: how many spans there are.
        """
        return np.stack([np.bincount(spans, weights=row[tokens], minlength=n) for row in self.logs], axis=1)
