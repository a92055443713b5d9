"""The hook that kills a process at a named fault point, for `ANNOTATE_FAULT_HOOK=faults:kill`.

What to do is read from the file that `FAULT_PLAN` names, so that it can change while processes live: JSON with a folder
`spent`, in which a file marks each fault that was injected once, and

- `points`: the driver, or a model, is killed once at each of them, and a task once for each kind of stage;
- `each_stage`: a task is killed once for each stage and function, such as sending and receiving: at one of `points`
  that is due, else when it has computed. Before that nothing can be lost. `only` may name the stages;
- or a random `seed` and `rate`, and the `most` kills that it may draw.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

MOST = {"map": 3, "reduce": 3, "shuffle": 3, "model": 6}
"""Kills for a function of a stage, by its kind: the engine gives up what is lost four times.

Of what is done around a model, Ray itself tries each task three times more.
"""


def kill(point: str) -> None:
    """SIGKILL this process if the plan says so; a fault is injected once, whichever process is first."""
    try:
        plan = json.loads(Path(os.environ["FAULT_PLAN"]).read_text())
    except (FileNotFoundError, ValueError):
        return
    spent = Path(plan["spent"])
    kind, task = ("", "") if point.startswith(("driver", "actor")) else _task()
    if kind and len(list(spent.glob(f"lost {task} *"))) >= MOST[kind]:
        return
    hit = _drawn(spent, plan, point) if "seed" in plan else _planned(spent, plan, point, kind, task)
    if hit and (not kind or any(_first(spent / f"lost {task} {n}") for n in range(MOST[kind]))):
        os.kill(os.getpid(), signal.SIGKILL)


def _planned(spent: Path, plan: dict, point: str, kind: str, task: str) -> bool:
    points = plan.get("points", ())
    here = [f"{point}, {kind}" if kind else point] if point in points else []
    due = [fault for fault in here if not (spent / fault).exists()]
    wanted = plan.get("each_stage") and task.rpartition("-")[0] in plan.get("only", [task.rpartition("-")[0]])
    if kind and wanted and not (spent / f"killed {task}").exists():
        later = [f"{each}, {kind}" for each in points if each.startswith("commit")]
        last = point == "commit: entry created"
        if last or (point == "unit: computed" and all((spent / fault).exists() for fault in later)):
            due.append(f"killed {task}")
    hits = [_first(spent / fault) for fault in due]
    hit = any(hits)
    if hit and kind and point != "unit: started":
        (spent / f"killed {task}").touch()
    return hit


def _task() -> tuple[str, str]:
    """The kind of the stage that a task works on; its name with the hash of its settings, and the function."""
    kind = task = ""
    frame = sys._getframe()
    while frame is not None:
        found, several = frame.f_locals.get("context"), frame.f_locals.get("contexts")
        first = several[0] if isinstance(several, list) else found
        if hasattr(first, "stage"):  # the outermost one is the task's
            kind, task = first.stage.made_as, f"{first.stage.dataset}.{frame.f_code.co_name}"
        frame = frame.f_back
    return kind, task


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
