"""The hook that kills a process at a named fault point, for `ANNOTATE_FAULT_HOOK=faults:kill`.

What to do is read from the file that `FAULT_PLAN` names, so that it can change while processes live: JSON with `point`
(or a random `seed` and `rate`; or `each_stage`, for the first unit of every stage that comes to that point, and the
first that it sends), and a folder `spent` in which a file marks each fault that was injected once.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path


def kill(point: str) -> None:
    """SIGKILL this process if the plan says so; a fault is injected once, whichever process is first."""
    try:
        plan = json.loads(Path(os.environ["FAULT_PLAN"]).read_text())
    except (FileNotFoundError, ValueError):
        return
    spent = Path(plan["spent"])
    if "seed" in plan:
        hit = _drawn(spent, plan, point)
    elif "each_stage" in plan:
        hit = point == plan["each_stage"] and _first(spent / _stage())
    else:
        hit = point == plan["point"] and _first(spent / point.replace(" ", "-"))
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)


def _stage() -> str:
    """The stage whose unit this process works on, with the hash of its settings; and the task that does."""
    found, frame = "none", sys._getframe()
    while frame is not None:
        if "context" in frame.f_locals:  # the outermost one is the task's
            found = f"{frame.f_locals['context'].stage.dataset}.{frame.f_code.co_name}"
        frame = frame.f_back
    return found


def _first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _drawn(spent: Path, plan: dict, point: str) -> bool:
    """Whether the next visit to a point is one that the seed draws; at most `most` in all."""
    visit = next(n for n in range(1 << 20) if _first(spent / f"visit-{point.replace(' ', '-')}-{n}"))
    digest = hashlib.sha256(f"{plan['seed']} {point} {visit}".encode()).digest()
    if digest[0] >= plan["rate"] * 256:
        return False
    return any(_first(spent / f"kill-{n}") for n in range(plan["most"]))
