"""How likely what is being written is under other tags: the text is read under other prompts beside its own."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from annotate.tokens import TagVocabulary


class OtherPrompts:
    """Continues other prompts with the text that `model.generate` writes.

    Where tags stand before a span of what is written, the other texts get the tags of their own prompts in their place.
    Each row has a cache of its own, which follows it when beams are reordered.

    Args:
        model: the model that generates.
        ids: the other prompts, int64 `[n_prompts, n, length]`.
        mask: int64 `[n_prompts, n, length]`, 0 at their padding.
        width: tokens of the own prompts, padding counted.
        vocabulary: all tags.
        again: by prompt, the ids that stand between two spans under its tags: those of closing tags, and those of tags.

    Attributes:
        tags: the ids of all tags.
        sums: the log-likelihood of what was written, under each prompt, in nats: float `[n_prompts, n_rows]`. Tags do
            not count.
        count: how many tokens that are, int64 `[n_rows]`.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        width: int,
        vocabulary: TagVocabulary,
        again: Sequence[tuple[Sequence[int], Sequence[int]]],
    ) -> None:
        self.model, self.ids, self.mask, self.width = model, ids, mask, width
        self.tags, self.closing = frozenset(vocabulary.ids), frozenset(vocabulary.closing_ids)
        self.again = [(list(closing), list(opening)) for closing, opening in again]
        # The forward of PEFT does not name its arguments.
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.positions = "position_ids" in inspect.signature(inner.forward).parameters
        self.seen: torch.Tensor | None = None  # what the last call was given
        self.cache: Any = None
        self.attended, self.next = torch.empty(0, dtype=torch.long), torch.empty(0)
        self.sums, self.count = torch.empty(0), torch.empty(0, dtype=torch.long)

    def follow(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The log-probabilities of what may follow `input_ids`, int64 `[n_rows, length]`, under each prompt.

        Returns:
            float `[n_prompts, n_rows, n_tokens]`.
        """
        rows = self._continued(input_ids)
        fed = self._start(input_ids) if rows is None else self._reorder(rows)
        for end in range(fed + 1, input_ids.shape[1] + 1):
            self._count(input_ids[:, end - 1])
            texts = input_ids[:, :end].tolist()
            self._feed([self._translated(row, *again) for again in self.again for row in texts])
        self.seen = input_ids
        return self.next.view(len(self.again), len(input_ids), -1)

    def _translated(self, row: list[int], again_close: list[int], again_open: list[int]) -> list[int]:
        """The ids that another text gets for the last token of a row."""
        if row[-1] not in self.tags:
            return row[-1:]
        before = set(itertools.takewhile(self.tags.__contains__, reversed(row[self.width : -1])))
        if row[-1] in self.closing:
            return [] if before else again_close
        if before - self.closing:
            return []
        return again_open if before else [*again_close, *again_open]

    def _continued(self, input_ids: torch.Tensor) -> torch.Tensor | None:
        """The row of the last call that each row continues, int64 `[n_rows]`; None: some row continues none."""
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
        n_prompts, n, _ = self.ids.shape
        rows, device = len(input_ids), input_ids.device
        self.cache, self.next = None, torch.empty(0)
        self.attended = torch.empty(n_prompts * rows, 0, dtype=torch.long, device=device)
        self.sums, self.count = torch.zeros(n_prompts, rows, device=device), torch.zeros(rows, device=device).long()
        ids, mask = (each.to(device).repeat_interleave(rows // n, 1).flatten(0, 1) for each in (self.ids, self.mask))
        self._forward(ids, mask)
        return self.width

    def _reorder(self, rows: torch.Tensor) -> int:
        """Go on from rows of the last call; return how many tokens of each have been read."""
        assert self.seen is not None, "there was a call"
        before = len(self.seen)
        if not torch.equal(rows, torch.arange(before, device=rows.device)):
            offsets = torch.arange(len(self.again), device=rows.device)[:, None] * before
            every = (offsets + rows).flatten()
            self.cache.reorder_cache(every)
            self.attended, self.next = self.attended[every], self.next[every]
            self.sums, self.count = self.sums[:, rows], self.count[rows]
        return self.seen.shape[1]

    def _count(self, written: torch.Tensor) -> None:
        """Add the last token of each row, int64 `[n_rows]`, to the sums, unless it is a tag."""
        text = ~torch.isin(written, torch.tensor(sorted(self.tags), device=written.device))
        logs = self.next.view(len(self.again), len(written), -1)
        of_token = logs.gather(2, written.expand(len(self.again), -1)[..., None])[..., 0]
        self.sums = self.sums + torch.where(text, of_token, 0.0)
        self.count = self.count + text

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
        self.next = torch.where(mask[:, -1:] == 1, new, self.next) if len(self.next) else new
