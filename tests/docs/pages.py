"""The pages of the documentation, their fenced blocks and what they have in code spans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
    "benchmarks/README.md",
    "annotate/probes/heads/MODEL_CARD.md",
]
_FENCE = re.compile(r"( *)```(\S*)\s*")
_EXCUSE = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text at the margin; `excuse` says why it isn't run."""

    page: str
    line: int
    language: str
    text: str
    excuse: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a page; `line` is that of the first line inside."""
    lines = text.splitlines()
    start, indent, language = -1, "", ""
    for number, line in enumerate(lines):
        fence = _FENCE.fullmatch(line)
        if start < 0 and fence:
            start, (indent, language) = number, fence.groups()
        elif start >= 0 and line.strip() == "```":
            inside = [each.removeprefix(indent) for each in lines[start + 1 : number]]
            before = next((each for each in reversed(lines[:start]) if each.strip()), "")
            excuse = _EXCUSE.fullmatch(before.strip())
            yield Block(page, start + 2, language, "\n".join(inside) + "\n", excuse[1] if excuse else "")
            start = -1
    assert start < 0, f"{page}:{start + 1}: a block without an end"


def outside(text: str) -> list[tuple[int, str]]:
    """The lines of a page that are in no fenced block, with their numbers."""
    found, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.fullmatch(line):
            inside = not inside
        elif not inside:
            found.append((number, line))
    return found


def spans(text: str) -> Iterator[tuple[int, str]]:
    """Code spans outside of blocks, with the numbers of their lines."""
    for number, line in outside(text):
        for code in re.findall(r"`([^`]+)`", line):
            yield number, code


def links(text: str) -> Iterator[tuple[int, str]]:
    """Targets of links to files, with the numbers of their lines."""
    for number, line in outside(text):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if "://" not in target:
                yield number, target
