"""Tables and intervals in Markdown, for reports."""

from __future__ import annotations

import math

from annotate.proof.intervals import Interval


def table(*columns: str) -> list[str]:
    """The head of a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def shown(interval: Interval, digits: int = 3) -> str:
    """The value and its interval; "-" where nothing could be measured."""
    if math.isnan(interval.value):
        return "-"
    return f"{interval.value:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
