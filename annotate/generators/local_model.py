"""What generators share that run a causal language model of Transformers: what it reads, and when it is at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Self

from annotate import tally
from annotate.errors import ConfigError
from annotate.generators.base import DEFAULT_SAMPLING, Request, Sampling
from annotate.models.base import Json
from annotate.models.causal_model import CausalModel
from annotate.models.chat_template import DATE, render_messages
from annotate.models.files import GENERATION_FILE, fetched
from annotate.models.foretold import Foretold

BETWEEN = "\n\n"
"""Stands between prompt and opening, where there is no chat template."""


@dataclass(frozen=True)
class LocalModel:
    """A causal language model of Transformers that runs here, as a generator; kinds of them say how.

    Attributes:
        model: the model, its dtype, and the tokens that prompt, opening and completion may have together.
        sampling: how tokens are drawn.
        user: what the user says, for a model with a chat template; None for one without.
        top_k: how many of the teacher's most probable next tokens are kept beside each token; 0 for none.
    """

    model: CausalModel
    _: KW_ONLY
    sampling: Sampling = DEFAULT_SAMPLING
    user: str | None = None
    top_k: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, CausalModel):
            raise ConfigError(
                f"the model of a generator must be a CausalModel, got {self.model!r}",
                hint=f'Write {type(self).__name__}(CausalModel("gpt2")).',
            )
        if self.model.context_column is not None:
            raise ConfigError(
                f"context_column={self.model.context_column!r} has no meaning for a generator: it is given prompts"
            )
        if self.top_k < 0:
            raise ConfigError(f"top_k must be 0 or more, got {self.top_k}")

    def tokenizer(self) -> Any:
        """That of the model."""
        return self.model.tokenizer()

    def resolved(self) -> Self:
        """The same with its directory made absolute, or its revision a commit.

        Raises:
            ConfigError: the model can't be found.
        """
        return dataclasses.replace(self, model=self.model.resolved())

    def prefix(self, prompt: str) -> list[int]:
        """The tokens that a prompt becomes: all that the model reads before the opening.

        Raises:
            ConfigError: the model has no chat template, or a template that fails.
        """
        tokenizer = self.model.tokenizer().backend_tokenizer
        if self.user is None:
            first = self.model.first_id()
            ids: list[int] = tokenizer.encode(prompt + BETWEEN, add_special_tokens=False).ids if prompt else []
            return [*([] if first is None else [first]), *ids]
        messages = [{"role": "system", "content": prompt}] if prompt else []
        messages.append({"role": "user", "content": self.user})
        written = render_messages(self.model.tokenizer(), DATE, messages, self.model.name)
        return list(tokenizer.encode(written, add_special_tokens=False).ids)

    def stops(self) -> list[int]:
        """The tokens that end a text, by the tokenizer and by the model's settings for generation.

        Those that the driver found are sent to its workers: they may ask another cache, or a hub that it can't ask.

        Where there are no such settings, its configuration has them. If they are not in the cache of the hub, the hub
        is asked; where that can't be done, a warning says so.

        Raises:
            ConfigError: they are no ids.
        """
        if (sent := vars(self).get("_sent_stops")) is not None:
            return list(sent)
        files = self.model.files()
        if files.commit is not None and not fetched(files.name, files.commit, GENERATION_FILE):
            tally.say(
                f"ends of {files.name}",
                f"model {files.name!r}: its {GENERATION_FILE} is not in the Hugging Face cache, and the hub can't be "
                "asked. If it has one, a text may end with other tokens than here, and another run makes others",
            )
        settings = files.settings(GENERATION_FILE)
        config = self.model.config().get_text_config()
        said = settings.get("eos_token_id") if settings else getattr(config, "eos_token_id", None)
        found = [*(said if isinstance(said, list) else [said]), self.model.tokenizer().eos_token_id]
        ids = [i for i in found if i is not None]
        if wrong := [i for i in ids if type(i) is not int or i < 0]:
            raise ConfigError(f"model {self.model.name!r}: its eos_token_id must be ids of tokens, got {wrong[0]!r}")
        return sorted({*ids})

    def __getstate__(self) -> dict[str, Any]:
        """A worker ends texts by the tokens that are in the recipe."""
        return {**vars(self), "_sent_stops": self.stops()}

    def check(self, prompts: Sequence[str]) -> None:
        """Check that each prompt leaves room for a completion, and that there are `top_k` tokens.

        Raises:
            ConfigError: one does not, or the chat template does not write it, or there are fewer.
        """
        if self.top_k:
            known = max(self.model.tokenizer().get_vocab().values()) + 1
            if self.top_k > known:
                raise ConfigError(
                    f"top_k={self.top_k} is more than the {known} tokens of the tokenizer of {self.model.name!r}",
                    hint="20 are most of what a teacher says; write fewer.",
                )
        window = self.model.window()
        for prompt in prompts:
            size = len(self.prefix(prompt))
            if size + self.sampling.max_tokens >= window:
                raise ConfigError(
                    f"a prompt of {size:,} tokens and max_tokens={self.sampling.max_tokens:,} leave no room for an "
                    f"opening: model {self.model.name!r} is used with {window:,} tokens. The prompt begins "
                    f"{prompt[:60]!r}",
                    hint="Set CausalModel(..., max_length=...) as high as the model goes, or make the prompt shorter.",
                )

    def identity(self) -> Json:
        """The hashes of the model's files, and the settings that can change a completion."""
        return {
            "model": self.model.identity(),
            "stops": self.stops(),
            "sampling": self.sampling.identity(),
            "user": self.user,
            "top_k": self.top_k,
        }

    def named(self) -> tuple[str, str]:
        """The hub id with its commit; or the last part of the directory's name, with a hash of its weights."""
        files = self.model.files()
        if files.commit is not None:
            return self.model.name, files.commit
        name = Path(self.model.name).name if Path(self.model.name).is_absolute() else self.model.name
        return name, f"sha256:{files.hashes()['weights']}"

    def counted(self, requests: Sequence[Request]) -> Foretold:
        """The tokens that these requests will take; no time."""
        tokenizer, most = self.model.tokenizer().backend_tokenizer, self.sampling.max_tokens
        prefixes = {prompt: len(self.prefix(prompt)) for prompt in {request.prompt for request in requests}}
        openings = tokenizer.encode_batch([request.opening for request in requests], add_special_tokens=False)
        return Foretold(
            documents=len(requests),
            read_tokens=sum(prefixes[r.prompt] + len(e.ids) for r, e in zip(requests, openings, strict=True)),
            written_tokens=len(requests) * most,
            counted=True,
        )
