"""Guidance away from other tags, or from none: a logits processor for `model.generate`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from annotate.tokens import TagVocabulary


class Guidance:
    """Goes from the log-probabilities under another prompt towards those under this one, and beyond.

    The other prompt is written on with the same tokens of text; where tags are put among these, its own are put among
    its. Which tag comes is not guided: untagged text has none, so that any chance of one would become certainty. Each
    row has a cache of its own, which follows it when beams are reordered.

    Args:
        model: the one that generates.
        ids: of the other prompts, int64 `[n, length]`.
        mask: 0 at their padding.
        scale: times the difference.
        width: tokens of the prompts that are written on, padding counted.
        vocabulary: all tags.
        again: ids that close, and that open, among the text of the other prompts, where tags do so among that of these.
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
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's forward takes anything
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
        guided = guided.masked_fill(torch.isneginf(own), -torch.inf)  # what another processor took stays out
        return torch.log_softmax(guided, -1)

    def _translated(self, row: list[int]) -> list[int]:
        """What the last token of a row is for the other prompt."""
        if row[-1] not in self.tags:
            return row[-1:]
        before = set(itertools.takewhile(self.tags.__contains__, reversed(row[self.width : -1])))
        if row[-1] in self.closing:
            return [] if before else self.again_close
        if before - self.closing:
            return []
        return self.again_open if before else [*self.again_close, *self.again_open]

    def _continued(self, input_ids: torch.Tensor) -> torch.Tensor | None:
        """Which row of the last call each row goes on from, int64 `[n]`; None where there is no such call."""
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
        """Read the prompts, and return how many tokens of each row they stand for."""
        copies, device = len(input_ids) // len(self.ids), input_ids.device
        self.cache, self.other = None, torch.empty(0)
        self.attended = torch.empty(len(input_ids), 0, dtype=torch.long, device=device)
        ids, mask = (each.to(device).repeat_interleave(copies, 0) for each in (self.ids, self.mask))
        self._forward(ids, mask)
        return self.width

    def _reorder(self, rows: torch.Tensor) -> int:
        """Go on from rows of the last call, and return how many tokens of each have been read."""
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
        """Read tokens, those of mask 0 aside; a row of none keeps its log-probabilities."""
        self.attended = torch.cat([self.attended, mask], 1)
        positions = (self.attended.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        more = {"position_ids": positions} if self.positions else {}
        out = self.model(
            input_ids=ids, attention_mask=self.attended, past_key_values=self.cache, use_cache=True, **more
        )
        self.cache = out.past_key_values
        new = torch.log_softmax(out.logits[:, -1].to(ids.device).float(), -1)  # a model may be on several devices
        self.other = torch.where(mask[:, -1:] == 1, new, self.other) if len(self.other) else new
