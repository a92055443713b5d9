"""Which units of calls in flight are worked on, as the titles of the workers' processes say.

A call of many small units tells of none before its end, so the driver knows only all that are in it. Each node is asked
for titles, and only where no result has come for minutes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import ray

from annotate.engine import head, nodes
from annotate.engine.facts import in_title

SECONDS = 10.0
"""Within which a node answers; the first answer may need a new process. The driver waits for it."""
_TITLE = re.compile(r"ray::.* now (?P<number>\d+) of (?P<of>\d+)")


def at_work(label: str, calls: Sequence[Sequence[str]]) -> list[str]:
    """The names of units in flight. Of a call with several it is the one that is worked on, where that is known.

    Args:
        label: of the stage, or of the stages that are made together.
        calls: the names of the units of each call in flight.
    """
    titles = _titles() if any(len(names) > 1 for names in calls) else []
    found = (name for names in calls for name in _worked_on(label, names, titles))
    return list(dict.fromkeys(found))


def _worked_on(label: str, names: Sequence[str], titles: Sequence[str]) -> Sequence[str]:
    if len(names) < 2 or not titles:
        return names
    # The title has the step between these: `ray::LABEL: STEP FIRST UNIT and others, now 3 of 32`.
    of_call = re.compile(rf"ray::{re.escape(in_title(label))}: \w+ {re.escape(in_title(names[0]))}(?!\w)")
    for title in titles:
        said = _TITLE.fullmatch(title)
        if said is not None and int(said["of"]) == len(names) and of_call.match(title):
            number = int(said["number"])
            return [f"{names[number - 1]} ({number} of {len(names)} in its call)"]
    return names


def _titles() -> list[str]:
    """The titles of workers, on all nodes that answer, which work on a call with several units."""
    if head.is_silent():
        return []
    own = ray.get_runtime_context().get_node_id()
    others = [node for node in nodes.alive() if node != own]
    # A node may have no annotate, or another.
    answers = nodes.on_each_node(titles_here, SECONDS, only=others, strict=False) if others else {}
    return sorted({*titles_here(), *(title for titles in answers.values() for title in titles)})


def titles_here() -> list[str]:
    """The titles of such workers on this node."""
    import psutil  # Ray brings it

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            title = " ".join(process.cmdline()).strip()
            found += [title] if _TITLE.fullmatch(title) else []
    return found
