"""The lines of a TOML file on which its tables and keys are: `tomllib` does not tell them."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value. In an array of tables, the number of the table is one of them."""

_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(#.*)?$")
_TEXT = re.compile(r"""(?<==)(\s*)("(?:\\.|[^"\\])*"|'[^']*')""")  # a text that a key is set to
_KEY = re.compile(r"""(?:^|[{,])\s*("[^"]*"|'[^']*'|[\w-]+(?:\.[\w-]+)*)\s*=(?!=)""")


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line of each table and key, from 1.

    Found are keys that begin a line and keys of inline tables. Others may be missing: errors then name the line of the
    table that the key is in.
    """
    found: dict[KeyPath, int] = {}
    counts: dict[str, int] = {}
    header: KeyPath = ()
    parent: KeyPath = ()
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
