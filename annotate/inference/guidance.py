"""Guidance away from other tags, or from none: a logits processor for `model.generate`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from annotate.tokens import TagVocabulary


class Guidance:
    """Moves log-probabilities away from those under another prompt: `other + scale * (own - other)`.

    The text that is written continues the other prompt too. Where tags are put before a span of it, the other text gets
    the tags of the other prompt in their place. Tags themselves are not guided: untagged text has none, so that any
    chance of a tag would become certainty. Each row has a cache of its own, which follows it when beams are reordered.

    Args:
        model: the model that generates.
        ids: the other prompts, int64 `[n, length]`.
        mask: int64 `[n, length]`, 0 at their padding.
        scale: how far to go; 1 is no guidance.
        width: tokens of the own prompts, padding counted.
        vocabulary: all tags.
        again: the ids that stand between two spans under the tags of the other prompts: those of closing tags, and
            those of tags.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        scale: float,
        width: int,
        vocabulary: TagVocabulary,
        again: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        self.model, self.ids, self.mask, self.scale, self.width = model, ids, mask, scale, width
        self.tags, self.closing = frozenset(vocabulary.ids), frozenset(vocabulary.closing_ids)
        self.again_close, self.again_open = map(list, again)
        # The forward of PEFT does not name its arguments.
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.positions = "position_ids" in inspect.signature(inner.forward).parameters
        self.seen: torch.Tensor | None = None  # what the last call was given
        self.cache: Any = None
        self.attended, self.other = torch.empty(0, dtype=torch.long), torch.empty(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The guided log-probabilities, float `[n, n_tokens]`, of what may follow `input_ids`, int64 `[n, length]`."""
        rows = self._continued(input_ids)
        fed = self._start(input_ids) if rows is None else self._reorder(rows)
        for end in range(fed + 1, input_ids.shape[1] + 1):
            self._feed([self._translated(row) for row in input_ids[:, :end].tolist()])
        self.seen = input_ids
        own = torch.log_softmax(scores.float(), -1)
        guided = self.other + self.scale * (own - self.other)
        tags = sorted(self.tags)
        guided[:, tags] = own[:, tags]
        guided = guided.masked_fill(torch.isneginf(own), -torch.inf)  # what another processor has banned stays banned
        return torch.log_softmax(guided, -1)

    def _translated(self, row: list[int]) -> list[int]:
        """The ids that the other text gets for the last token of a row."""
        if row[-1] not in self.tags:
            return row[-1:]
        before = set(itertools.takewhile(self.tags.__contains__, reversed(row[self.width : -1])))
        if row[-1] in self.closing:
            return [] if before else self.again_close
        if before - self.closing:
            return []
        return self.again_open if before else [*self.again_close, *self.again_open]

    def _continued(self, input_ids: torch.Tensor) -> torch.Tensor | None:
        """The row of the last call that each row continues, int64 `[n]`; None: some row continues none."""
        if self.seen is None or self.seen.shape[1] >= input_ids.shape[1]:
            return None
        same = (input_ids[:, None, : self.seen.shape[1]] == self.seen[None]).all(-1)  # [n, n of the last call]
        if not same.any(1).all():
            return None
        own = torch.arange(len(same), device=same.device)
        if len(same) == same.shape[1] and same[own, own].all():
            return own
        return same.int().argmax(1)

    def _start(self, input_ids: torch.Tensor) -> int:
        """Read the other prompts; return how many tokens of each own row they stand for."""
        copies, device = len(input_ids) // len(self.ids), input_ids.device
        self.cache, self.other = None, torch.empty(0)
        self.attended = torch.empty(len(input_ids), 0, dtype=torch.long, device=device)
        ids, mask = (each.to(device).repeat_interleave(copies, 0) for each in (self.ids, self.mask))
        self._forward(ids, mask)
        return self.width

    def _reorder(self, rows: torch.Tensor) -> int:
        """Go on from rows of the last call; return how many tokens of each have been read."""
        assert self.seen is not None, "there was a call"
        if not torch.equal(rows, torch.arange(len(self.other), device=rows.device)):
            self.cache.reorder_cache(rows)
            self.attended, self.other = self.attended[rows], self.other[rows]
        return self.seen.shape[1]

    def _feed(self, tokens: Sequence[list[int]]) -> None:
        width = max(map(len, tokens))
        if width:
            device = self.attended.device
            ids = [[0] * (width - len(row)) + row for row in tokens]
            mask = [[0] * (width - len(row)) + [1] * len(row) for row in tokens]
            self._forward(torch.tensor(ids, device=device), torch.tensor(mask, device=device))

    @torch.no_grad()
    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Read the tokens whose mask is 1. A row without any keeps its log-probabilities."""
        self.attended = torch.cat([self.attended, mask], 1)
        positions = (self.attended.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        more = {"position_ids": positions} if self.positions else {}
        out = self.model(
            input_ids=ids, attention_mask=self.attended, past_key_values=self.cache, use_cache=True, **more
        )
        self.cache = out.past_key_values
        new = torch.log_softmax(out.logits[:, -1].to(ids.device).float(), -1)  # a model may be on several devices
        self.other = torch.where(mask[:, -1:] == 1, new, self.other) if len(self.other) else new
