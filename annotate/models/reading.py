"""How a model reads texts, as its files say it: found once, and sent to the processes that prepare its inputs.

So these import no torch, and Transformers only for a chat template. Both would take each of them seconds and
hundreds of MB of memory.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from annotate.errors import ConfigError
from annotate.models.chat_template import Chat
from annotate.tokenizer_file import differs

_parsed: dict[str, Tokenizer] = {}
_MOST_PARSED = 8

_HINT = (
    "workers tokenize with the tokenizers library alone. Where there is one that cuts text in the same way, put its "
    "tokenizer.json into a copy of the model"
)


@dataclass(frozen=True)
class SentTokenizer:
    """A tokenizer of the tokenizers library as bytes. However often a process gets it, it is parsed there once.

    Attributes:
        key: hash of the bytes.
        content: what `tokenizer.json` would hold: uint8 `[n]`. Ray hands on arrays without a copy.
        as_text: whether special tokens that a text holds are cut like text. `tokenizer.json` does not say it.
    """

    key: str
    content: npt.NDArray[np.uint8] = field(compare=False, repr=False)
    as_text: bool

    @staticmethod
    def of(tokenizer: Tokenizer, subject: str) -> SentTokenizer:
        """The bytes of a tokenizer.

        Args:
            tokenizer: the tokenizer.
            subject: what errors call it.

        Raises:
            ConfigError: it can't be written as a `tokenizer.json`, or what is written cuts text in another way.
        """
        try:
            content = tokenizer.to_str().encode()
        except Exception as error:  # parts of it are Python code
            raise ConfigError(f"{subject} can't be sent to workers: {error}", hint=_HINT) from error
        as_text = bool(tokenizer.encode_special_tokens)
        key = hashlib.sha256(content + bytes([as_text])).hexdigest()
        sent = SentTokenizer(key, np.frombuffer(content, np.uint8), as_text)
        copy = sent.parsed()
        other = differs(copy, tokenizer) or differs(copy, tokenizer, special=True)
        if other or copy.get_vocab(with_added_tokens=True) != tokenizer.get_vocab(with_added_tokens=True):
            example = f": {other}" if other else ", with other words"
            raise ConfigError(f"{subject} is another one when it is written as a tokenizer.json{example}", hint=_HINT)
        return sent

    def parsed(self) -> Tokenizer:
        """The tokenizer. All of a process get the same one, so each sets truncation and padding as it needs them."""
        if (found := _parsed.pop(self.key, None)) is None:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as for one that is read from a file
            found = Tokenizer.from_buffer(self.content.tobytes())
            found.encode_special_tokens = self.as_text
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
