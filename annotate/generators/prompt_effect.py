"""How much a prompt changes what a model writes: the divergence between its next tokens with and without the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from annotate.generators.generation import Generation
from annotate.models.precision import precision
from annotate.probes.metrics import bootstrap_interval

if TYPE_CHECKING:
    from annotate.generators.base import Request
    from annotate.generators.transformers_generator import TransformersGenerator


@dataclass(frozen=True)
class PromptEffect:
    """What a prompt does to the tokens that a model writes under it.

    Attributes:
        documents: completions that were looked at.
        tokens: of them.
        divergence: mean over the tokens of KL(with the prompt || without it), in nats: of the model's own distribution
            over its whole vocabulary.
        low: of its 95 % interval, by a bootstrap over documents.
        high: likewise.
        changed: share of the tokens in whose place another one is the most probable without the prompt.
    """

    documents: int
    tokens: int
    divergence: float
    low: float
    high: float
    changed: float


def prompt_effect(
    generator: TransformersGenerator, requests: Sequence[Request], device: str, *, seed: int = 0
) -> PromptEffect | None:
    """Complete openings under prompts, and read each completion with its prompt and without.

    Args:
        generator: a model here; of a server the probabilities are not known.
        requests: to complete, of one prompt or several.
        device: "cpu" or "cuda".
        seed: of the bootstrap.

    Returns:
        None if no request could be completed.

    Raises:
        ConfigError: the model can't be loaded.
    """
    loaded = Generation(dataclasses.replace(generator, top_k=1), device)  # so that it tells the tokens
    teacher = loaded.complete(requests).teacher
    sums, changed, sizes = [], 0, []
    for i, made in sorted(teacher.items()):
        opening = loaded.encode([requests[i].opening])[0]
        prefixes = (generator.prefix(requests[i].prompt), generator.prefix(""))
        pair = [_log_probabilities(loaded, [*prefix, *opening], made.tokens) for prefix in prefixes]
        under, without = pair
        if under is None or without is None:
            continue
        sums.append(float((under.exp() * (under - without)).sum()))
        changed += int((under.argmax(-1) != without.argmax(-1)).sum())
        sizes.append(len(made.tokens))
    if not sizes:
        return None
    totals, lengths = np.array(sums), np.array(sizes)

    def mean(rows: npt.NDArray[np.int64]) -> float:
        return float(totals[rows].sum() / lengths[rows].sum())

    low, high = bootstrap_interval(mean, len(lengths), seed=seed)
    tokens = int(lengths.sum())
    return PromptEffect(len(lengths), tokens, mean(np.arange(len(lengths))), low, high, changed / tokens)


@torch.inference_mode()
def _log_probabilities(loaded: Generation, before: Sequence[int], tokens: npt.NDArray[np.int32]) -> torch.Tensor | None:
    """Log-probabilities in the place of each token, float64 `[n, known]`; None if nothing stands before the first."""
    if not before:
        return None
    ids = torch.tensor([[*before, *tokens.tolist()[:-1]]], device=loaded.device)
    with precision(loaded.device, loaded.settings.model.dtype):
        logits = loaded.model(input_ids=ids).logits[0, -len(tokens) :, : loaded.known]
    return torch.log_softmax(logits.double(), dim=-1)
