"""Guidance by other tags, or by none: a logits processor for `model.generate`.

At each token the log-probabilities of the own prompt are moved by one or more terms, each with a weight. A `Contrast`
is the difference between two prompts; a `Posterior` is how sure the model is, by Bayes' rule, that the text is of one
tag and not of the opposite one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch

from annotate.errors import ConfigError
from annotate.inference.other_prompts import OtherPrompts


@dataclass(frozen=True)
class Contrast:
    """Adds `weight * (log p(token | tags) - log p(token | against))` to the log-probability of each token.

        Contrast("nice", weight=2)  # with the prompt under <nice>: classifier-free guidance with scale 3
        [Contrast("nice"), Contrast("true", weight=1.5)]  # with an untagged prompt: a product of experts

    With the prompt's own tags and a weight of `scale - 1` it is classifier-free guidance (Sanchez et al. 2023, arXiv
    2306.17806; with tags, Fan et al. 2025, arXiv 2505.16570). Several are added.

    Attributes:
        tags: names of tags or aliases to move towards; one string is one name. Empty: the untagged text.
        against: those to move away from. Empty: the untagged text.
        weight: how far; negative moves the other way.
    """

    tags: str | Sequence[str]
    _: KW_ONLY
    against: str | Sequence[str] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if set(_names(self.tags)) == set(_names(self.against)):
            raise ConfigError(f"a contrast is between different tags, got {self.tags!r} twice")


@dataclass(frozen=True)
class Posterior:
    """Adds `weight * log p(tags | text and token)` to the log-probability of each token.

        Posterior("nice", against="nasty", weight=30)

    The text has either the tags or the opposite ones, and Bayes' rule says which: `p(tags | text)` is the logistic
    function of the difference of the text's two log-likelihoods, divided by the number of its tokens, plus that of the
    priors (GeDi, Krause et al. 2021, arXiv 2009.06367, section 3; without its filter of tokens). The text is what has
    been written so far, without the prompt. Because each tag's likelihood is set against the other's, what the two
    have in common, such as the topic, drops out.

    Attributes:
        tags: names of tags or aliases that the text is to have; one string is one name.
        against: the opposite tags.
        weight: how much it counts. GeDi's is 30.
        prior: the probability of `tags` before anything is written.
    """

    tags: str | Sequence[str]
    _: KW_ONLY
    against: str | Sequence[str]
    weight: float = 30.0
    prior: float = 0.5

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if not _names(self.tags) or not _names(self.against) or set(_names(self.tags)) == set(_names(self.against)):
            raise ConfigError(
                f"a posterior is of one tag and its opposite, got {self.tags!r} and {self.against!r}",
                hint="To move away from untagged text, use Contrast(tags).",
            )
        if not 0 < self.prior < 1:
            raise ConfigError(f"prior is between 0 and 1, got {self.prior}")


Term = Contrast | Posterior


class Guidance:
    """Moves log-probabilities by some terms.

    Tags themselves are not guided: untagged text has none, so that any chance of a tag would become certainty. Each tag
    keeps its probability, and the tokens of the text share the rest.

    Args:
        terms: what is added.
        places: by term, the prompts of its tags and of those that it goes against: numbers in `others`; None: the own
            prompt.
        others: the other prompts.
    """

    def __init__(
        self, terms: Sequence[Term], places: Sequence[tuple[int | None, int | None]], others: OtherPrompts
    ) -> None:
        self.terms, self.places, self.others = terms, places, others

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The guided log-probabilities, float `[n, n_tokens]`, of what may follow `input_ids`, int64 `[n, length]`."""
        logs = self.others.follow(input_ids)
        own = torch.log_softmax(scores.float(), -1)
        guided = own.clone()
        for term, places in zip(self.terms, self.places, strict=True):
            towards, away = (own if place is None else logs[place] for place in places)
            if isinstance(term, Posterior):
                guided += term.weight * self._posterior(term, places, towards - away)
            else:
                guided += term.weight * (towards - away)
        banned = torch.isneginf(own)  # what another processor has banned stays banned
        tags = torch.zeros(own.shape[1], dtype=torch.bool, device=own.device)
        tags[sorted(self.others.tags)] = True
        text = torch.log_softmax(guided.masked_fill(banned | tags, -torch.inf), -1)
        share = torch.logsumexp(own.masked_fill(tags, -torch.inf), -1, keepdim=True)
        return torch.where(tags, own, (text + share).masked_fill(banned, -torch.inf))

    def _posterior(
        self, term: Posterior, places: tuple[int | None, int | None], difference: torch.Tensor
    ) -> torch.Tensor:
        """The log-probability of the tags after each token, float `[n, n_tokens]`."""
        sums = self.others.sums
        towards, away = places
        assert towards is not None and away is not None, "a posterior's prompts are read from their start"
        so_far = (sums[towards] - sums[away])[:, None]
        evidence = (so_far + difference) / (self.others.count[:, None] + 1)
        return torch.nn.functional.logsigmoid(evidence + math.log(term.prior / (1 - term.prior)))


def as_terms(guidance: Any) -> tuple[Term, ...]:
    """One term, or several.

    Raises:
        ConfigError: it is something else.
    """
    terms = tuple(guidance) if isinstance(guidance, Sequence) else (guidance,)
    if not all(isinstance(term, Term) for term in terms):
        raise ConfigError(
            f"guidance is a Contrast or a Posterior, or several, got {guidance!r}",
            hint="A guidance scale of 3 away from untagged text is Contrast(tags, weight=2).",
        )
    return terms


def _check_weight(weight: float) -> None:
    if not math.isfinite(weight) or weight == 0:
        raise ConfigError(f"a weight is a number other than 0, got {weight}")


def _names(tags: str | Sequence[str]) -> tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(tags)
