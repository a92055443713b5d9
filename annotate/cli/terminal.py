"""The console of commands, and how they print foreign text."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

PLAIN_WIDTH = 160  # columns of a table that goes to a file or a pipe
LOG_WIDTH = 80  # columns of a framed text there

_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (0x09, 0x0A)}
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # the direction of the text that follows
_VISIBLE = str.maketrans({**_CONTROLS, 0x7F: 0x2421, **dict.fromkeys((*range(0x80, 0xA0), *_TURNING), 0xFFFD)})


def console(*, soft_wrap: bool = False) -> Console:
    """A console on standard output. It reads no markup, since names and texts come from people's data.

    Args:
        soft_wrap: whether the terminal breaks long lines; else they are broken between words.
    """
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap, width=width())


def width() -> int | None:
    """Columns of a console: None for those of the terminal, or of COLUMNS; else wide enough for a table."""
    return None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PLAIN_WIDTH


def say(out: Console, text: str, style: str = "") -> None:
    """Print a line without breaking it, so that a path or a command in it can be copied."""
    out.print(Text(text, style=style), soft_wrap=True)


def visible(text: str) -> str:
    """Replace control characters, one for one: text from a corpus must not steer the terminal that shows it.

    So are those that turn the direction of what follows, and could make a line look like another.
    """
    return text.translate(_VISIBLE)
