"""Which token comes next: drawn from a model's logits by a hash, so that a row's draw does not depend on other rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from annotate.generators.base import Sampling
from annotate.randomness import keyed_hash, uniform


def draw(
    logits: torch.Tensor, keys: npt.NDArray[np.uint64], places: npt.NDArray[np.int64], sampling: Sampling
) -> torch.Tensor:
    """Draw the next token of each row.

    A row's number in [0, 1) is a hash of its key and of the place of the token in its completion. The token is the one
    on which this number falls, when the probabilities of all tokens lie one behind another in the order of their ids.

    Args:
        logits: `[rows, vocabulary]`; minus infinity for a token that is not to be drawn.
        keys: of the rows, uint64 `[rows]`.
        places: number of tokens that each completion has already, int64 `[rows]`.
        sampling: temperature and top_p.

    Returns:
        int64 `[rows]`, on the device of `logits`.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    shares = torch.softmax(logits.float() / sampling.temperature, dim=-1).double()
    if sampling.top_p < 1:
        shares = _nucleus(shares, sampling.top_p)
    edges = shares.cumsum(dim=-1)
    drawn = torch.from_numpy(uniform(keyed_hash(sampling.seed, keys, places))).to(logits.device)
    point = drawn * edges[:, -1]
    found = torch.searchsorted(edges, point.unsqueeze(1), right=True).squeeze(1)
    # Rounding may put a point on the last edge. Then the last token that has a share is meant.
    last = shares.shape[1] - 1 - (shares > 0).flip(-1).int().argmax(dim=-1)
    return torch.minimum(found, last)


def _nucleus(shares: torch.Tensor, top_p: float) -> torch.Tensor:
    """The shares of the fewest tokens that have `top_p` together, 0 for all others. Of equal ones the first stay."""
    ordered, order = shares.sort(dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p
    return torch.zeros_like(shares).scatter(-1, order, ordered * kept)
