"""How far a model that reads plain text is from itself reading the text under tags, and how near steering brings it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from annotate.directions.rows import Rows
from annotate.directions.steering import Additions, steered

Float64 = npt.NDArray[np.float64]


@torch.no_grad()
def divergences(
    model: Any,
    target: Rows,
    plain: Rows,
    additions: Sequence[Additions],
    *,
    banned: Sequence[int],
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Float64, npt.NDArray[np.int64]]:
    """The Kullback-Leibler divergence of what a model expects in texts under tags from plain texts, steered.

    For each token of a text, the next-token distribution in front of it under tags is compared with that in front of
    the same token in the plain text, over all tokens but tags.

    Args:
        model: a causal model of Transformers.
        target: the texts under tags.
        plain: the same texts without.
        additions: what is added to the hidden states, in each try; an empty one adds nothing.
        banned: the ids of all tags, which the distributions leave out.
        tell: is given how many texts are done, of how many.

    Returns:
        Sums over the tokens of each text, in nats, float64 `[n_tries, n_texts]`, and how many tokens these are, int64
        `[n_texts]`. A sum is NaN where the model gives numbers that are none.
    """
    sums, number = np.zeros((len(additions), len(target.ids))), np.zeros(len(target.ids), np.int64)
    drop = torch.tensor(sorted(banned), dtype=torch.long, device=model.device)
    for i in range(len(target.ids)):  # one by one: the distributions of a text are as large as its logits
        wanted = _logs(model, target, i, drop)
        for k, added in enumerate(additions):
            with steered(model, added):
                found = _logs(model, plain, i, drop)
            number[i] = n = min(len(wanted), len(found))  # where no token begins a text, its first has none before it
            p, q = wanted[len(wanted) - n :], found[len(found) - n :]
            sums[k, i] = float(torch.where(torch.isneginf(p), 0.0, p.exp() * (p - q)).sum(dtype=torch.float64))
        tell(i + 1, len(target.ids))
    return sums, number


@torch.no_grad()
def span_log_likelihoods(
    model: Any, rows: Rows, spans: int, additions: Additions, *, banned: Sequence[int], batch_size: int = 8
) -> Float64:
    """The log-likelihood of each span, over all tokens but tags, in nats a token: float64 `[n_spans]`; NaN without any.

    Args:
        model: a causal model of Transformers.
        rows: what it reads.
        spans: how many spans there are.
        additions: what is added to its hidden states.
        banned: the ids of all tags.
        batch_size: rows in one forward pass.
    """
    found, number = np.zeros(spans), np.zeros(spans)
    drop = torch.tensor(sorted(banned), dtype=torch.long, device=model.device)
    with steered(model, additions):
        for which, ids, mask in rows.batches(batch_size, model.device):
            logits = model(input_ids=ids, attention_mask=mask).logits
            for i, own in enumerate(rows.spans[which]):
                at = np.flatnonzero(own[1:] >= 0)
                logs = _without(logits[i, torch.from_numpy(at).to(logits.device)], drop)
                of_token = logs.gather(1, ids[i, 1:][torch.from_numpy(at).to(ids.device), None])[:, 0]
                np.add.at(found, own[1:][at], of_token.double().cpu().numpy())
                np.add.at(number, own[1:][at], 1)
    with np.errstate(invalid="ignore"):
        return found / number


def _logs(model: Any, rows: Rows, i: int, drop: torch.Tensor) -> torch.Tensor:
    """Log-probabilities in front of each token of a text, float `[n, n_tokens]`."""
    ids = torch.from_numpy(rows.ids[i]).to(model.device)
    at = torch.from_numpy(np.flatnonzero(rows.spans[i][1:] >= 0)).to(model.device)
    return _without(model(input_ids=ids[None]).logits[0, at], drop)


def _without(logits: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float().index_fill(1, drop, -torch.inf), -1)
