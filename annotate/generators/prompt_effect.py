"""How much a prompt changes what a model writes: the divergence between its next tokens with and without the prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from annotate.generators.generation import Generation
from annotate.models.precision import precision
from annotate.probes.metrics import bootstrap_interval

if TYPE_CHECKING:
    from annotate.generators.base import Request, Teacher
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


def load_to_read(generator: TransformersGenerator, device: str) -> Generation:
    """Load a model so that it tells the tokens that it writes, on "cpu" or "cuda".

    Raises:
        ConfigError: it can't be loaded.
    """
    return Generation(dataclasses.replace(generator, top_k=1), device)


def prompt_effect(
    loaded: Generation,
    requests: Sequence[Request],
    *,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> PromptEffect | None:
    """Complete openings under prompts, and read each completion with its prompt and without.

    Args:
        loaded: what `load_to_read` gives.
        requests: to complete, of one prompt or several.
        seed: of the bootstrap.
        tell: is given how many openings are completed, or completions read, of how many there are of both.

    Returns:
        None if no request could be completed.
    """
    generator, n = loaded.settings, len(requests)
    order = sorted(range(n), key=lambda i: (requests[i].prompt, len(requests[i].opening), i))
    teacher: dict[int, Teacher] = {}
    for start in range(0, n, generator.batch_rows):
        some = order[start : start + generator.batch_rows]
        made_of = loaded.complete([requests[i] for i in some]).teacher
        teacher |= {some[at]: made for at, made in made_of.items()}
        tell(start + len(some), 2 * n)
    sums, changed, sizes = [], 0, []
    for number, (i, made) in enumerate(sorted(teacher.items())):
        tell(n + number, 2 * n)
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
