"""A stand-in for Ray that calls everything at once, in this process: for what does not depend on Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ray import exceptions

from annotate.engine.worker import told


@dataclass(frozen=True, eq=False)
class Reference:
    """What a call gave."""

    value: Any


def _call(function: Callable[..., Any], *arguments: Any) -> Reference:
    given = [argument.value if isinstance(argument, Reference) else argument for argument in arguments]
    try:
        return Reference(function(*given))
    except Exception as error:
        return Reference(exceptions.RayTaskError(str(function), str(error), error))


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
        return mock.Mock(forward=Remote(made.forward))


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


@contextmanager
def ray_here() -> Iterator[None]:
    """Run pipelines in this process."""
    here = Here()
    with contextlib.ExitStack() as stack:
        for module in ("cluster", "cluster_watch", "model", "nodes", "running", "scheduler"):
            stack.enter_context(mock.patch(f"annotate.engine.{module}.ray", here))
        stack.enter_context(mock.patch("annotate.engine.running._REMOTE", Remote(told)))  # made when it was imported
        yield
