"""A causal language model of Transformers, in this process, as a generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from annotate.errors import ConfigError
from annotate.generators.base import Request
from annotate.generators.local_model import LocalModel
from annotate.models.base import Json
from annotate.models.foretold import Foretold


@dataclass(frozen=True)
class TransformersGenerator(LocalModel):
    """Any causal language model of Transformers, from the hub or a directory.

        TransformersGenerator(CausalModel("gpt2"), sampling=Sampling(max_tokens=200))

    The model reads the prompt, a blank line, and the opening, which it goes on with. With `user` it reads a
    conversation by its chat template: the prompt is what the system says, `user` what the user says, and the opening is
    how its answer begins.

    Equal bytes are promised for a rerun: on one kind of device, with equal versions of libraries, the same units of
    documents give the same completions, whatever the number of workers. Each token is drawn by a hash of seed,
    document, prompt and place, so what a document draws does not depend on the others in its batch. But the last bits
    of a model's logits do depend on the shape of the batch; so among other neighbours, as with another `batch_rows`, a
    draw that falls just on the edge between two tokens may go to the other one.

    Attributes:
        model: the model, its dtype, and the tokens that prompt, opening and completion may have together: `max_length`.
            By default that is what the model takes, at most 4,096.
        sampling: how tokens are drawn.
        user: what the user says, for a model with a chat template; None for one without.
        batch_rows: documents in a batch, at most. The prompt's keys and values are held for each.
        top_k: how many of the teacher's most probable next tokens are kept beside each token; 0 for none.
    """

    _: KW_ONLY
    batch_rows: int = 16

    gpu: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_rows < 1:
            raise ConfigError(f"batch_rows must be 1 or more, got {self.batch_rows}")

    def identity(self) -> Json:
        """The hashes of the model's files, and the settings that can change a completion."""
        return {"kind": "transformers", **super().identity(), "batch_rows": self.batch_rows}

    def foretell(self, requests: Sequence[Request], device: str) -> Foretold:
        """Count the tokens, and time some of the requests with a few tokens each; a token takes as long as any other.

        Raises:
            ConfigError: as `load` does.
        """
        from annotate.generators.timing import TRIED_REQUESTS, like_a_batch, time_requests

        found = self.counted(requests)
        if not requests:
            return found
        tried = like_a_batch(requests, max(TRIED_REQUESTS, self.batch_rows))
        seconds, prompts = time_requests(self.load(device), tried)
        all_prompts, those = (sum(len(self.prefix(p)) for p in {r.prompt for r in some}) for some in (requests, tried))
        return dataclasses.replace(
            found,
            seconds=seconds * len(requests) / len(tried),
            unit_seconds=prompts * all_prompts / max(1, those),
        )

    def load(self, device: str) -> Any:
        """Read the weights onto `device`.

        Raises:
            ConfigError: the model is no causal language model, or can't be loaded.
        """
        from annotate.generators.generation import Generation

        return Generation(self, device)
