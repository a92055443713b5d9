"""Counts of this process: what happens to it that somebody should hear of, such as requests that were tried again.

Whoever does something counts it here, by a name. Whoever reports it takes the counts: a worker sends them to the driver
with each result.
"""

from __future__ import annotations

import threading

_counts: dict[str, float] = {}
_mutex = threading.Lock()


def count(name: str, more: float = 1) -> None:
    """Add to the count of this name. Any thread may call it."""
    with _mutex:
        _counts[name] = _counts.get(name, 0) + more


def taken() -> dict[str, float]:
    """The counts since the last call, by name; those that are zero are left out."""
    with _mutex:
        found = {name: number for name, number in _counts.items() if number}
        _counts.clear()
    return found
