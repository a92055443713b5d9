"""vLLM in this process, with a model: it completes openings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from annotate.errors import ConfigError
from annotate.generators.base import Completions, Request, Teacher
from annotate.generators.token_texts import SPECIAL, TokenTexts
from annotate.models.base import BrokenDevice
from annotate.models.device import SPREAD, find_device, part_of_gpu
from annotate.randomness import keyed_hash

if TYPE_CHECKING:
    from annotate.generators.vllm_generator import VllmGenerator

DEFAULT_LOGPROBS = 20
"""Log-probabilities of a token that vLLM gives at most, unless it is told to give more."""
SPARE = 16
"""More log-probabilities are asked for, in case some are of ids that the tokenizer does not have."""
BANNED = -100.0
"""The least that vLLM lets one add to a logit."""
UNKNOWN = "the model expects ids that its tokenizer does not have"
STOPPED, AT_LENGTH = "stop", "length"
"""Why a completion ended; every other reason is a failure."""


class VllmEngine(TokenTexts):
    """Completes openings by vLLM, all requests of a unit at once; vLLM makes the batches."""

    def __init__(self, settings: VllmGenerator, device: str) -> None:
        super().__init__(settings)
        try:
            import vllm
        except ImportError as error:
            raise ConfigError(
                f"VllmGenerator needs vLLM, which can't be imported: {error}",
                hint="Install the extra on all nodes: pip install 'annotate-corpora[vllm]'. Or start a server of "
                "vLLM's, and give ServerGenerator its address.",
            ) from error
        self.settings, self.vllm, self.device = settings, vllm, find_device(device)
        folder, model = str(settings.model.files().directory), settings.model
        rows = int(getattr(model.config().get_text_config(), "vocab_size", self.known))
        self.unknown = range(self.known, rows)
        self.logprobs = settings.top_k and settings.top_k + min(SPARE, len(self.unknown))
        spread = {"distributed_executor_backend": "mp"} if device == SPREAD else {}
        try:
            self.model = vllm.LLM(
                model=folder,
                tokenizer=folder,
                dtype=model.dtype,
                max_model_len=self.window,
                enable_prefix_caching=True,
                tensor_parallel_size=torch.cuda.device_count() if device == SPREAD else 1,
                gpu_memory_utilization=settings.memory * part_of_gpu(),
                max_logprobs=max(DEFAULT_LOGPROBS, self.logprobs),
                logprobs_mode="raw_logprobs",  # before temperature and top_p
                generation_config="vllm",  # none of the model's: it might set another max_tokens
                load_format="safetensors",
                trust_remote_code=model.trust_remote_code,
                **spread,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"vLLM can't run model {model.name!r}: {error}") from error

    def complete(self, requests: Sequence[Request]) -> Completions:
        """Complete openings.

        Raises:
            BrokenDevice: vLLM can't be used any more.
        """
        openings = self.encode([request.opening for request in requests])
        prefixes = {prompt: self.settings.prefix(prompt) for prompt in {request.prompt for request in requests}}
        problems: dict[int, str] = {}
        for i, request in enumerate(requests):
            if (problem := self.problem(len(prefixes[request.prompt]), len(openings[i]))) is not None:
                problems[i] = problem
        # Those of a prompt one after another, so that it is read once, even where little memory is left for it.
        asked = sorted(set(range(len(requests))) - problems.keys(), key=lambda i: (requests[i].prompt, i))
        given = [[*prefixes[requests[i].prompt], *openings[i]] for i in asked]
        texts: list[str | None] = [None] * len(requests)
        cut_off, sizes = np.zeros(len(requests), np.bool_), np.zeros(len(requests), np.int32)
        teacher: dict[int, Teacher] = {}
        counts = {SPECIAL: 0}
        for i, made in zip(asked, self._generate(given, [requests[i].key for i in asked]), strict=True):
            if made.finish_reason not in (STOPPED, AT_LENGTH):
                problems[i] = f"vLLM ended the completion for another reason: {made.finish_reason}"
                continue
            tokens = np.array(made.token_ids, np.int32)
            if (tokens >= self.known).any():  # a banned one, which no text stands for
                problems[i] = UNKNOWN
                continue
            if self.settings.top_k:
                known = self._teacher(tokens, made.logprobs)
                if known is None:
                    problems[i] = UNKNOWN
                    continue
                teacher[i] = known
            texts[i] = self.decode(openings[i], tokens.tolist(), counts)
            cut_off[i], sizes[i] = made.finish_reason == AT_LENGTH, len(tokens)
        return Completions(
            texts=texts,
            cut_off=cut_off,
            tokens=sizes,
            problems=problems,
            prompt_tokens=sum(map(len, given)),
            teacher=teacher,
            counts={name: n for name, n in counts.items() if n},
        )

    def _generate(self, given: Sequence[list[int]], keys: Sequence[int]) -> list[Any]:
        """What vLLM writes behind these tokens: a `CompletionOutput` for each."""
        sampling = self.settings.sampling
        seeds = keyed_hash(sampling.seed, np.array(keys, np.uint64)) >> np.uint64(33)
        banned = dict.fromkeys(self.unknown, BANNED)
        wanted = [
            self.vllm.SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=int(seed),
                max_tokens=sampling.max_tokens,
                stop_token_ids=list(self.stops),
                logprobs=self.logprobs or None,
                logit_bias=banned or None,
                detokenize=False,
            )
            for seed in seeds
        ]
        prompts = [{"prompt_token_ids": ids} for ids in given]  # a TokensPrompt, which is a dictionary
        if not prompts:
            return []
        try:
            found = self.model.generate(prompts, wanted, use_tqdm=False)
        except Exception as error:  # after any error its processes are gone, or have requests that nobody waits for
            raise BrokenDevice(f"vLLM failed: {error!r}") from error
        return [one.outputs[0] for one in found]

    def _teacher(self, tokens: np.ndarray, logprobs: Sequence[Mapping[int, Any]]) -> Teacher | None:
        """The most probable tokens of each place, of those that are known; None if some place has too few of them.

        vLLM gives the drawn one too, which may be another.
        """
        k = self.settings.top_k
        best = [
            sorted(((one.logprob, -i) for i, one in of.items() if i < self.known), reverse=True)[:k] for of in logprobs
        ]
        if any(len(of) < k for of in best):
            return None
        pairs = np.array(best, np.float64).reshape(len(tokens), k, 2)
        top_tokens = (-pairs[..., 1]).astype(np.int32)
        return Teacher(tokens=tokens, top_tokens=top_tokens, top_logprobs=pairs[..., 0].astype(np.float32))
