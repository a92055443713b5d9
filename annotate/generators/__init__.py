"""Generators: they complete the opening of a document under a prompt. A kind of generator is one file here.

    local_model              what generators share that run a causal language model: prompts, ends
    token_texts              openings as tokens, completions as text
    transformers_generator   such a model in Transformers, in this process
    generation               the same, loaded: batches, one prompt computed once, draws
    vllm_generator           such a model in vLLM
    vllm_engine              the same, loaded
    draws                    which token comes next, drawn by a hash
    timing                   how long a loaded model takes for requests
    prompt_effect            how much a prompt changes what a model writes
    server_generator         an OpenAI-compatible server; settings
    server_client            its requests: tried again, counted
    server_answers           its answers: completions, failures that may pass, refusals
    endings                  what is wrong with a completion: it is empty, it loops

`base` says what a generator is. A new kind is one file: a frozen dataclass with the members of `base.Generator`.
Nothing else knows the kinds: `Distill` takes any object that has these members.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.generators.base import Completions, Generator, Request, Sampling
    from annotate.generators.server_generator import Price, ServerGenerator
    from annotate.generators.transformers_generator import TransformersGenerator
    from annotate.generators.vllm_generator import VllmGenerator

_HOMES = {
    "Completions": "annotate.generators.base",
    "Generator": "annotate.generators.base",
    "Price": "annotate.generators.server_generator",
    "Request": "annotate.generators.base",
    "Sampling": "annotate.generators.base",
    "ServerGenerator": "annotate.generators.server_generator",
    "TransformersGenerator": "annotate.generators.transformers_generator",
    "VllmGenerator": "annotate.generators.vllm_generator",
}

__all__ = [
    "Completions",
    "Generator",
    "Price",
    "Request",
    "Sampling",
    "ServerGenerator",
    "TransformersGenerator",
    "VllmGenerator",
]

__getattr__ = attributes(__name__, _HOMES)
