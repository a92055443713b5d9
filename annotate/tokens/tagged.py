"""A tokenizer with and without the tags of a scheme, and the ids that token shards need."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.errors import ConfigError
from annotate.tokens.encoding import TextTokenizer
from annotate.tokens.losses import taken_away
from annotate.tokens.tokenizer import held_to_file, tokenizer_hash
from annotate.tokens.vocabulary import TagVocabulary, add_tags


@dataclass(frozen=True, kw_only=True)
class TaggedTokenizer:
    """A tokenizer with and without tags.

    Attributes:
        untagged: the tokenizer of Transformers, as it was loaded.
        tagged: a copy that knows the tags.
        vocabulary: the ids of the tags.
        rewritten: how the class of the tokenizer would have changed texts; None if it would not.
        hash: hash of the tokenizer without tags.
        begin_id: id of the token before each document; None for none.
        end_id: id of the token after each document; None for none.
        pad_id: id of the token that fills windows.
    """

    untagged: Any
    tagged: Any
    vocabulary: TagVocabulary
    rewritten: str | None
    hash: str
    begin_id: int | None
    end_id: int | None
    pad_id: int

    @staticmethod
    def load(
        tokenizer: str,
        names: Sequence[str],
        *,
        revision: str | None,
        closing: Collection[str],
        families: Mapping[str, int] | None,
        reserved: Sequence[str],
        begin: bool,
        end: bool,
    ) -> TaggedTokenizer:
        """Load a tokenizer and add tags.

        Args:
            tokenizer: a file, a folder or a hub name, as for `load_tokenizer`.
            names: as for `add_tags`.
            revision: of a hub name.
            closing: as for `add_tags`.
            families: as for `add_tags`.
            reserved: as for `add_tags`.
            begin: whether a token stands before each document.
            end: whether a token stands after each document.

        Raises:
            ConfigError: it can't be loaded, lacks a token that is needed, or can't take the tags.
        """
        loaded = held_to_file(tokenizer, revision=revision)
        untagged = loaded.tokenizer
        tagged, vocabulary = add_tags(untagged, names, closing=closing, reserved=reserved, families=families)
        ids = {}
        for name, wanted, argument in (("bos", begin, "begin"), ("eos", end, "end")):
            ids[name] = getattr(untagged, f"{name}_token_id", None) if wanted else None
            if wanted and ids[name] is None:
                raise ConfigError(
                    f"the tokenizer {tokenizer!r} has no {name} token",
                    hint=f"Give TokenShards({argument}=False), or a tokenizer that has one.",
                )
        pad = next((i for i in (untagged.pad_token_id, untagged.eos_token_id) if i is not None), 0)
        return TaggedTokenizer(
            untagged=untagged,
            tagged=tagged,
            vocabulary=vocabulary,
            rewritten=loaded.rewritten if loaded.text_too else None,
            hash=tokenizer_hash(untagged),
            begin_id=ids["bos"],
            end_id=ids["eos"],
            pad_id=pad,
        )

    @functools.cached_property
    def encoder(self) -> TextTokenizer:
        """The encoder of documents. It parses the tokenizer, so a process makes it once."""
        return TextTokenizer(self.tagged)

    @functools.cached_property
    def taken_away(self) -> list[str]:
        """The characters or blanks that the tokenizer removes from a text."""
        return taken_away(self.encoder)
