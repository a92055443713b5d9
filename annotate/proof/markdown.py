"""Tables and intervals in Markdown, for reports."""

from __future__ import annotations

from annotate.proof.intervals import Interval


def table(*columns: str) -> list[str]:
    """The head of a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def shown(interval: Interval, digits: int = 3) -> str:
    """The value and its interval."""
    return f"{interval.value:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
