"""How amounts are told to people: the log, errors, plans and status all use these."""

from __future__ import annotations

import math


def counted(n: int, noun: str) -> str:
    """A number of things, for people: `1 unit`, `2,000 units`, `3 processes`, `4 batches`."""
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith(('s', 'ch')) else 's'}"


def size(n: int | None) -> str:
    """Bytes, for people: `12 B`, `3.4 kB`, `5.6 MB`; `-` if unknown."""
    if n is None:
        return "-"
    value, units = float(n), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"


def amount(number: float) -> str:
    """A number, for people, with at least two useful digits: `0.0031`, `2.10`, `1,234.50`."""
    if number == 0 or number >= 1:
        return f"{number:,.2f}"
    return f"{number:.{1 - math.floor(math.log10(number))}f}"


def duration(seconds: float | None) -> str:
    """A time, for people: `4.2 s`, `3 min 20 s`, `2 h 5 min`; `-` if unknown."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
