"""What a generator is: settings that are part of a recipe, and their loaded form, which completes openings."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.models.base import Json
from annotate.models.foretold import Foretold

if TYPE_CHECKING:
    import torch


LEAST_TEMPERATURE = 1e-5
"""But for 0. Logits that are divided by less may be more than a float32 holds."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

        Sampling(max_tokens=500, temperature=0.7)

    Attributes:
        max_tokens: of a completion, at most. One that is not at its end then is cut off.
        temperature: logits are divided by it; 0 takes the most probable token. 1 draws from the model's own
            distribution, which is what a metatoken is to stand for.
        top_p: only of the most probable tokens that together have this probability (nucleus sampling, Holtzman et al.
            2020, section 3.1); 1 for all.
        seed: of the draws.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be a whole number, at least 1, got {self.max_tokens!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed must be a whole number, from 0 to 2**64 - 1, got {self.seed!r}")
        if self.temperature != 0 and not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise ConfigError(
                f"temperature must be 0, for the most probable token, or at least {LEAST_TEMPERATURE}, got "
                f"{self.temperature}"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0, and at most 1, got {self.top_p}")

    def identity(self) -> Json:
        """All of it."""
        return dataclasses.asdict(self)


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class Request:
    """An opening to complete.

    Attributes:
        prompt: what it is completed under; empty for nothing.
        opening: how the document begins; may be empty.
        key: a 64-bit hash of document and prompt, in [0, 2**64). With the seed it decides the draws.
    """

    prompt: str
    opening: str
    key: int


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The teacher's most probable next tokens, for a completion of `n` tokens.

    They are of the model's own distribution under the prompt: before temperature and top_p.

    Attributes:
        tokens: of the completion, as ids of the model's tokenizer, with the one that ended it: int32 `[n]`.
        top_tokens: int32 `[n, k]`, the most probable first.
        top_logprobs: their natural-log probabilities: float32 `[n, k]`.
    """

    tokens: npt.NDArray[np.int32]
    top_tokens: npt.NDArray[np.int32]
    top_logprobs: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Completions:
    """What came of `n` requests, in their order.

    Attributes:
        texts: the completions, to be put right behind the openings; None for one that failed.
        cut_off: bool `[n]`, whether it ended because it had `max_tokens`.
        tokens: number of tokens of each, int32 `[n]`; 0 for one that failed.
        problems: by request, why it failed.
        prompt_tokens: tokens that were read in all, those of a shared prompt once for each request.
        teacher: by request, if it was asked for; empty otherwise.
        counts: of events, such as requests that were tried again, by name.
    """

    texts: Sequence[str | None]
    cut_off: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int32]
    problems: Mapping[int, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    teacher: Mapping[int, Teacher] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


NONE = Completions(texts=(), cut_off=np.zeros(0, np.bool_), tokens=np.zeros(0, np.int32))
"""Of no requests."""


class Loaded(Protocol):
    """A generator that is ready to complete."""

    @property
    def device(self) -> torch.device | None:
        """Where the model is; None if it is not in this process."""
        ...

    def complete(self, requests: Sequence[Request]) -> Completions:
        """Complete openings. A request that can't be completed is a problem of its own, and not an error.

        Raises:
            ConfigError: a setting is wrong, so that no request could be completed.
            WorkError: completions can't be had now. What is committed stays.
            BrokenDevice: the process can't go on.
        """
        ...


@runtime_checkable
class Generator(Protocol):
    """Completes openings under prompts. A frozen dataclass."""

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        ...

    @property
    def gpu(self) -> bool:
        """Whether it can use a GPU of the process that it is loaded in."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether equal requests give equal completions, on one kind of device, and cost nothing.

        If not, the run makes no call a second time while the first goes on, as it does else where workers are idle.
        """
        ...

    @property
    def top_k(self) -> int:
        """How many of the most probable next tokens come with each token; 0 for none."""
        ...

    def tokenizer(self) -> Any:
        """The tokenizer, as Transformers has it, whose ids the most probable tokens are. Not needed without `top_k`."""
        ...

    def resolved(self) -> Self:
        """The same with every name pinned: a hub revision to a commit, a path to an absolute one."""
        ...

    def check(self, prompts: Sequence[str]) -> None:
        """Check that openings can be completed under these prompts, without loading a model.

        Raises:
            ConfigError: a prompt leaves no room for a completion, or another setting is wrong.
        """
        ...

    def identity(self) -> Json:
        """All that can change a completion, JSON-ready: files by their hashes; no path, no address, no credential."""
        ...

    def named(self) -> tuple[str, str]:
        """The model and its revision, for the provenance of documents: neither a path nor an address."""
        ...

    def foretell(self, requests: Sequence[Request], device: str) -> Foretold:
        """What these requests will take. A server is asked nothing; a model here may be loaded and tried."""
        ...

    def load(self, device: str) -> Loaded:
        """Load it, onto "cpu" or "cuda"."""
        ...


def check_generator(found: object) -> None:
    """Refuse what is no generator, by the name of what it lacks.

    Raises:
        ConfigError: it lacks a member of the protocol.
    """
    nothing = object()
    members = [name for name in vars(Generator) if not name.startswith("_")]
    if not getattr(found, "top_k", 0):
        members.remove("tokenizer")  # it is asked for the ids of the most probable tokens alone
    if missing := [name for name in members if inspect.getattr_static(found, name, nothing) is nothing]:
        raise ConfigError(
            f"{type(found).__name__} is no generator: it has no {', '.join(missing)}",
            hint="Give a TransformersGenerator(...), a ServerGenerator(...), or an object with the members of "
            "annotate.generators.base.Generator.",
        )
