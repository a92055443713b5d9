"""The one hook through which tests inject faults. It does nothing unless a test installs a function.

If the environment variable `ANNOTATE_FAULT_HOOK` names a function as `module:function`, `reach("commit: part put")`
calls it with the name of the point, in the process that reaches the point.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

POINTS = (
    "unit: started",
    "unit: computed",
    "commit: before part",
    "commit: part put",
    "commit: entry created",
    "actor: loaded",
    "actor: scored",
    "driver: stage started",
    "driver: receipt taken",
    "driver: manifest part put",
    "driver: before manifest",
    "driver: manifest created",
    "driver: before ledger",
)


def _installed() -> Callable[[str], None] | None:
    name = os.environ.get("ANNOTATE_FAULT_HOOK")
    if not name:
        return None
    module, _, function = name.partition(":")
    hook: Callable[[str], None] = getattr(importlib.import_module(module), function)
    return hook


_hook = _installed()


def reach(point: str) -> None:
    """Tell the installed hook, if any, that this process is at `point` (one of `POINTS`)."""
    if _hook is not None:
        _hook(point)
