"""What a worker does for a search: it tries some work, commits nothing, and ends if it is what ends workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from annotate.engine.overdue import limited
from annotate.engine.worker import Context
from annotate.errors import StorageError
from annotate.graph.tables import Work


def tried(context: Context, works: Sequence[Work], attempt: Callable[[Context, Work], None]) -> None:
    """Try whether work ends this process; without work, whether what all units need does. Nothing is committed.

    An error that a stage raises is no answer: a unit of some documents only may lack what it needs.

    Raises:
        StorageError: the store failed, so nothing was tried.
    """
    try:
        context.shared()
        context.stage.warm()
        for work in works:
            attempt(context, work)
    except StorageError:
        raise
    except Exception:
        return


def in_time(context: Context, units: int) -> Any:
    """End this process if a block takes longer than so many work units may, for a stage that has a limit.

    What the stage loads once in a process is no part of the time.
    """
    seconds = context.stage.unit_seconds
    if seconds is not None:
        context.stage.warm()
    return limited(None if seconds is None else seconds * max(1, units))
