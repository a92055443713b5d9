"""The console of commands, and how they print sizes, times and foreign text."""

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


def counted(n: int, noun: str) -> str:
    """A number of things, for people: `1 unit`, `2,000 units`, `3 processes`."""
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}"


def size(n: int | None) -> str:
    """Bytes, for people: `12 B`, `3.4 kB`, `5.6 MB`; `-` if unknown."""
    if n is None:
        return "-"
    value, units = float(n), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """A time, for people: `4.2 s`, `3 min 20 s`, `2 h 5 min`; `-` if unknown."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
