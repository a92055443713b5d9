"""How a model reads texts, as its files say it: found once, and sent to the processes that prepare its inputs.

So these need no Transformers and no torch, which take five seconds of CPU time and 350 MB in each of them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from annotate.models.chat_template import Chat

_parsed: dict[str, Tokenizer] = {}
_MOST_PARSED = 8


@dataclass(frozen=True)
class SentTokenizer:
    """A tokenizer of the tokenizers library as bytes. However often a process gets it, it is parsed there once.

    Attributes:
        key: hash of the bytes.
        content: what `tokenizer.json` would hold: uint8 `[n]`. Ray hands on arrays without a copy.
    """

    key: str
    content: npt.NDArray[np.uint8] = field(compare=False, repr=False)

    @staticmethod
    def of(tokenizer: Tokenizer) -> SentTokenizer:
        """The bytes of a tokenizer."""
        content = tokenizer.to_str().encode()
        return SentTokenizer(hashlib.sha256(content).hexdigest(), np.frombuffer(content, np.uint8))

    def parsed(self) -> Tokenizer:
        """The tokenizer. All of a process get the same one, so each sets truncation and padding as it needs them."""
        if (found := _parsed.pop(self.key, None)) is None:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as for one that is read from a file
            found = Tokenizer.from_buffer(self.content.tobytes())
        _parsed[self.key] = found  # the last that was used stays longest
        while len(_parsed) > _MOST_PARSED:
            del _parsed[next(iter(_parsed))]
        return found


@dataclass(frozen=True)
class Reading:
    """How a model reads texts.

    Attributes:
        tokenizer: its own.
        window: tokens of an input at most, special ones included.
        types: whether it is told the types of tokens, which are those of a pair's parts.
        first: the token that starts an input of a causal model, if there is one.
        chat: the chat template, for a model that reads conversations.
    """

    tokenizer: SentTokenizer
    window: int
    types: bool = False
    first: int | None = None
    chat: Chat | None = None
