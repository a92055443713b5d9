"""The tag scheme: which tags there are, when each holds, and in what order they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from annotate.errors import ConfigError
from annotate.tags.rules import Rule, parse_rule

# Angle brackets delimit a tag, a backslash escapes its spelling in text: inside a name they make both ambiguous.
_UNUSABLE = re.compile(r"[\s<>\\\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A condition tag.

    Attributes:
        name: what people call it, `nice`; it is spelled `<nice>` in text.
        rule: when it holds; `annotate.tags.rules` gives the language.
    """

    name: str
    rule: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"a tag's name must be a non-empty string, got {self.name!r}.")
        if bad := _UNUSABLE.search(self.name):
            raise ConfigError(
                f"a tag's name must be free of blanks, control characters, `<`, `>` and backslashes, got {self.name!r} "
                f"with {bad.group()!r}.",
                hint='give the name alone, as in Tag(name="nice", ...): it is spelled <nice> in text.',
            )
        if not isinstance(self.rule, str):
            raise ConfigError(f"the rule of tag {self.name!r} must be a string, got {self.rule!r}.")
        try:
            _ = self.parsed
        except ConfigError as error:
            raise ConfigError(f"tag {self.name!r}: {error.message}", hint=error.hint) from None

    @cached_property
    def parsed(self) -> Rule:
        """The rule, read."""
        return parse_rule(self.rule)

    @property
    def spelling(self) -> str:
        """The tag as it stands in text."""
        return f"<{self.name}>"


@dataclass(frozen=True, kw_only=True)
class TagScheme:
    """Tags in the order in which they stand in text, where several hold at one place."""

    tags: tuple[Tag, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(self.tags))
        if not self.tags:
            raise ConfigError("a tag scheme must have at least one tag, got none.")
        names = [tag.name for tag in self.tags]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"the tags of a scheme must have different names, got {', '.join(repeated)} twice.")

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes whose scores or quantiles the rules use, sorted."""
        used = {axis for tag in self.tags for axis in tag.parsed.axes}
        return tuple(sorted(used | {axis for axis, _ in self.quantiles}))

    @property
    def quantiles(self) -> tuple[tuple[str, float], ...]:
        """All quantiles that the rules compare with, as (axis, q), sorted."""
        return tuple(sorted({key for tag in self.tags for key in tag.parsed.quantiles}))

    @property
    def curves(self) -> tuple[str, ...]:
        """All axes that the rules read as a probability, sorted."""
        return tuple(sorted({axis for tag in self.tags for axis in tag.parsed.curves}))

    def identity(self) -> dict[str, Any]:
        """All that can change a placement, JSON-ready."""
        return {"tags": [{"name": tag.name, "rule": tag.rule} for tag in self.tags]}


DEFAULT_SCHEME = TagScheme(
    tags=(
        Tag(name="nice", rule="niceness >= q(0.7)"),
        Tag(name="authoritative_tone", rule="tone >= q(0.7)"),
        Tag(name="correct", rule="correctness >= q(0.7)"),
    )
)
