"""Hidden states of tokens become one vector of a text."""

from __future__ import annotations

import torch

from annotate.models.base import Pool


def pool(
    hidden: torch.Tensor,
    how: Pool,
    lengths: torch.Tensor | None,
    starts: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Turn hidden states `[rows, longest, width]` into float32 `[rows, width]`, leaving padding out.

    Args:
        hidden: of all tokens.
        how: see `Pool`.
        lengths: int64 `[rows]`.
        starts: int64 `[rows]`, where the first token of each row is.
        mask: int64 `[rows, longest]`, None where nothing is padded.
    """
    hidden = hidden.float()
    if mask is None or lengths is None or starts is None:
        if how in ("first", "last"):
            return hidden[:, 0 if how == "first" else -1]
        return hidden.mean(dim=1) if how == "mean" else hidden.amax(dim=1)
    if how in ("first", "last"):
        at = starts if how == "first" else starts + lengths - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), at]
    if how == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    return (hidden * mask.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(-1)
