"""Tags, families of tags, aliases, and what can be a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.randomness import name_key
from annotate.tags.layouts import LAYOUTS, LayoutName
from annotate.tags.rules import Rule, parse_rule

Control = Literal["none", "shuffled", "shuffled-in-document", "constant", "reversed", "hashed-names", "untagged"]

# Angle brackets enclose a name, and a backslash escapes a tag's spelling in text. In a name both would be ambiguous.
_UNUSABLE = re.compile(r"[\s<>\\\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _where() -> Any:
    """The field `where`. Tags that differ in it alone are equal."""
    return field(default="", compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A condition tag.

        Tag(name="nice", rule="niceness >= q(0.7)", means="friendly to its readers")

    Attributes:
        name: what people call it, `nice`; it is spelled `<nice>` in text.
        rule: when it holds, in the language of `annotate.tags.rule_grammar`. "else": where no other tag of its family
            does.
        family: a span has one tag of a family at most: the first whose rule holds. None: a family of its own.
        means: what it stands for, for people. Of a metatoken, the whole prompt.
        where: file and line, for errors.
    """

    name: str
    rule: str
    family: str | None = None
    means: str = ""
    where: str = _where()

    def __post_init__(self) -> None:
        check_name(self.name, "a tag's name")
        if not isinstance(self.rule, str):
            raise ConfigError(f"the rule of tag {self.name!r} must be a string, got {self.rule!r}.")
        try:
            _ = self.parsed
        except ConfigError as error:
            raise ConfigError(f"tag {self.name!r}: {error.message}", hint=error.hint) from None

    @cached_property
    def parsed(self) -> Rule:
        """The rule, after it was parsed."""
        return parse_rule(self.rule)

    @property
    def spelling(self) -> str:
        """The tag, as it stands in text."""
        return f"<{self.name}>"


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the tags of a family are laid into text.

        Family(name="tone", layout="begin-end", dropout=0.1)

    Attributes:
        name: of the family, as its tags say it.
        layout: where a tag stands. "prefix": before its span. "begin-end": before it, and a closing tag `</nice>` after
            it. "change": before a span whose tag is not that of the span before, and a closing tag where none follows.
            "suffix": after its span. "repeat": before words inside the span, at random. See `annotate.tags.layouts`.
        dropout: the share of its spans that lose the tag. Each is drawn by itself.
        null: a tag that stands where no other of the family does, also where one was dropped. None: nothing stands
            there.
        rate: for the layout "repeat", the share of a span's words that get the tag. The first word never does.
        where: file and line, for errors.
    """

    name: str
    layout: LayoutName = "prefix"
    dropout: float = 0.0
    null: str | None = None
    rate: float = 0.05
    where: str = _where()

    def __post_init__(self) -> None:
        check_name(self.name, "a family's name")
        if self.layout not in list(LAYOUTS):
            raise ConfigError(f"the layout of family {self.name!r} must be {one_of(LAYOUTS)}, got {self.layout!r}.")
        for name in ("dropout", "rate"):
            check_share(getattr(self, name), f"{name} of family {self.name!r}")
        if self.null is not None:
            check_name(self.null, f"the null tag of family {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A name for several tags together.

        Alias(name="good", tags=("nice", "correct"))

    Attributes:
        name: of the alias.
        tags: what it stands for: tags, or other aliases.
        expand: True: it is only a name, for prompts. False: it is a tag, which stands in place of the others where all
            of them hold.
        where: file and line, for errors.
    """

    name: str
    tags: Sequence[str]
    expand: bool = True
    where: str = _where()

    def __post_init__(self) -> None:
        check_name(self.name, "an alias's name")
        object.__setattr__(self, "tags", as_tuple(self.tags, "tags"))
        if not self.tags:
            raise ConfigError(f"alias {self.name!r} must stand for at least one tag, got none.")


def at(where: str) -> str:
    """How an error begins: with file and line, if they are known."""
    return f"{where}: " if where else ""


def shown_name(name: str, control: Control) -> str:
    """The name of a tag as it stands in text, under a control."""
    if control != "hashed-names":
        return name
    return f"t{name_key(name):016x}"


def check_name(name: Any, what: str) -> None:
    """Check that a name can stand between angle brackets.

    Raises:
        ConfigError: it can't.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{what} must be a non-empty string, got {name!r}.")
    if bad := _UNUSABLE.search(name):
        raise ConfigError(
            f"{what} must be free of blanks, control characters, `<`, `>` and backslashes, got {name!r} "
            f"with {bad.group()!r}.",
            hint='Give the name alone, as in Tag(name="nice", ...): it is spelled <nice> in text.',
        )


def check_share(value: Any, what: str) -> None:
    """Check that a value is a share.

    Raises:
        ConfigError: it is no number in [0, 1].
    """
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{what} must lie in [0, 1], got {value!r}.")


def one_of(values: Iterable[str]) -> str:
    """Choices, as errors list them."""
    return ", ".join(f'"{value}"' for value in values)
