"""Openings as tokens, and completions as text, for a causal language model that runs here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from annotate.unforgeable import unforgeable

if TYPE_CHECKING:
    from annotate.generators.local_model import LocalModel

SPECIAL = "special tokens left out"
"""The name of their count."""
NOTHING_TO_READ = "prompt and opening are empty, and the model has no token to begin with"


class TokenTexts:
    """The tokenizer of a generator, and the tokens that it may have.

    Attributes:
        tokenizer: of Transformers.
        twin: gives text no special tokens.
        window: the tokens that prompt, opening and completion may have together.
        most: the tokens that a completion may have.
        stops: the tokens that end one.
        known: how many ids there are. A table of embeddings may have more rows: no text stands for them.
    """

    def __init__(self, settings: LocalModel) -> None:
        self.tokenizer = settings.model.tokenizer()
        self.twin = unforgeable(self.tokenizer.backend_tokenizer).tokenizer
        self.window, self.most = settings.model.window(), settings.sampling.max_tokens
        self.stops = settings.stops()
        self.known = max(self.tokenizer.get_vocab().values()) + 1

    def problem(self, prefix: int, opening: int) -> str | None:
        """Why an opening can't be completed: its own tokens and those before it are none, or too many."""
        if not prefix + opening:
            return NOTHING_TO_READ
        if prefix + opening + self.most > self.window:
            return (
                f"the prompt has {prefix:,} tokens, the opening {opening:,}, and max_tokens is {self.most:,}: more "
                f"than the {self.window:,} that the model is used with"
            )
        return None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, without special ones, also where a text spells one: it can end no turn."""
        return [encoding.ids for encoding in self.twin.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, opening: Sequence[int], completion: Sequence[int], counts: dict[str, int]) -> str:
        """The text of a completion, as it stands behind the opening: a decoder may write a first word otherwise."""
        special = set(self.tokenizer.all_special_ids)
        ids = [i for i in completion if i not in special]
        counts[SPECIAL] += sum(i in special and i not in self.stops for i in completion)
        read = self.tokenizer.backend_tokenizer.decode
        before, whole = read(list(opening)), read([*opening, *ids])
        text: str = whole[len(before) :] if whole.startswith(before) else read(ids)
        # Where max_tokens cuts a character in two, its first bytes are no text.
        return text.rstrip("\ufffd")
