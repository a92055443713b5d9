"""SafeBeam: text that stays away from a tag, by looking one token ahead (Maini et al. 2025, arXiv 2504.16980, 4.1).

It is for tags that stand only where something is wrong, such as those of the layout "repeat". There is no opposite tag
to write under. But a model that was trained to write the tag says, by the tag's probability, how close it is to such
text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import torch

from annotate.errors import ConfigError
from annotate.inference.tagged import Trained
from annotate.tokens.tokenizer import backend_of


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written after a text.

    Attributes:
        text: without the text before it.
        log_likelihood: of its tokens, in nats, where tags can't come.
        tokens: how many these are, with the one that ends a document.
        risk: the highest probability, before, in or after it, that an avoided tag comes next.
    """

    text: str
    log_likelihood: float
    tokens: int
    risk: float


@dataclass(frozen=True)
class _Beam:
    """Tokens that were written, their log-likelihood, and the highest probability of an avoided tag among them."""

    ids: tuple[int, ...] = ()
    log_likelihood: float = 0.0
    risk: float = 0.0


def safe_beam(
    model: Any,
    tokenizer: Any,
    folder: str | PathLike[str],
    text: str = "",
    *,
    avoid: str | Sequence[str],
    max_new_tokens: int,
    beams: int = 8,
    candidates: int = 4,
    discard: float = 0.5,
) -> Written:
    """Continue an untagged text so that the avoided tags are unlikely all along. No tag is written.

        safe_beam(model, tokenizer, folder, "Once", avoid="unsafe", max_new_tokens=50).text

    At each token, each beam is continued by its likeliest tokens. The model reads each of these candidates, and gives
    the probability that an avoided tag comes next. The candidates with the highest ones are discarded; of the rest, the
    likeliest go on. A beam ends with the token that ends a document. The result is the beam with the highest
    log-likelihood a token, whether or not it has ended.

    Args:
        model: a causal model of Transformers that was trained on shards with `loss="train"`.
        tokenizer: the one that lies beside the shards.
        folder: what `annotate.tags_folder` gives.
        text: the text to continue.
        avoid: names of tags or aliases; one string is one name.
        max_new_tokens: at most.
        beams: how many go on at each token.
        candidates: continuations of a beam.
        discard: the share of candidates that is discarded.

    Raises:
        ConfigError: a tag is not known, or was no target, so that the model has not learned to write it; the tokenizer
            has other ids for the tags; there is nothing to start from; or a number is out of range.
        StorageError: there is no `tags.json`.
    """
    trained = Trained.read(tokenizer, folder)
    avoided = _avoided(trained, avoid)
    for name, value in {"max_new_tokens": max_new_tokens, "beams": beams, "candidates": candidates}.items():
        if value < 1:
            raise ConfigError(f"{name} is at least 1, not {value}")
    if not 0 <= discard < 1:
        raise ConfigError(f"discard is a share, at least 0 and below 1, not {discard}")
    reader = _Reader(model, trained, text, avoided)
    going, ended = [_Beam(risk=reader.risk)], list[_Beam]()
    for _ in range(max_new_tokens):
        found = _continued(going, reader.logs, beams * candidates if len(going) == 1 else candidates)
        ended += [beam for beam, _ in found[:beams] if beam.ids[-1] == trained.end_id]
        found = [each for each in found if each[0].ids[-1] != trained.end_id]
        if not found or not _may_win(found, ended, max_new_tokens):
            going = [beam for beam, _ in found]
            break
        risks = reader.read([parent for _, parent in found], [beam.ids[-1] for beam, _ in found])
        kept = _kept(risks, beams, discard)
        reader.keep(kept)
        going = [replace(found[i][0], risk=max(found[i][0].risk, risks[i])) for i in kept]
    best = max([*ended, *going], key=lambda beam: beam.log_likelihood / len(beam.ids))
    written = [i for i in best.ids if i != trained.end_id]
    return Written(
        text=reader.decoded(backend_of(tokenizer), written),
        log_likelihood=best.log_likelihood,
        tokens=len(best.ids),
        risk=best.risk,
    )


class _Reader:
    """The model's state after each of some texts, which begin alike.

    Attributes:
        logs: log-probabilities of what comes next, float `[n_texts, n_tokens]`; tags can't come.
        risk: the probability that an avoided tag stands first.
    """

    def __init__(self, model: Any, trained: Trained, text: str, avoided: Sequence[int]) -> None:
        self.model, self.banned, self.avoided = model, sorted(trained.vocabulary.ids), list(avoided)
        tagged, _ = trained.encode([text], (), every_span=False)
        ids = [*([] if trained.begin_id is None else [trained.begin_id]), *tagged.ids.tolist()]
        if not ids:
            raise ConfigError("there is neither a text nor a token for the begin of a document to start from")
        self.before: list[int] = tagged.ids.tolist()
        self.cache: Any = None
        self.logs, risks = self._forward(torch.tensor([ids], device=model.device))
        self.risk = float(risks[0])

    def decoded(self, backend: Any, written: Sequence[int]) -> str:
        """What was written, as text. Alone, some decoders drop the blank of its first token."""
        before: str = backend.decode(self.before, skip_special_tokens=True)
        whole: str = backend.decode([*self.before, *written], skip_special_tokens=True)
        return whole.removeprefix(before)

    def read(self, parents: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Read a token more after each of some texts, named by number; the probabilities of an avoided tag next."""
        self._select(parents)
        self.logs, risks = self._forward(torch.tensor(tokens, device=self.model.device)[:, None])
        return risks.tolist()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the texts alone."""
        self._select(rows)
        self.logs = self.logs[torch.tensor(rows, device=self.logs.device)]

    def _select(self, rows: Sequence[int]) -> None:
        self.cache.reorder_cache(torch.tensor(rows, device=self.model.device))

    @torch.no_grad()
    def _forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        logits = out.logits[:, -1].float()
        risks = torch.softmax(logits, -1)[:, self.avoided].sum(-1)
        banned = torch.tensor(self.banned, device=logits.device)
        return torch.log_softmax(logits.index_fill(1, banned, -torch.inf), -1), risks


def _avoided(trained: Trained, avoid: str | Sequence[str]) -> list[int]:
    """The ids of the avoided tags."""
    if trained.loss != "train":
        raise ConfigError(
            f'the probability of a tag is learned only where tags are targets; these shards have loss "{trained.loss}"',
            hint='Train on shards with loss="train".',
        )
    names = trained.known([avoid] if isinstance(avoid, str) else avoid)
    if not names:
        raise ConfigError("there is no tag to avoid", hint='Name one: safe_beam(..., avoid="unsafe").')
    return [trained.vocabulary.id_of(name, "open") for name in names]


def _may_win(found: Sequence[tuple[_Beam, int]], ended: Sequence[_Beam], most: int) -> bool:
    """Whether a beam that goes on may yet have a higher log-likelihood a token than all that have ended.

    At best all that it still writes is certain.
    """
    best = max((beam.log_likelihood / len(beam.ids) for beam in ended), default=-math.inf)
    return any(beam.log_likelihood / most > best for beam, _ in found)


def _continued(going: Sequence[_Beam], logs: torch.Tensor, candidates: int) -> list[tuple[_Beam, int]]:
    """Each beam continued by its likeliest tokens, with the number of the beam; the likeliest first."""
    values, tokens = logs.topk(min(candidates, logs.shape[1]))
    found = [
        (replace(beam, ids=(*beam.ids, token), log_likelihood=beam.log_likelihood + value), number)
        for number, beam in enumerate(going)
        for value, token in zip(values[number].tolist(), tokens[number].tolist(), strict=True)
        if value > -math.inf
    ]
    return sorted(found, key=lambda each: -each[0].log_likelihood)


def _kept(risks: Sequence[float], beams: int, discard: float) -> list[int]:
    """The numbers of the candidates that go on: the first `beams`, without the share that is discarded."""
    by_risk = sorted(range(len(risks)), key=risks.__getitem__)
    safe = by_risk[: max(1, len(risks) - math.floor(len(risks) * discard))]
    return sorted(safe)[:beams]
