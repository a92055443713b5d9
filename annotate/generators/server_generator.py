"""A server that speaks OpenAI's API, as a generator: vLLM, SGLang, llama.cpp, `transformers serve`, or a paid one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, Self

from annotate.credentials import in_url, redacted
from annotate.errors import ConfigError
from annotate.generators.base import DEFAULT_SAMPLING, Request, Sampling
from annotate.models.base import Json
from annotate.models.foretold import Foretold

Api = Literal["completions", "chat"]

BYTES_A_TOKEN = 4
"""About what English has with the tokenizers of today; other scripts have fewer."""

_OWN = {
    *("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"),
    *("continue_final_message", "add_generation_prompt"),
}
"""Fields of a request that follow from the settings."""
_OTHER_ANSWERS = {"n", "best_of", "echo", "stream", "stream_options"}
"""Fields that make the answer another one than is read."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a server takes for a million tokens, in any currency.

        ServerGenerator("https://api.example.com/v1", "some-model", price=Price(read=0.15, written=0.6))

    Attributes:
        read: of prompts and openings.
        written: of completions.
    """

    read: float
    written: float

    def __post_init__(self) -> None:
        if not (self.read >= 0 and self.written >= 0):
            raise ConfigError(f"a price must be 0 or more, got {self.read} and {self.written}")


@dataclass(frozen=True)
class ServerGenerator:
    """Any server with OpenAI's `/v1/completions` or `/v1/chat/completions`.

        ServerGenerator("http://localhost:8000/v1", "meta-llama/Llama-3.1-8B", sampling=Sampling(max_tokens=200))

    With `user` it is asked for a chat: the prompt is what the system says, `user` what the user says. The opening
    begins the assistant's answer, which the server is to go on with (`continue_final_message`, as vLLM and SGLang have
    it; llama.cpp does so by itself). Of a server that can't do so, set `prefill=False`: the opening then stands behind
    `user`, after a blank line, so `user` has to say that it is to be gone on with.

    A rerun from nothing gives other documents: a server promises no equal bytes, though it is told a seed for each
    request. What is committed stays, and is never asked for again. Requests that fail for a reason that may pass
    (time-outs, too many requests, errors of the server, cut connections, answers that are not whole) are tried again,
    and counted; by default 8 tries wait 32 to 64 seconds in all, more if the server asks for it. If all fail, it is
    asked for a short text: if that fails too, or the server said that it is too busy, the run ends, and the next goes
    on. Else the request is tried once more, and then its document has a problem.

    Attributes:
        url: up to `/v1`. It is no part of the recipe: a server that moves is the same.
        model: its name at the server.
        sampling: how tokens are drawn; the seed of each request is made of its seed.
        revision: which version of the model the server has, for the recipe and the provenance; a server does not tell.
        user: what the user says, for a chat; None for plain completions of prompt, blank line and opening.
        prefill: whether the server goes on with a message of the assistant.
        key_from: the name of the environment variable that has the API key, on all nodes. The key itself is nowhere
            else: not in the recipe, logs or manifests.
        requests: at a time, of each model process. `--workers` says how many of these there are.
        timeout: seconds that a request may take.
        tries: of a request, at most.
        price: for `--plan`; None if it costs nothing.
        extra: more fields of a request, such as {"top_k": 50}; part of the recipe. None that the settings above set.
    """

    url: str
    model: str
    _: KW_ONLY
    sampling: Sampling = DEFAULT_SAMPLING
    revision: str = ""
    user: str | None = None
    prefill: bool = True
    key_from: str | None = None
    requests: int = 16
    timeout: float = 600.0
    tries: int = 8
    price: Price | None = None
    extra: Json = field(default_factory=dict, hash=False)

    gpu: ClassVar[bool] = False
    repeatable: ClassVar[bool] = False
    top_k: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.url) or in_url(self.url) or {"?", "#"} & set(self.url):
            raise ConfigError(
                "the url of a server must begin with http:// or https://, and have no query and no credential in it, "
                f"got {redacted(self.url.partition('?')[0])!r}",
                hint='Write it as "http://localhost:8000/v1". key_from= names the variable that has a key.',
            )
        if self.key_from is not None and not _VARIABLE.fullmatch(self.key_from):
            raise ConfigError(
                "key_from must be the name of an environment variable, and is no such name",
                hint='Write key_from="OPENAI_API_KEY", and set that variable to the key.',
            )
        if self.requests < 1 or self.tries < 1 or not self.timeout > 0:
            raise ConfigError(
                f"requests, tries and timeout must be above 0, got {self.requests}, {self.tries} and {self.timeout}"
            )
        if not self.prefill and self.user is None:
            raise ConfigError(
                "prefill=False is for a chat, and there is no user=",
                hint='Write user="Go on with this text, and write nothing else:".',
            )

        _check_extra(self.extra)

    @property
    def api(self) -> Api:
        """Which of the two it is asked by."""
        return "completions" if self.user is None else "chat"

    @property
    def endpoint(self) -> str:
        """The address that requests go to."""
        return f"{self.url.rstrip('/')}/{'completions' if self.user is None else 'chat/completions'}"

    def tokenizer(self) -> None:
        """Not known: a server tells no tokens here."""

    def resolved(self) -> Self:
        """Itself: a server is not asked before there is work."""
        return self

    def check(self, prompts: Sequence[str]) -> None:
        """Nothing can be checked without the server, which counts the tokens."""
        del prompts

    def identity(self) -> Json:
        """The model as the server calls it, and what it is asked; neither address nor key."""
        return {
            "kind": "server",
            "model": self.model,
            "revision": self.revision,
            "sampling": self.sampling.identity(),
            "api": self.api,
            "user": self.user,
            "prefill": self.prefill,
            "extra": dict(self.extra),
        }

    def named(self) -> tuple[str, str]:
        """Model and revision, as they were given."""
        return self.model, self.revision

    def foretell(self, requests: Sequence[Request], device: str) -> Foretold:
        """Count the tokens by bytes, and the money by them. Nothing is asked, so no time is known."""
        del device
        said = len((self.user or "").encode())
        size = sum(len(request.prompt.encode()) + said + len(request.opening.encode()) for request in requests)
        read, written = size / BYTES_A_TOKEN, len(requests) * self.sampling.max_tokens
        price = self.price
        return Foretold(
            documents=len(requests),
            read_tokens=read,
            written_tokens=written,
            counted=False,
            money=None if price is None else (read * price.read + written * price.written) / 1e6,
        )

    def load(self, device: str) -> Any:
        """A client of the server.

        Raises:
            ConfigError: the variable that is to have the key is not set.
        """
        from annotate.generators.server_client import ServerClient

        del device
        return ServerClient(self)


def _check_extra(extra: object) -> None:
    """Refuse fields that can't be sent, or that would change what the settings say.

    Raises:
        ConfigError: it is no JSON object, or has such a field.
    """
    try:
        if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
            raise TypeError("its fields must have names")
        json.dumps(dict(extra), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"extra must be fields of a request, as JSON has them, got {extra!r}: {error}",
            hint='Write extra={"top_k": 50}.',
        ) from error
    if own := sorted(_OWN & {*extra}):
        raise ConfigError(
            f"extra has the field {own[0]!r}, which follows from the other settings",
            hint="Set model=, user=, prefill= or Sampling(max_tokens=..., temperature=..., top_p=..., seed=...).",
        )
    if other := sorted(_OTHER_ANSWERS & {*extra}):
        raise ConfigError(f"extra has the field {other[0]!r}: one whole completion is read from each answer")
