"""The one hook through which tests inject faults. It does nothing unless a test of this source tree installs one.

If the environment variable `ANNOTATE_FAULT_HOOK` names a function as `module:function`, `reach("commit: part put")`
calls it with the name of the point, in the process that reaches the point. The module is a file of `tests/` in the
source tree that this package is imported from. An installed package has no such folder, and ignores the variable.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

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
    "refusal: put",
)


def _installed() -> Callable[[str], None] | None:
    module, _, function = os.environ.get("ANNOTATE_FAULT_HOOK", "").partition(":")
    tree = Path(__file__).parents[2]
    if not (module.isidentifier() and function.isidentifier() and (tree / "pyproject.toml").is_file()):
        return None
    spec = importlib.util.spec_from_file_location(module, tree / "tests" / f"{module}.py")
    if spec is None or spec.loader is None or not Path(str(spec.origin)).is_file():
        return None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    hook: Callable[[str], None] = getattr(found, function)
    return hook


_hook = _installed()


def reach(point: str) -> None:
    """Tell the installed hook, if any, that this process is at `point` (one of `POINTS`)."""
    if _hook is not None:
        _hook(point)
