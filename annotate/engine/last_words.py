"""What the logs of dead workers say of their end: Ray itself knows of most only that they are gone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import ray

from annotate.engine import nodes
from annotate.engine.model_actor import BROKEN
from annotate.engine.overdue import TOO_LONG

SECONDS = 5.0
"""Within which a node answers; the driver waits for it."""
READ = 1 << 16
"""Bytes at the end of a log that are read: the stacks of many threads may follow the words."""
LONGEST = 200
UNSAID = "something killed it: its log tells of no crash"
_WORDS = re.compile(rf"Fatal Python error: .*|terminate called after .*|Timeout \(.*|{BROKEN}.*|{TOO_LONG}")


def last_words(logs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What logs say of the end of their processes, or that they say nothing of it.

    Args:
        logs: the paths of logs, as patterns, by the ids of their nodes.

    Returns:
        The words by path; logs that could not be read are missing.
    """
    own = ray.get_runtime_context().get_node_id()
    found = words_here(logs.get(own, ()))
    others = {node: paths for node, paths in logs.items() if node != own}
    if others:
        asked = [path for paths in others.values() for path in paths]
        # A node may have no annotate, or another.
        for answer in nodes.on_each_node(lambda: words_here(asked), SECONDS, only=others, strict=False).values():
            found |= answer
    return found


def words_here(paths: Sequence[str]) -> dict[str, str]:
    """The words of the logs that are on this node, by path."""
    found: defaultdict[str, str] = defaultdict(str)
    for pattern in paths:
        place = Path(pattern)
        for log in place.parent.glob(place.name):
            with suppress(OSError), log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - READ))
                found[pattern] += file.read().decode(errors="replace")
    return {pattern: _words(text) for pattern, text in found.items()}


def _words(text: str) -> str:
    said = [line for line in text.splitlines() if _WORDS.fullmatch(line)]
    if not said:
        return UNSAID
    # Of those who end a process that takes too long, one writes this line, and the other cause this heading.
    return TOO_LONG if said[-1].startswith("Timeout (") else said[-1].removeprefix("Fatal Python error: ")[:LONGEST]
