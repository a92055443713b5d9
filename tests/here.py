"""A stand-in for Ray that calls everything at once, in this process: for what does not depend on Ray.

What is sent to a call, and what comes back, is pickled as Ray does it: what can't go to a worker is found here, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from ray import cloudpickle, exceptions

import annotate.engine.run  # noqa: F401 - all of the engine, so that none has Ray itself
from annotate.engine import head, running, sharing
from annotate.engine.model_actor import ModelActor
from annotate.engine.worker import told


@dataclass(frozen=True, eq=False)
class Reference:
    """What a call gave."""

    value: Any

    def future(self) -> Future[Any]:
        """It is done."""
        made: Future[Any] = Future()
        if isinstance(self.value, exceptions.RayTaskError):
            made.set_exception(self.value)
        else:
            made.set_result(self.value)
        return made


def _call(function: Callable[..., Any], *arguments: Any) -> Reference:
    given = [argument.value if isinstance(argument, Reference) else argument for argument in arguments]
    for value in given:
        if isinstance(value, exceptions.RayTaskError):  # as Ray does: what is given is what it waits for
            return Reference(value)
    try:
        return Reference(_sent(function(*_sent(given))))
    except Exception as error:
        return Reference(exceptions.RayTaskError(str(function), str(error), error))


def _sent(value: Any) -> Any:
    """A value as the other side gets it; what is made here and stays here, as an actor does, is no such value."""
    return value if isinstance(value, ModelActor) else cloudpickle.loads(cloudpickle.dumps(value))


@dataclass(frozen=True)
class Remote:
    """A function or a class that is remote."""

    what: Callable[..., Any]

    def options(self, **_: Any) -> Remote:
        """None matters here."""
        return self

    def remote(self, *arguments: Any) -> Any:
        """Call the function, or make the actor."""
        if not isinstance(self.what, type):
            return _call(self.what, *arguments)
        made = _call(self.what, *arguments).value
        methods = (name for name in dir(made) if not name.startswith("_") and callable(getattr(made, name)))
        return SimpleNamespace(**{name: Remote(getattr(made, name)) for name in methods})


class Here:
    """The functions of Ray that the engine uses."""

    ObjectRef = Reference
    put = staticmethod(Reference)
    remote = staticmethod(Remote)

    def get(self, reference: Reference) -> Any:
        """What a call gave; raises what it raised."""
        if isinstance(reference.value, exceptions.RayTaskError):
            raise reference.value
        return reference.value

    def wait(self, references: Sequence[Reference], **_: Any) -> tuple[list[Reference], list[Reference]]:
        """The first is done, as all are."""
        return list(references[:1]), list(references[1:])

    def kill(self, actor: Any) -> None:
        """Nothing runs."""

    def is_initialized(self) -> bool:
        """It always is."""
        return True

    def nodes(self) -> list[dict[str, Any]]:
        """One node with one CPU."""
        return [{"Alive": True, "NodeID": "a", "NodeManagerAddress": "127.0.0.1", "Resources": {"CPU": 1.0}}]

    def cluster_resources(self) -> dict[str, float]:
        """One CPU."""
        return {"CPU": 1.0}

    def get_runtime_context(self) -> Any:
        """This process is on that node."""
        return mock.Mock(spec_set=["get_node_id"], get_node_id=lambda: "a")


NOT_HERE = "annotate.engine.facts"
"""It asks Ray for this node, and takes it that Ray may not run."""


@contextmanager
def ray_here() -> Iterator[None]:
    """Run pipelines in this process."""
    here = Here()
    with contextlib.ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("annotate.engine.") and getattr(module, "ray", None) is ray and name != NOT_HERE:
                stack.enter_context(mock.patch.object(module, "ray", here))
        for name in ("placement_group", "remove_placement_group"):
            stack.enter_context(mock.patch.object(sharing, name))
        stack.enter_context(mock.patch.object(sharing, "placement_group_table", dict))  # no other run is there
        stack.enter_context(mock.patch.object(head, "watched", lambda give_back: contextlib.nullcontext()))
        stack.enter_context(mock.patch.object(running, "_REMOTE", Remote(told)))  # made when it was imported
        yield
