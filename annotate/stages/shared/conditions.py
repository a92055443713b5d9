"""Conditions: what a document is generated under, one prompt or several, or none; and which one an opening gets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.randomness import keyed_hash, name_key
from annotate.tags.vocabulary import Tag, check_name

PLAIN = "no-prompt"
"""Stands for the condition without a prompt in ids and in a column of conditions."""
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Condition:
    """What a document is generated under.

    Attributes:
        prompts: names of the prompts; empty for none.
        text: the prompts, with a blank line between them.
    """

    prompts: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """The names with + between them, as in the column `metatoken`."""
        return "+".join(self.prompts) or PLAIN

    @property
    def hash(self) -> str | None:
        """SHA-256 of the text; None if there is no prompt."""
        return hashlib.sha256(self.text.encode()).hexdigest() if self.prompts else None


def conditions_of(
    prompts: Mapping[str, str] | Sequence[tuple[str, str]], conditions: Sequence[Sequence[str] | Condition] | None
) -> tuple[tuple[tuple[str, str], ...], tuple[Condition, ...]]:
    """Check prompts and conditions.

    Args:
        prompts: texts by name, or pairs of name and text.
        conditions: names of prompts, or conditions as this returns them; None for each prompt alone.

    Returns:
        The prompts as pairs of name and text, and the conditions.

    Raises:
        ConfigError: there is no prompt; one is empty, or has a name that no tag can have; a condition names no prompt,
            or one twice; or two conditions are equal.
    """
    prompts = dict(prompts) if isinstance(prompts, tuple) else prompts
    if not isinstance(prompts, Mapping) or not prompts:
        raise ConfigError(
            f"prompts must be texts by the names of their metatokens, got {prompts!r}",
            hint='Write prompts={"pirate": "You are a pirate. ..."}.',
        )
    for name, text in prompts.items():
        check_name(name, "the name of a prompt")
        if "+" in name or '"' in name or name == PLAIN:
            raise ConfigError(f'the name of a prompt may have no + and no ", and not be {PLAIN!r}, got {name!r}')
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"the prompt {name!r} must be a text that is not empty, got {text!r}")
    if conditions is not None and any(isinstance(names, str) for names in conditions):
        raise ConfigError(
            f"each condition must be a list of names of prompts, got {list(conditions)!r}",
            hint='Write conditions=[["pirate"], ["pirate", "formal"]].',
        )
    chosen = [(name,) for name in prompts] if conditions is None else [_names(each) for each in conditions]
    for names in chosen:
        if unknown := [name for name in names if name not in prompts]:
            raise ConfigError(f"a condition names {unknown[0]!r}, which is none of the prompts: {', '.join(prompts)}")
        if len(set(names)) < len(names):
            raise ConfigError(f"a condition has a prompt twice: {list(names)}")
    made = tuple(Condition(tuple(names), _BETWEEN.join(prompts[name] for name in names)) for names in chosen)
    if not made or len({frozenset(condition.prompts) for condition in made}) < len(made):
        raise ConfigError(f"conditions must be different, and at least one, got {[list(names) for names in chosen]}")
    return tuple(prompts.items()), made


def _names(condition: Sequence[str] | Condition) -> tuple[str, ...]:
    return condition.prompts if isinstance(condition, Condition) else as_tuple(condition, "conditions")


def drawn(conditions: Sequence[Condition], seed: int, shard: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The condition of each opening, drawn by a hash with equal odds: int64 `[n]`, positions in `conditions`.

    Each gets the same one in whatever order the conditions are given: the order is no part of a recipe.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    keys = keyed_hash(seed, name_key(shard), rows, name_key("condition"))
    by_name = np.array(sorted(range(len(conditions)), key=lambda at: conditions[at].name), np.int64)
    return by_name[(keys % np.uint64(len(conditions))).astype(np.int64)]


def named(conditions: Sequence[Condition], names: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """The conditions that a column names: int64 `[n]`, -1 for a name that is none of them. Null is no prompt."""
    known = {condition.name: at for at, condition in enumerate(conditions)}
    return np.array([known.get(PLAIN if name is None else name, -1) for name in names], np.int64)


def tags_of(prompts: Sequence[tuple[str, str]], conditions: Sequence[Condition]) -> tuple[Tag, ...]:
    """A tag for each prompt that is in a condition: it holds for the documents that were generated under it."""
    tags = []
    for name, text in prompts:
        under = [condition.name for condition in conditions if name in condition.prompts]
        if under:
            rule = " or ".join(f'metatoken == "{each}"' for each in under)
            tags.append(Tag(name=name, rule=rule, means=text))
    return tuple(tags)
