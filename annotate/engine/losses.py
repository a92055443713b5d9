"""What an error of Ray means for a call: its worker was lost and it can be tried again, or the run ends.

A worker is lost with its node, for want of memory, since it took too long, or for another reason, such as a crash. The
last two may be the fault of the unit that it was working on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from ray import exceptions

from annotate.engine import overdue
from annotate.errors import AnnotateError, ConfigError, WorkError

LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.RaySystemError,
)
_NODES = (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.LocalRayletDiedError)
_NODE = re.compile(r"node (has died|was terminated|is dead|was lost)|its node|node it was running on|preempted", re.I)
_ACTOR = re.compile("ActorDiedError|ActorUnavailableError")  # a task that waited for an actor's result passes it on
_MEMORY = re.compile(r"low on memory|out of memory due|memory monitor|\(OOM\)", re.IGNORECASE)

KILLED = "the kernel of a node has ended a process for want of memory"
"""What is said of the loss of a worker while the kernel's count of such kills rose."""

NOT_RUN = {
    "time": "the scorer took longer than unit_seconds allows, twice, when it was run on this alone",
    "worker": "the process of the scorer ended, twice, when it was run on this alone",
}
"""Why a scorer was not run on an input, by the kind of loss that it causes; for quarantine."""

HINTS = {
    "node": "Look at `ray status`: nodes of the cluster die. What is committed is kept: run the same command again.",
    "memory": "The units need more memory than a node has: use fewer --workers, larger nodes, or "
    "Corpus(..., unit_bytes=...) with a smaller number.",
    "time": "Set unit_seconds to more than the slowest unit takes (`annotate status --timeline` names it), or look "
    "where it stands still: the stacks of its threads are in the log of the worker, which is named there too.",
    "worker": "Its process crashed, or something killed it. "
    "The worker's log has the stack of a crash: `annotate status --timeline` names it.",
}


@dataclass(frozen=True)
class Loss:
    """The loss of a worker.

    Attributes:
        kind: whether it was lost with its node, for want of memory, since it took too long, or for another reason.
        message: what Ray says of it, on one line.
        actor: whether the worker was an actor: then all that was sent to it is lost, too.
    """

    kind: Literal["node", "memory", "time", "worker"]
    message: str
    actor: bool = False

    @property
    def own(self) -> bool:
        """Whether what the worker was working on may be the cause."""
        return self.kind in ("time", "worker")

    def explained(self, label: str, name: str) -> Loss:
        """The loss of a worker that was working on a call of this stage and name: whether that took too long."""
        return replace(self, kind="time") if self.kind == "worker" and overdue.was_noted(label, name) else self


def loss_of(label: str, name: str, error: Exception) -> Loss:
    """The loss that an error tells of.

    Args:
        label: of the stage, for messages.
        name: what was called, for messages.
        error: what came back.

    Raises:
        AnnotateError: no worker was lost: the error is raised in its own form if it is ours, else as a `WorkError`.
    """
    cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
    if isinstance(cause, AnnotateError):
        raise cause from None
    if missing := re.search(r"No module named '([\w.]+)'", str(error)):
        raise ConfigError(
            f"{label}: the workers can't import the module {missing[1]!r}",
            hint="Put what a pipeline uses into its file, or its folder on the PYTHONPATH of the nodes, or "
            "into the job's --working-dir; a program that calls pipeline.run names its modules in "
            "Options(by_value=...).",
        ) from None
    if not isinstance(cause, LOST) and not isinstance(error, LOST):
        raise WorkError(
            f"{label}: {name} failed: {type(cause).__name__}: {cause}\n\n{error}",
            hint="If the lines above name a function of your pipeline, mend it and run again: what is committed stays. "
            "Else this is a mistake in annotate: report it, with these lines.",
        ) from None
    message = " ".join(str(error).split())
    actor = isinstance(cause, exceptions.RayActorError) or _ACTOR.search(message) is not None
    if isinstance(cause, exceptions.OutOfMemoryError) or _MEMORY.search(message):
        return Loss("memory", message, actor)
    if isinstance(cause, _NODES) or _NODE.search(message):
        return Loss("node", message, actor)
    return Loss("worker", message, actor)


def too_often(label: str, name: str, times: int, loss: Loss) -> WorkError:
    """The error for what lost its worker too often."""
    why = overdue.TOO_LONG if loss.kind == "time" else loss.message
    return WorkError(f"{label}: {name} lost its worker {times} times; the last time: {why}", hint=HINTS[loss.kind])
