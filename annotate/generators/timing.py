"""How long a loaded model takes for requests, told from a few tokens of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from annotate.generators.base import Request
    from annotate.generators.generation import Generation

TRIED_TOKENS = 32
"""No more tokens of a completion are written."""
TRIED_REQUESTS = 16
"""No more requests are tried, or as many as a batch has."""


def like_a_batch(requests: Sequence[Request], most: int) -> list[Request]:
    """Requests that make batches as full as those of all: of as few prompts as can be, and of about equal lengths.

    With many prompts, those of the first few requests would be alone in their batches, or nearly so; and a batch takes
    about as long with one document as with several.

    Args:
        requests: of a unit.
        most: how many are wanted, at most.
    """
    of_prompt: dict[str, list[Request]] = {}
    for request in requests:
        of_prompt.setdefault(request.prompt, []).append(request)
    found: list[Request] = []
    for some in of_prompt.values():
        some.sort(key=lambda request: len(request.opening))
        n = min(most - len(found), len(some))
        start = (len(some) - n) // 2  # of middling length
        found += some[start : start + n]
    return found


def time_requests(loaded: Generation, requests: Sequence[Request]) -> tuple[float, float]:
    """Time requests: reading apart from writing, which alone takes longer the more tokens are written.

    Prompts are read three times, and openings twice.

    Args:
        loaded: the model; afterwards as before.
        requests: at least one.

    Returns:
        The seconds that the requests take besides their prompts, if each completion has `max_tokens`; and the seconds
        that the prompts take, each read once.
    """
    settings, most = loaded.settings, loaded.settings.sampling.max_tokens

    def take(tokens: int) -> tuple[float, int]:
        """Seconds, and the tokens that were written."""
        sampling = dataclasses.replace(settings.sampling, max_tokens=tokens)
        loaded.settings = dataclasses.replace(settings, sampling=sampling)
        try:
            started = time.perf_counter()
            made = loaded.complete(requests)
            return time.perf_counter() - started, int(made.tokens.sum())
        finally:
            loaded.settings = settings

    # The longer one first: what is slow the first time can make a token slower than it is, and never faster.
    few, several = take(min(most, TRIED_TOKENS))
    one, completed = take(1)
    started = time.perf_counter()
    with torch.inference_mode():
        for prompt in {request.prompt for request in requests}:
            loaded.read(settings.prefix(prompt))
        loaded.wait()
    prompts = time.perf_counter() - started
    a_token = max(0.0, few - one) / max(1, several - completed)
    return max(0.0, one - prompts) + a_token * (most - 1) * completed, prompts
