"""A loaded causal language model that completes openings, with the keys and values of a prompt computed once."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from annotate.errors import ConfigError
from annotate.generators.base import Completions, Request, Teacher
from annotate.generators.draws import draw
from annotate.generators.token_texts import SPECIAL, TokenTexts
from annotate.models.device import find_device
from annotate.models.load import load_model
from annotate.models.precision import precision
from annotate.models.run import recover_from

if TYPE_CHECKING:
    from annotate.generators.transformers_generator import TransformersGenerator

SPREAD = 32
"""Tokens that openings of a batch may differ by, at most: so many are read one by one."""

HALVED = "halved batches"
TOO_LARGE = "prompt, opening and completion do not fit into memory"
NOT_FINITE = "the model gave no finite logits"


@dataclass(frozen=True)
class Prefix:
    """What is read before an opening, as the model keeps it.

    Attributes:
        length: in tokens.
        cache: keys and values, of one row; None if there are no tokens.
        logits: of the token after it, `[1, vocabulary]`; None if there are no tokens.
    """

    length: int
    cache: Any
    logits: torch.Tensor | None


@dataclass(frozen=True)
class Drawn:
    """Completions of a batch.

    Attributes:
        tokens: int32 `[rows, max_tokens]`.
        lengths: how many of them there are, int64 `[rows]`.
        top_tokens: int32 `[rows, max_tokens, k]`; `k` may be 0.
        top_logprobs: float32, of the same shape.
        failed: bool `[rows]`, whether the model gave logits from which nothing can be drawn.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    top_tokens: npt.NDArray[np.int32]
    top_logprobs: npt.NDArray[np.float32]
    failed: npt.NDArray[np.bool_]

    @staticmethod
    def empty(rows: int, most: int, k: int) -> Drawn:
        """No tokens yet."""
        return Drawn(
            np.zeros((rows, most), np.int32),
            np.zeros(rows, np.int64),
            np.zeros((rows, most, k), np.int32),
            np.zeros((rows, most, k), np.float32),
            np.zeros(rows, np.bool_),
        )

    def add(self, rows: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64], logits: torch.Tensor) -> None:
        """Add a token to some rows, which was drawn from these logits."""
        at = self.lengths[rows]
        self.tokens[rows, at] = tokens
        self.lengths[rows] += 1
        if k := self.top_tokens.shape[-1]:
            best, ids = torch.log_softmax(logits, dim=-1).topk(k, dim=-1)
            self.top_tokens[rows, at], self.top_logprobs[rows, at] = ids.cpu().numpy(), best.cpu().numpy()

    def of(self, row: int) -> Teacher:
        """What was drawn for a row."""
        n = int(self.lengths[row])
        return Teacher(
            tokens=self.tokens[row, :n], top_tokens=self.top_tokens[row, :n], top_logprobs=self.top_logprobs[row, :n]
        )


class Generation(TokenTexts):
    """Completes openings, batch by batch.

    A batch has openings of one prompt, of about equal lengths. None is padded: the model first reads as many tokens of
    each as the shortest has, then token after token; a longer opening gives its own tokens until it is at its end. So
    every token stands at the place, and sees the tokens, that it would alone.
    """

    def __init__(self, settings: TransformersGenerator, device: str) -> None:
        super().__init__(settings)
        self.settings = settings
        self.device = find_device(device)
        self.model = load_model("AutoModelForCausalLM", settings.model, device)
        # Else logits are made for all tokens of a prompt: 2.4 GB for 4,000 tokens of a vocabulary of 150,000.
        takes = inspect.signature(self.model.forward).parameters
        self.last_alone = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        with torch.inference_mode():
            self._check_cache()

    @torch.inference_mode()
    def complete(self, requests: Sequence[Request]) -> Completions:
        """Complete openings.

        Raises:
            BrokenDevice: the device can't be used any more.
        """
        openings = self.encode([request.opening for request in requests])
        order = sorted(range(len(requests)), key=lambda i: (requests[i].prompt, len(openings[i]), i))
        drawn: dict[int, Teacher] = {}
        problems: dict[int, str] = {}
        counts = {HALVED: 0, SPECIAL: 0}
        read = 0
        for prompt, group in itertools.groupby(order, key=lambda i: requests[i].prompt):
            prefix = self.read(self.settings.prefix(prompt))
            fitting = []
            for i in group:
                if (problem := self.problem(prefix.length, len(openings[i]))) is not None:
                    problems[i] = problem
                    continue
                fitting.append(i)
                read += prefix.length + len(openings[i])
            for batch in _batches(fitting, [len(openings[i]) for i in fitting], self.settings.batch_rows):
                for rows, made in self._halving(prefix, batch, openings, requests, counts):
                    if made is None:
                        problems[rows[0]] = TOO_LARGE
                        continue
                    problems |= {i: NOT_FINITE for at, i in enumerate(rows) if made.failed[at]}
                    drawn |= {i: made.of(at) for at, i in enumerate(rows) if not made.failed[at]}
        if not drawn and NOT_FINITE in problems.values():
            self._check_finite()
        found = [drawn.get(i) for i in range(len(requests))]
        return Completions(
            texts=[
                self.decode(openings[i], made.tokens.tolist(), counts) if made else None for i, made in enumerate(found)
            ],
            cut_off=np.array([made is not None and made.tokens[-1] not in self.stops for made in found], np.bool_),
            tokens=np.array([len(made.tokens) if made else 0 for made in found], np.int32),
            problems=problems,
            prompt_tokens=read,
            teacher=drawn if self.settings.top_k else {},
            counts={name: n for name, n in counts.items() if n},
        )

    def _check_finite(self) -> None:
        """See whether a model that gave no finite logits gives some for a short text.

        Raises:
            ConfigError: it does not.
        """
        if not torch.isfinite(self._step(torch.zeros(1, 1, dtype=torch.int64, device=self.device), None)[0].max()):
            raise ConfigError(
                f"model {self.settings.model.name!r}, with dtype={self.settings.model.dtype!r}, gives no finite logits "
                "for any opening, nor for a single token",
                hint='Its numbers may overflow: set CausalModel(..., dtype="float32"), or dtype="bfloat16".',
            )

    def _check_cache(self) -> None:
        """Refuse a model that keeps no keys and values, or none that can be copied for the rows of a batch.

        Raises:
            ConfigError: it is such a model.
        """
        cache = None
        if "past_key_values" in inspect.signature(self.model.forward).parameters:
            cache = self._step(torch.zeros(1, 1, dtype=torch.int64, device=self.device), None)[1]
        if not (hasattr(cache, "batch_repeat_interleave") and hasattr(cache, "batch_select_indices")):
            raise ConfigError(
                f"model {self.settings.model.name!r} can't generate here: {type(self.model).__name__} keeps no keys "
                "and values that rows of a batch can share",
                hint="Start a server for it, such as vLLM's, and use ServerGenerator(...).",
            )

    def read(self, ids: Sequence[int]) -> Prefix:
        """Read what stands before all openings of a prompt."""
        if not ids:
            return Prefix(0, None, None)
        logits, cache = self._step(torch.tensor([list(ids)], device=self.device), None)
        return Prefix(len(ids), cache, logits)

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _step(self, ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Read more tokens; returns float32 logits `[rows, vocabulary]` of the token after them, and the cache."""
        with precision(self.device, self.settings.model.dtype):
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **self.last_alone)
        logits = out.logits[:, -1].float()
        logits[:, self.known :] = -torch.inf
        return logits, out.past_key_values

    def _halving(
        self,
        prefix: Prefix,
        rows: list[int],
        openings: Sequence[list[int]],
        requests: Sequence[Request],
        counts: dict[str, int],
    ) -> Iterator[tuple[list[int], Drawn | None]]:
        """Complete a batch, in halves if it does not fit into memory; None for one row that does not."""
        try:
            drawn = self._draw(prefix, [openings[i] for i in rows], [requests[i].key for i in rows])
        except Exception as error:
            if not recover_from(error):
                raise
            drawn = None  # the halves come when the error is gone, which holds tensors
        if drawn is not None or len(rows) == 1:
            yield rows, drawn
            return
        counts[HALVED] += 1
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            yield from self._halving(prefix, half, openings, requests, counts)

    def _draw(self, prefix: Prefix, openings: Sequence[list[int]], keys: Sequence[int]) -> Drawn:
        """Complete a batch of one prompt."""
        sampling, n = self.settings.sampling, len(openings)
        lengths = np.array([len(ids) for ids in openings])
        given = np.zeros((n, int(lengths.max()) + 1), np.int64)
        for row, ids in enumerate(openings):
            given[row, : len(ids)] = ids
        drawn = Drawn.empty(n, sampling.max_tokens, self.settings.top_k)
        hashes, done = np.array(keys, np.uint64), np.zeros(n, np.bool_)
        live = np.arange(n)  # the rows that the cache has
        cache, logits = _repeated(prefix, n)
        place = int(lengths.min())
        if place:
            logits, cache = self._step(torch.from_numpy(given[:, :place]).to(self.device), cache)
        while True:
            at = place - lengths[live]  # where each row is in its completion; below 0 it is still in its opening
            lost = ~torch.isfinite(logits.amax(dim=-1)).cpu().numpy()  # minus infinity alone stands for no token
            drawn.failed[live] |= lost & ~done[live]
            done[live] |= lost
            chosen = draw(logits, hashes[live], np.maximum(at, 0), sampling).cpu().numpy()
            token = np.where(at >= 0, chosen, given[live, min(place, given.shape[1] - 1)])
            new = (at >= 0) & ~done[live]
            drawn.add(live[new], token[new], logits[torch.from_numpy(new).to(self.device)])
            done[live] |= new & (np.isin(token, self.stops) | (at + 1 == sampling.max_tokens))
            going = ~done[live]
            if not going.any():
                return drawn
            # Rows that are done are left out once they are half: to copy the cache costs as much as some steps.
            if 2 * going.sum() <= len(live):
                cache.batch_select_indices(torch.from_numpy(np.flatnonzero(going)).to(self.device))
                live, token = live[going], token[going]
            logits, cache = self._step(torch.from_numpy(token).unsqueeze(1).to(self.device), cache)
            place += 1


def _batches(rows: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows in their order, the shortest first, in batches of at most `most` whose lengths are about equal."""
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or stop - start == most or lengths[stop] - lengths[start] > SPREAD:
            yield list(rows[start:stop])
            start = stop


def _repeated(prefix: Prefix, rows: int) -> tuple[Any, torch.Tensor]:
    """The cache of a prefix, and the logits after it, for some rows. The prefix stays as it is."""
    if prefix.cache is None or prefix.logits is None:
        return None, torch.empty(0)  # a pass over the openings comes before the first look at them
    cache = copy.deepcopy(prefix.cache)
    cache.batch_repeat_interleave(rows)
    return cache, prefix.logits.expand(rows, -1)
