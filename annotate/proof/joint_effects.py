"""What two tags do to the logits of held-out spans, each alone and both together (metric 9).

One pass does a whole segment, as for likelihoods. For each span that has tags of two families there is a branch without
either, and one for each alone; the segment itself has both. All else that stands before the span stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from annotate.proof.arms import Rendering
from annotate.proof.intervals import Bool, Float64
from annotate.proof.likelihoods import BATCH_TOKENS, Row, batches, branched_row, predictions, replaced, whole_spans
from annotate.proof.windows import Int32, TagFamily, Text

CHOICES = 4  # neither, first, second, both
SUMS = 3
"""Sums over the tokens and the vocabulary, of `effects`."""


def pairs_of(families: Sequence[TagFamily]) -> list[tuple[int, int]]:
    """All pairs of families."""
    return list(itertools.combinations(range(len(families)), 2))


def rows_of_pairs(rendering: Rendering, families: Sequence[TagFamily]) -> list[Row]:
    """The rows that give the effects of tags for the whole spans of a text that have tags of two families.

    A target's column is 4 times the pair of families, and 0 for neither, 1 for the first, 2 for the second, 3 for both.

    Args:
        rendering: the text with its tags.
        families: of tags.
    """
    whole = whole_spans(rendering.text)
    states = np.stack([rendering.text.of_spans.states(family) for family in families], axis=1)

    def variants(span: int, tags: Int32) -> Iterator[tuple[int, Int32 | None]]:
        for k, (first, second) in enumerate(pairs_of(families)):
            if states[span, first] and states[span, second]:
                without = [replaced(tags, families, family, 0) for family in (first, second)]
                yield CHOICES * k, replaced(without[0], families, second, 0)
                yield CHOICES * k + 1, without[1]
                yield CHOICES * k + 2, without[0]
                yield CHOICES * k + 3, None

    rows = [branched_row(rendering, i, whole, variants) for i in range(len(rendering.text.documents))]
    return [row for row in rows if len(row.targets)]


def effects(neither: torch.Tensor, first: torch.Tensor, second: torch.Tensor, both: torch.Tensor) -> Float64:
    """Sums of squares and products of effects on logits, for each position: float64 `[n, 3]`.

    A softmax knows its logits up to a constant, so those of each position are centred first. Then the effect of both
    tags is `both - neither`, and the sum of their effects alone `first + second - 2 * neither`. The sums over the
    vocabulary are: the square of the effect of both, the square of the sum, and the product of the two.

    Args:
        neither: float `[n, vocabulary]`, without the two tags.
        first: under the first tag.
        second: under the second.
        both: under both.
    """
    base, one, other, joint = (each - each.mean(dim=1, keepdim=True) for each in (neither, first, second, both))
    joint, added = joint - base, one + other - 2 * base
    sums = [(a * b).sum(dim=1, dtype=torch.float64) for a, b in ((joint, joint), (added, added), (joint, added))]
    return torch.stack(sums, dim=1).cpu().numpy()


@torch.no_grad()
def joint_effects(model: Any, rows: Sequence[Row], text: Text, families: Sequence[TagFamily]) -> Float64:
    """Sums of `effects` over the tokens of spans: float64 `[n_spans, pairs, 2, 3]`; NaN for spans without both tags.

    The third axis has the first token of each span apart from all behind it: a tag also tells that a span begins, and
    two tags tell that once. The vocabulary is that of text, without tags.

    Args:
        model: a causal model of Transformers, which takes a mask of four dimensions.
        rows: from `rows_of_pairs`.
        text: what they are of.
        families: of tags, which are left out of the vocabulary.
    """
    tags = torch.tensor([token for family in families for token in family.ids])
    shape = (len(text.of_spans), len(pairs_of(families)), 2, SUMS)
    sums, seen = np.zeros(shape), np.zeros(shape[:2], bool)
    cut = _at_heads(text)
    model.eval()
    for batch in batches(rows, BATCH_TOKENS // CHOICES):
        logits = predictions(model, batch)
        kept = torch.ones(logits.shape[1], dtype=torch.bool)
        kept[tags] = False
        spans, columns = (np.concatenate([getattr(row, name) for row in batch]) for name in ("spans", "columns"))
        # All choices of a span have the same tokens in the same order.
        choices = np.argsort(columns % CHOICES, kind="stable").reshape(CHOICES, -1)
        found = effects(*(logits[torch.from_numpy(each).to(logits.device)][:, kept] for each in choices))
        spans, pairs = spans[choices[-1]], columns[choices[-1]] // CHOICES
        starts = np.append(True, (spans[1:] != spans[:-1]) | (pairs[1:] != pairs[:-1]))
        behind = np.where(starts & ~cut[spans], 0, 1)
        np.add.at(sums, (spans, pairs, behind), found)
        seen[spans, pairs] = True
    return np.where(seen[:, :, None, None], sums, np.nan)


def _at_heads(text: Text) -> Bool:
    """Which spans stand at the head of a segment, where the first token does not count: bool `[n_spans]`."""
    heads = text.spans[text.segments[:-1]]
    found = np.zeros(len(text.of_spans), bool)
    found[heads[heads >= 0]] = True
    return found
