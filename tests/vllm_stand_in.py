"""A stand-in for vLLM, which needs a GPU: the names, arguments and answers that the product uses, of vLLM 0.11 to 0.15.

It runs the model by Transformers, one request at a time. As vLLM does, it gives the log-probability of the token that
was drawn beside the most probable ones, has the token that ended a completion among its tokens, and refuses arguments
that it does not know.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM


@dataclass(kw_only=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


class LLM:
    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        gpu_memory_utilization: float = 0.9,
        max_model_len: int | None = None,
        enable_prefix_caching: bool | None = None,
        max_logprobs: int = 20,
        logprobs_mode: str = "raw_logprobs",
        generation_config: str = "auto",
        load_format: str = "auto",
        distributed_executor_backend: str | None = None,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool | Callable[..., object] = True,
    ) -> list[RequestOutput]:
        del use_tqdm
        assert sampling_params is not None
        made = []
        for prompt, wanted in zip(prompts, sampling_params, strict=True):
            assert (wanted.logprobs or 0) <= self.given["max_logprobs"]
            made.append(RequestOutput("0", prompt["prompt_token_ids"], [self.one(prompt["prompt_token_ids"], wanted)]))
        return made

    def one(self, ids: list[int], wanted: SamplingParams) -> CompletionOutput:
        assert ids and len(ids) + wanted.max_tokens <= self.given["max_model_len"]
        draws = torch.Generator().manual_seed(wanted.seed)
        tokens: list[int] = []
        known: list[dict[int, Logprob]] = []
        while len(tokens) < wanted.max_tokens and (not tokens or tokens[-1] not in wanted.stop_token_ids):
            logits = self.model(input_ids=torch.tensor([[*ids, *tokens]])).logits[0, -1].float()
            logs = logits.log_softmax(-1)  # before temperature and bias: "raw_logprobs"
            for i, bias in (wanted.logit_bias or {}).items():
                logits[i] += bias
            if wanted.temperature == 0:
                token = int(logits.argmax())
            else:
                token = int(torch.multinomial((logits / wanted.temperature).softmax(-1), 1, generator=draws))
            best = [token, *logs.topk(wanted.logprobs or 0).indices.tolist()]
            known.append({i: Logprob(float(logs[i])) for i in best})
            tokens.append(token)
        ended = tokens[-1] in wanted.stop_token_ids
        logprobs = known if wanted.logprobs is not None else None
        return CompletionOutput(0, "", tokens, None, logprobs, "stop" if ended else "length")


def module() -> types.ModuleType:
    """To be put in the place of `vllm`."""
    made = types.ModuleType("vllm")
    made.LLM, made.SamplingParams = LLM, SamplingParams
    return made
