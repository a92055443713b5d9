"""Tag schemes as TOML: read with errors that name the line, and the presets that ship with the package.

document_dropout = 0.1              # of TagScheme: order, document_dropout, control, seed

[[family]]                          # of Family: name, layout, dropout, null, rate; and its tags, in one of three ways
name = "niceness"
tags = { nice = "niceness >= q(0.7)", naughty = "else" }

[[family]]
name = "quality"
axis = "quality"                    # grades: `bins` of equal mass, or `cuts`; `names` from the lowest on
bins = 5
by = ["source"]                     # of equal mass among the documents of each source

[[family]]
name = "source"
column = "source"                   # values of a column of the corpus, each a tag, or each with its tag
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
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from annotate.errors import ConfigError
from annotate.tags.made import by_column, graded
from annotate.tags.scheme import Alias, Family, Tag, TagScheme
from annotate.training_order.phases import Phase, check_phases

Place = tuple[str | int, ...]

TOP = {
    "order": str,
    "document_dropout": float,
    "control": str,
    "seed": int,
    "family": list,
    "alias": list,
    "phase": list,
    "means": dict,
}
LAID = {"name": str, "layout": str, "dropout": float, "null": str, "rate": float}
TAGGED = {
    "tags": dict,
    "axis": str,
    "bins": int,
    "cuts": list,
    "names": list,
    "by": list,
    "column": str,
    "values": (list, dict),
    "other": str,
}
ALIAS = {"name": str, "tags": list, "expand": bool}
PHASE = {"name": str, "tokens": int, "share": float, "tag_rate": (float, list)}


def load_scheme(path: str | Path) -> TagScheme:
    """Load a scheme from a TOML file.

    Raises:
        ConfigError: there is no such file, it is not TOML, or not a scheme; names the line.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        known = ", ".join(presets())
        raise ConfigError(
            f"no such tag scheme: {path}", hint=f"`annotate scheme new FILE --preset NAME` writes one: {known}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the tag scheme {path} can't be read: {error}") from error
    return parse_scheme(text, str(path))


def presets() -> dict[str, str]:
    """The text of each preset that ships, by name, `default` first."""
    found = {item.name.removesuffix(".toml"): item for item in files("annotate.tags").joinpath("presets").iterdir()}
    return {name: found[name].read_text("utf-8") for name in sorted(found, key=lambda name: (name != "default", name))}


def preset(name: str) -> TagScheme:
    """A scheme that ships with the package.

    Raises:
        ConfigError: there is none of this name.
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
        ConfigError: it is not TOML, or not a scheme; names the line.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply to be a tag scheme") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    return _Reader(where, _lines(text)).scheme(data)


class _Reader:
    """Makes a scheme of data, and knows on which line each piece of it is."""

    def __init__(self, where: str, lines: Mapping[Place, int]) -> None:
        self._where, self._lines = where, lines

    def scheme(self, data: Mapping[str, Any]) -> TagScheme:
        self._check(data, TOP, (), "a tag scheme")
        families, tags = [], list[Tag]()
        for i, item in enumerate(data.get("family", [])):
            place = ("family", i)
            self._check(item, LAID | TAGGED, place, "a family")
            if "name" not in item:
                self._fail(place, "a family needs a name")
            laid = {name: item[name] for name in LAID if name in item}
            for name, value in laid.items():
                with self._at((*place, name)):
                    Family(**{"name": item["name"], name: value})
            families.append(Family(**laid, where=self._line(place)))
            tags += self._tags(item, place)
        aliases = [self._alias(item, ("alias", i)) for i, item in enumerate(data.get("alias", []))]
        phases = [self._phase(item, ("phase", i)) for i, item in enumerate(data.get("phase", []))]
        with self._at(("phase", len(phases) - 1)):
            check_phases(phases)
        means = data.get("means", {})
        for name, meaning in means.items():
            if name not in {tag.name for tag in tags} or not isinstance(meaning, str):
                self._fail(("means", name), f"{name!r} is no tag of the scheme, or its meaning is no text")
        tags = [replace(tag, means=means.get(tag.name, "")) for tag in tags]
        with self._at(()):
            scheme = TagScheme(tags=tuple(tags), families=tuple(families), aliases=tuple(aliases), phases=tuple(phases))
        for name in ("order", "document_dropout", "control", "seed"):
            if name in data:
                with self._at((name,)):
                    scheme = replace(scheme, **{name: data[name]})
        return scheme

    def _tags(self, item: Mapping[str, Any], place: Place) -> list[Tag]:
        """The tags of a family, from rules, grades or a column."""
        ways = [name for name in ("tags", "axis", "column") if name in item]
        if len(ways) != 1:
            self._fail(place, f"a family needs one of tags, axis and column, got {' and '.join(ways) or 'none'}")
        used = {
            "tags": ("tags",),
            "axis": ("axis", "bins", "cuts", "names", "by"),
            "column": ("column", "values", "other"),
        }
        for name in item:
            if name in TAGGED and name not in used[ways[0]]:
                self._fail((*place, name), f"{name!r} does not go with {ways[0]!r}")
        name = item["name"]
        if ways == ["tags"]:
            tags = []
            for tag, rule in item["tags"].items():
                here = (*place, "tags", tag)
                with self._at(here):
                    tags.append(Tag(name=tag, rule=rule, family=name, where=self._line(here)))
            return tags
        cut = next((key for key in ("cuts", "bins") if key in item and ways == ["axis"]), ways[0])
        with self._at((*place, cut)):
            return [replace(tag, where=self._line((*place, cut))) for tag in self._made(item)]

    def _made(self, item: Mapping[str, Any]) -> tuple[Tag, ...]:
        """The tags of a family that grades an axis, or names the values of a column."""
        name = item["name"]
        if "axis" in item:
            lists = {key: tuple(item.get(key, ())) for key in ("cuts", "names", "by")}
            return graded(name, item["axis"], bins=item.get("bins", 0), **lists)
        values = item.get("values", [])
        if isinstance(values, list) and (twice := [value for value in values if values.count(value) > 1]):
            raise ConfigError(f"values of family {name!r} has {twice[0]!r} twice")
        named = values if isinstance(values, dict) else {value: value for value in values}
        return by_column(name, item["column"], named, other=item.get("other"))

    def _alias(self, item: Mapping[str, Any], place: Place) -> Alias:
        self._check(item, ALIAS, place, "an alias")
        for name in ("name", "tags"):
            if name not in item:
                self._fail(place, f"an alias needs {name}")
        with self._at(place):
            return Alias(**item, where=self._line(place))

    def _phase(self, item: Mapping[str, Any], place: Place) -> Phase:
        self._check(item, PHASE, place, "a phase")
        if "name" not in item:
            self._fail(place, "a phase needs a name")
        with self._at(place):
            return Phase(**item)

    def _check(self, item: Any, known: Mapping[str, Any], place: Place, what: str) -> None:
        """Check names and types of the keys of a table."""
        if not isinstance(item, dict):
            self._fail(place, f"{what} must be a table, got {item!r}")
        for name, value in item.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"; did you mean {near[0]!r}?" if near else "."
                self._fail(
                    (*place, name),
                    f"{what} has no {name!r}{meant} It may have: {', '.join(known)}".replace("? It", "? It"),
                )
            kinds = known[name] if isinstance(known[name], tuple) else (known[name],)
            kind = (*kinds, int) if float in kinds else kinds
            if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
                wanted = " or ".join(_KINDS[each] for each in kinds)
                self._fail((*place, name), f"{name} must be {wanted}, got {value!r}")
            texts: Collection[Any] = (
                value if isinstance(value, list) and name in ("names", "by", "values", "tags") else []
            )
            texts = value.values() if isinstance(value, dict) and name == "values" else texts
            if wrong := [each for each in texts if not isinstance(each, str)]:
                self._fail((*place, name), f"{name} must hold texts alone, got {wrong[0]!r}")

    @contextmanager
    def _at(self, place: Place) -> Iterator[None]:
        """Put the line of a place before an error."""
        try:
            yield
        except ConfigError as error:
            if error.message.startswith(f"{self._where}, line "):  # it knows a better place
                raise
            self._fail(place, error.message, error.hint)

    def _line(self, place: Place) -> str:
        """File and line of a place, or of the smallest table around it whose line is known."""
        line = next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), None)
        return f"{self._where}{f', line {line}' if line else ''}"

    def _fail(self, place: Place, message: str, hint: str | None = None) -> Any:
        raise ConfigError(f"{self._line(place)}: {message}", hint=hint) from None


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(#.*)?$")
_TEXT = re.compile(r"""(?<==)(\s*)("(?:\\.|[^"\\])*"|'[^']*')""")  # that a key is set to
_KEY = re.compile(r"""(?:^|[{,])\s*("[^"]*"|'[^']*'|[\w-]+(?:\.[\w-]+)*)\s*=(?!=)""")


def _lines(text: str) -> dict[Place, int]:
    """The line of each table and key, from 1, as far as TOML is written one key a line, or in inline tables."""
    found: dict[Place, int] = {}
    counts: dict[str, int] = {}
    header: Place = ()
    parent: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _HEADER.match(line):
            name = match[2]
            if match[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                header = (name, counts[name])
            else:
                first, *rest = name.split(".")
                header = (first, counts[first], *rest) if first in counts else (first, *rest)
            found.setdefault(header, number)
            continue
        for match in _KEY.finditer(_TEXT.sub(r"\1''", line).split(" #")[0]):
            key = (match[1].strip("\"'"),) if match[1][0] in "\"'" else tuple(match[1].split("."))
            place = (*header, *key) if match.start() == 0 and match[0][0] not in "{," else (*parent, *key)
            if match[0][0] not in "{,":
                parent = place
            found.setdefault(place, number)
    return found
