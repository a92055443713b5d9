"""Tag schemes as TOML files, and the presets that ship with the package.

Errors name the line. This is all that a file can have:

document_dropout = 0.1              # of TagScheme: order, document_dropout, control, seed

[[family]]                          # of Family: name, layout, dropout, null, rate; and tags, in one of three ways
name = "niceness"
tags = { nice = "niceness >= q(0.7)", naughty = "else" }

[[family]]
name = "quality"
axis = "quality"                    # grades: `bins` of equal mass, or `cuts`; `names`, from the lowest
bins = 5
by = ["source"]                     # of equal mass among the documents of each source

[[family]]
name = "source"
column = "source"                   # values of a column of the corpus: a list of tags, or a tag for each
values = { "wikipedia.org" = "wiki" }
other = "web"

[[alias]]                           # of Alias: name, tags, expand
name = "ideal"
tags = ["nice", "quality_4"]

[[phase]]                           # of Phase: name, tokens or share, tag_rate (a number, or those of a ramp)
name = "cooldown"
share = 0.1
tag_rate = 0.0

[means]                             # what tags stand for; of a metatoken, the prompt
nice = "kind and helpful"
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from annotate.errors import ConfigError
from annotate.storage.local_copies import local_copy
from annotate.tags.families import by_column, graded
from annotate.tags.scheme import TagScheme
from annotate.tags.toml_lines import KeyPath, lines_of_keys
from annotate.tags.vocabulary import Alias, Family, Tag
from annotate.training_order.phases import Phase, check_phases


class _Table(BaseModel):
    """A table of the file: what keys it may have, and of what type their values are."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Family(_Table):
    name: str
    layout: str | None = None
    dropout: float | None = None
    null: str | None = None
    rate: float | None = None
    tags: dict[str, Any] | None = None  # a tag checks its rule itself
    axis: str | None = None
    bins: int = 0
    cuts: list[Any] = []  # `graded` checks that they are numbers
    names: list[str] = []
    by: list[str] = []
    column: str | None = None
    values: list[str] | dict[str, str] = []
    other: str | None = None


class _Alias(_Table):
    name: str
    tags: list[str]
    expand: bool = True


class _Phase(_Table):
    name: str
    tokens: int | None = None
    share: float | None = None
    tag_rate: float | list[Any] = 1.0  # a phase checks what is in the list


class _Scheme(_Table):
    order: str | None = None
    document_dropout: float | None = None
    control: str | None = None
    seed: int | None = None
    family: list[_Family] = []
    alias: list[_Alias] = []
    phase: list[_Phase] = []
    means: dict[str, str] = {}


_TABLES: dict[str, tuple[str, type[_Table]]] = {
    "": ("a tag scheme", _Scheme),
    "family": ("a family", _Family),
    "alias": ("an alias", _Alias),
    "phase": ("a phase", _Phase),
}
"""What a table is called in errors, by the key that it has."""
_LAID = ("layout", "dropout", "null", "rate")
"""The keys of a family that say how its tags are laid into text."""
_WAYS = {
    "tags": ("tags",),
    "axis": ("axis", "bins", "cuts", "names", "by"),
    "column": ("column", "values", "other"),
}
"""The three ways to give a family its tags, and the keys that go with each."""
_TYPES = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
}
"""What Pydantic expected, by the type of its error."""


def load_scheme(path: str | Path) -> TagScheme:
    """Load a scheme from a TOML file, local or at a URL.

        scheme = load_scheme("my.toml")

    Raises:
        ConfigError: there is no such file, it is not TOML, or it is no scheme. Names the line.
    """
    try:
        text = local_copy(str(path)).read_text("utf-8")
    except FileNotFoundError:
        known = ", ".join(presets())
        raise ConfigError(
            f"no such tag scheme: {path}", hint=f"`annotate scheme new FILE --preset NAME` writes one: {known}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the tag scheme {path} can't be read: {error}") from error
    return parse_scheme(text, str(path))


def presets() -> dict[str, str]:
    """The presets that ship with the package, as text to start from.

        Path("my.toml").write_text(presets()["korbak"])

    Returns:
        The TOML of each, by name; `default` is the first.
    """
    found = {item.name.removesuffix(".toml"): item for item in files("annotate.tags").joinpath("presets").iterdir()}
    return {name: found[name].read_text("utf-8") for name in sorted(found, key=lambda name: (name != "default", name))}


def preset(name: str) -> TagScheme:
    """A scheme that ships with the package.

        scheme = preset("korbak")

    Raises:
        ConfigError: there is no preset of this name.
    """
    known = presets()
    if name not in known:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(known)}")
    return parse_scheme(known[name], f"preset {name}")


def parse_scheme(text: str, where: str) -> TagScheme:
    """Read a scheme.

    Args:
        text: TOML.
        where: what errors call it.

    Raises:
        ConfigError: it is not TOML, or it is no scheme. Names the line.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply to be a tag scheme") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    return _Reader(where, lines_of_keys(text)).scheme(data)


class _Reader:
    """Makes a scheme of what a file holds, with errors that name the line."""

    def __init__(self, where: str, lines: Mapping[KeyPath, int]) -> None:
        self._where, self._lines = where, lines

    def scheme(self, data: Mapping[str, Any]) -> TagScheme:
        file = self._checked(data)
        families, tags = [], list[Tag]()
        for i, item in enumerate(file.family):
            place = ("family", i)
            laid = item.model_dump(include=set(_LAID), exclude_unset=True)
            for name, value in {"name": item.name, **laid}.items():
                with self._at((*place, name)):
                    Family(**{"name": item.name, name: value})
            families.append(Family(name=item.name, **laid, where=self._line(place)))
            tags += self._tags(item, place)
        aliases, phases = [], []
        for i, alias in enumerate(file.alias):
            with self._at(("alias", i)):
                aliases.append(Alias(**alias.model_dump(exclude_unset=True), where=self._line(("alias", i))))
        for i, phase in enumerate(file.phase):
            with self._at(("phase", i)):
                phases.append(Phase(**phase.model_dump(exclude_unset=True)))
        with self._at(("phase", len(phases) - 1)):
            check_phases(phases)
        if unknown := set(file.means) - {tag.name for tag in tags}:
            name = next(name for name in file.means if name in unknown)
            raise self._error(("means", name), f"{name!r} is no tag of the scheme, so there is nothing to mean")
        tags = [replace(tag, means=file.means.get(tag.name, "")) for tag in tags]
        with self._at(()):
            scheme = TagScheme(tags=tuple(tags), families=tuple(families), aliases=tuple(aliases), phases=tuple(phases))
        for name in ("order", "document_dropout", "control", "seed"):
            if name in data:
                with self._at((name,)):
                    scheme = replace(scheme, **{name: getattr(file, name)})
        return scheme

    def _tags(self, item: _Family, place: KeyPath) -> list[Tag]:
        """The tags of a family, from rules, grades or a column."""
        given = [name for name in type(item).model_fields if name in item.model_fields_set]
        ways = [name for name in _WAYS if name in given]
        if len(ways) != 1:
            raise self._error(place, f"a family needs one of tags, axis and column, got {' and '.join(ways) or 'none'}")
        for name in given:
            if name not in ("name", *_LAID, *_WAYS[ways[0]]):
                raise self._error((*place, name), f"{name!r} does not go with {ways[0]!r}")
        if item.tags is not None:
            tags = []
            for tag, rule in item.tags.items():
                here = (*place, "tags", tag)
                with self._at(here):
                    tags.append(Tag(name=tag, rule=rule, family=item.name, where=self._line(here)))
            return tags
        here = (*place, next((name for name in ("cuts", "bins") if name in given), ways[0]))
        with self._at(here):
            return [replace(tag, where=self._line(here)) for tag in _made(item)]

    def _checked(self, data: Mapping[str, Any]) -> _Scheme:
        """The tables of the file, with the keys and the types that they have to have."""
        try:
            return _Scheme.model_validate(data)
        except ValidationError as error:
            found = [(_place(each["loc"]), each) for each in error.errors()]
        # The first in the file. Where a key may be of several types, each that it is not is an error of its own.
        first = min((place for place, _ in found), key=lambda place: self._number(place) or 0)
        errors = [each for place, each in found if place == first]
        name, value = first[-1], errors[0]["input"]
        what, table = _TABLES.get(str(first[0]) if len(first) > 1 else "", _TABLES[""])
        kinds = {each["type"] for each in errors}
        if "extra_forbidden" in kinds:
            near = difflib.get_close_matches(str(name), table.model_fields, 1)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise self._error(first, f"{what} has no {name!r}{meant} It may have: {', '.join(table.model_fields)}")
        if "missing" in kinds:
            raise self._error(first[:-1], f"{what} needs {'a name' if name == 'name' else name}")
        if "model_type" in kinds:
            raise self._error(first, f"{what} must be a table, got {value!r}")
        if inside := [each for each in errors if len(each["loc"]) > len(first) and each["type"] == "string_type"]:
            raise self._error(first, f"{name} must hold texts alone, got {inside[0]['input']!r}")
        kind = " or ".join(_TYPES.get(each["type"], each["msg"]) for each in errors)
        named = f"the meaning of {name!r}" if len(first) > 1 and first[0] == "means" else str(name)
        hint = f"Write its header as [[{name}]]." if name in _TABLES and isinstance(value, dict) else None
        raise self._error(first, f"{named} must be {kind}, got {value!r}", hint)

    @contextmanager
    def _at(self, place: KeyPath) -> Iterator[None]:
        """Put file and line of a place before an error."""
        try:
            yield
        except ConfigError as error:
            if error.message.startswith(f"{self._where}, line "):  # a line is named already
                raise
            raise self._error(place, error.message, error.hint) from None

    def _line(self, place: KeyPath) -> str:
        """File and line of a place, as far as it is known."""
        line = self._number(place)
        return f"{self._where}{f', line {line}' if line else ''}"

    def _number(self, place: KeyPath) -> int | None:
        """The line of a place, or of the smallest table around it whose line is known."""
        return next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), None)

    def _error(self, place: KeyPath, message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self._line(place)}: {message}", hint=hint)


def _made(item: _Family) -> tuple[Tag, ...]:
    """The tags of a family that grades an axis, or names the values of a column."""
    if item.axis is not None:
        return graded(item.name, item.axis, bins=item.bins, cuts=item.cuts, names=item.names, by=item.by)
    assert item.column is not None, "there is one of tags, axis and column"
    values = item.values
    if isinstance(values, list) and (twice := [value for value in values if values.count(value) > 1]):
        raise ConfigError(f"values of family {item.name!r} has {twice[0]!r} twice")
    named = values if isinstance(values, dict) else {value: value for value in values}
    return by_column(item.name, item.column, named, other=item.other)


def _place(location: tuple[str | int, ...]) -> KeyPath:
    """The key that an error of Pydantic is about, without what it says of the value inside."""
    return location[: 3 if location[0] in _TABLES or location[0] == "means" else 1]
