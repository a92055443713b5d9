"""Tags in a tokenizer: each is exactly one id, as a new special token or on a reserved slot."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken

from annotate.errors import ConfigError
from annotate.tokenizer_file import shared_ids
from annotate.tokens.slots import put_on_slots
from annotate.tokens.tokenizer import backend_of

Int32 = npt.NDArray[np.int32]

TokenKind = Literal["open", "close"]
NONE = -1


@dataclass(frozen=True, kw_only=True)
class TagVocabulary:
    """The tags that a tokenizer knows, and which of them take each other's place.

    Attributes:
        names: the names of the tags: `nice` for `<nice>`.
        open_ids: the id of each tag.
        close_ids: the id of each tag's closing tag; -1: it has none.
        families: the family of each tag. Tags of one family take each other's place, as `annotate.tokens.pieces` says.
            -1: the tag is in force nowhere. Empty: each tag is a family of its own.

    Raises:
        ConfigError: the lengths differ, or an id or a name is there twice.
    """

    names: tuple[str, ...]
    open_ids: tuple[int, ...]
    close_ids: tuple[int, ...]
    families: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.families:
            object.__setattr__(self, "families", tuple(range(len(self.names))))
        lengths = {len(self.names), len(self.open_ids), len(self.close_ids), len(self.families)}
        if len(lengths) > 1:
            raise ConfigError(f"names, open_ids, close_ids and families need one value a tag, got {sorted(lengths)}")
        for what, values in (("name", self.names), ("id", tuple(map(str, self.ids)))):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ConfigError(f"each tag needs a {what} of its own; used twice: {', '.join(twice)}")

    @property
    def closing_ids(self) -> list[int]:
        """The ids of closing tags."""
        return [i for i in self.close_ids if i != NONE]

    @property
    def ids(self) -> list[int]:
        """All ids, those of closing tags last. When text is sampled, these are to be banned."""
        return [*self.open_ids, *self.closing_ids]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The id of each token, as it is spelled."""
        closing = zip(self.names, self.close_ids, strict=True)
        return {
            **{spell(name, "open"): i for name, i in zip(self.names, self.open_ids, strict=True)},
            **{spell(name, "close"): i for name, i in closing if i != NONE},
        }

    def id_of(self, name: str, kind: str) -> int:
        """The id of a tag or of its closing tag.

        Raises:
            ConfigError: the tokenizer has no such token.
        """
        if kind not in ("open", "close", "mark"):
            raise ConfigError(
                f"the kind of a placement must be 'open', 'close' or 'mark', got {kind!r}",
                hint="Escapes are for text shards. Leave them out of token shards.",
            )
        token = spell(name, "close" if kind == "close" else "open")
        if token not in self.tokens:
            raise ConfigError(
                f"a placement asks for {token}, which the tokenizer does not know",
                hint="Give `add_tags` all tags of the scheme, and in `closing` those that have closing tags.",
            )
        return self.tokens[token]


def spell(name: str, kind: TokenKind) -> str:
    """How the token of a tag, or of its closing tag, is spelled."""
    return f"<{name}>" if kind == "open" else f"</{name}>"


def add_tags(
    tokenizer: Any,
    names: Sequence[str],
    *,
    closing: Collection[str] = (),
    reserved: Sequence[str] = (),
    families: Mapping[str, int] | None = None,
) -> tuple[Any, TagVocabulary]:
    """Make a tokenizer that knows the tags.

    Args:
        tokenizer: a fast tokenizer of Transformers. It is not changed.
        names: names of the tags. They become the tokens `<name>`.
        closing: the tags that also have a closing tag, `</name>`.
        reserved: tokens of the tokenizer to put the tags on, in turn, such as `<|reserved_special_token_0|>` or
            `[unused1]`, so that a model keeps its size. `reserved_slots` finds the usual ones. Without, new tokens are
            added after the last.
        families: family by tag, as `TagVocabulary` has it. A tag that is not in it is a family of its own.

    Returns:
        A copy of the tokenizer that knows the tags, and the vocabulary of tags. Tags that the tokenizer already has as
        special tokens keep their ids.

    Raises:
        ConfigError: a name is there twice, or has not exactly one id; `closing`, `reserved` or `families` does not fit;
            or the tokenizer has an ordinary token that is spelled like a tag.
    """
    names = tuple(names)
    for what, some in (("closing", closing), ("families", families or {})):
        if unknown := sorted(set(some) - set(names)):
            raise ConfigError(f"{what} names tags that are not known: {', '.join(unknown)}")
    tokens = [spell(name, "open") for name in names]
    tokens += [spell(name, "close") for name in names if name in closing]
    if twice := sorted({token for token in tokens if tokens.count(token) > 1}):
        raise ConfigError(f"each tag needs a name of its own; used twice: {', '.join(twice)}")
    _check_ordinary(tokenizer, tokens)
    made = _added(put_on_slots(tokenizer, tokens, reserved) if reserved else tokenizer, tokens)
    ids = {token: _one_id(made, token) for token in tokens}
    _check_own(made, ids)
    given = families or {}
    free = max(given.values(), default=-1) + 1
    return made, TagVocabulary(
        names=names,
        open_ids=tuple(ids[spell(name, "open")] for name in names),
        close_ids=tuple(ids.get(spell(name, "close"), NONE) for name in names),
        families=tuple(given.get(name, free + i) for i, name in enumerate(names)),
    )


def _check_ordinary(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Check that no ordinary token is spelled like a tag: text tokenized elsewhere would get the tag from it."""
    backend = backend_of(tokenizer)
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    known = backend.get_vocab(with_added_tokens=True)
    ordinary = [token for token in tokens if token in known and token not in special]
    if ordinary:
        raise ConfigError(
            f"the tokenizer has an ordinary token that is spelled {ordinary[0]}",
            hint="Give the tag another name.",
        )


def _added(tokenizer: Any, tokens: Sequence[str]) -> Any:
    made = copy.deepcopy(tokenizer)
    new = [AddedToken(token, normalized=False, lstrip=False, rstrip=False, special=True) for token in tokens]
    # False: other special tokens stay. Given by position, since the name of the argument differs between versions.
    made.add_special_tokens({"additional_special_tokens": new}, False)
    return made


def _check_own(tokenizer: Any, ids: Mapping[str, int]) -> None:
    """Check that no word has the id of a tag, and no two words have one id: a model sees ids alone."""
    for i, words in shared_ids(backend_of(tokenizer)).items():
        shown = " and ".join(map(repr, words))
        tag = next((token for token, own in ids.items() if own == i), None)
        raise ConfigError(
            f"the tokenizer has one id, {i}, for {shown}" + (f": {tag} would be that word" if tag else ""),
            hint="The ids of its words have holes. Load it with `annotate.tokens.load_tokenizer`, which fills them.",
        )


def _one_id(tokenizer: Any, token: str) -> int:
    """The id of a token. Checks that it is one token, alone and inside text, and that its id reads back as it."""
    backend = backend_of(tokenizer)
    i = backend.token_to_id(token)
    alone = backend.encode(token, add_special_tokens=False).ids
    again = backend.decode(alone, skip_special_tokens=False)
    inside = backend.encode(f"a{token}b", add_special_tokens=False).ids
    special = {number for number, added in backend.get_added_tokens_decoder().items() if added.special}
    if i is None or alone != [i] or again != token or inside.count(i) != 1 or i not in special:
        raise ConfigError(
            f"{token} is not exactly one token of this tokenizer: alone it gives the ids {alone}, which read {again!r}",
            hint="Give the tag another name, or another reserved slot.",
        )
    return i
