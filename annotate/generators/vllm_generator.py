"""A causal language model that vLLM runs, in the processes of the run, as a generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from annotate.errors import ConfigError
from annotate.generators.base import Request
from annotate.generators.local_model import LocalModel
from annotate.models.base import Json
from annotate.models.foretold import Foretold

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""But for 0. Versions of vLLM take no more, and make a lower one this without an error."""


@dataclass(frozen=True)
class VllmGenerator(LocalModel):
    """Any causal language model that vLLM runs, on the GPUs that the run gives it.

        VllmGenerator(CausalModel("meta-llama/Llama-3.1-8B", dtype="bfloat16"), sampling=Sampling(max_tokens=200))

    It reads what `TransformersGenerator` reads, prompt, blank line and opening, or a conversation with `user`. Prompts
    are read once (`enable_prefix_caching`). With `Distill(gpus=4)` a model is spread over four GPUs of a node.

    A rerun from nothing gives other documents: each request has a seed of its own, but the logits of vLLM depend on
    which requests are in a batch, and that on time. What is committed stays, and is never generated again.

    It was not run here, since no GPU was there: it is tested against a stand-in for vLLM. vLLM is the extra `vllm`, on
    all nodes.

    Attributes:
        model: the model, its dtype, and the tokens that prompt, opening and completion may have together: `max_length`.
            By default that is what the model takes, at most 4,096.
        sampling: how tokens are drawn; the seed of each request is made of its seed.
        user: what the user says, for a model with a chat template; None for one without.
        top_k: how many of the teacher's most probable next tokens are kept beside each token; 0 for none.
        memory: the share that vLLM may take of the memory that the model has of a GPU: all of it, or the part that
            `Distill(gpus=...)` says.
    """

    _: KW_ONLY
    memory: float = 0.9

    gpu: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.memory <= 1:
            raise ConfigError(f"memory must be above 0, and at most 1, got {self.memory}")
        heat = self.sampling.temperature
        if heat != 0 and not LEAST_TEMPERATURE <= heat <= MOST_TEMPERATURE:
            raise ConfigError(
                f"vLLM takes a temperature of 0, or from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g}, got {heat}"
            )

    def identity(self) -> Json:
        """The hashes of the model's files, and the settings that can change a completion."""
        return {"kind": "vllm", **super().identity()}

    def foretell(self, requests: Sequence[Request], device: str) -> Foretold:
        """Count the tokens. No time is known: to start vLLM for a plan takes minutes."""
        del device
        return self.counted(requests)

    def load(self, device: str) -> Any:
        """Start vLLM with the model.

        Raises:
            ConfigError: vLLM is not installed, or can't run the model.
        """
        from annotate.generators.vllm_engine import VllmEngine

        return VllmEngine(self, device)
