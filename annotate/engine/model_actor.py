"""The actor that holds the model of stages that run together: what it is given, and what it returns."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annotate import tally
from annotate.engine.check_nodes import check_gpu_here
from annotate.engine.facts import Place, Sent, Told, in_turn
from annotate.engine.overdue import limited
from annotate.engine.worker import told
from annotate.graph import Model
from annotate.models.base import BrokenDevice
from annotate.storage.faults import reach

BROKEN = "the device of this process can't be used any more"
"""The line in the log of a process that ended itself for it begins so."""


@dataclass(frozen=True)
class PreparedDocuments:
    """Documents of a unit, prepared for the stages that have no results for them yet; `wanted` has their positions."""

    wanted: tuple[int, ...]
    data: Any


@dataclass(frozen=True)
class Results:
    """The results of a model for each `PreparedDocuments`, one for each stage in `wanted`; and its kind of device."""

    device: str
    results: Sequence[Sequence[Any]]


@contextlib.contextmanager
def _ended_if_broken() -> Iterator[None]:
    """End this process if its device can't be used any more: another model takes its place, and tries again."""
    try:
        yield
    except BrokenDevice as error:
        traceback.print_exc()
        os.write(2, f"{BROKEN}: {' '.join(str(error).split())}\n".encode())
        os._exit(1)


class ModelActor:
    """An actor that holds the model of stages that run together."""

    def __init__(self, stages: Sequence[Model], device: str) -> None:
        self._stages, self._device = list(stages), device
        self._model: Any = None
        self._idle_since: float | None = None  # by `time.perf_counter`

    def there(self) -> Place:
        """Answers as soon as the actor runs."""
        return Place.this()

    def import_modules(self) -> None:
        """Import what the model needs, while the first unit is prepared elsewhere. An error comes again later."""
        for name in {name for stage in self._stages for name in stage.modules}:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def __repr__(self) -> str:
        """Its name in Ray's dashboard and logs."""
        return f"model of {self._stages[0].together(self._stages)}"

    def forward(self, sent: Sent, prepared: Told) -> Told:
        """Run the model on the units that `prepare` told, and load it first if this is the first time."""
        with _ended_if_broken(), self._at_work():
            return told(sent, lambda units: [self._forward(each) for each in in_turn(units)], prepared)

    def attempt(self, sent: Sent, prepared: Told) -> Told:
        """Run the model on what `prepare_part` told, for nothing but to see whether that works."""
        with _ended_if_broken(), self._at_work():
            return told(sent, lambda units: [self._forward(each, loads=True) for each in units][:0], prepared)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Count the seconds since the call before as those in which the model was idle."""
        if self._idle_since is not None:
            tally.count(tally.MODEL_IDLE, time.perf_counter() - self._idle_since)
        try:
            yield
        finally:
            self._idle_since = time.perf_counter()

    @tally.phase("forward")
    def _forward(self, prepared: Sequence[PreparedDocuments], *, loads: bool = False) -> Results:
        first, used = self._stages[0], False

        def model() -> Any:
            nonlocal used
            used = True
            if self._model is None:
                if self._device == "cuda" and first.gpu:  # else it may use no torch
                    check_gpu_here()
                with tally.phase("load"):
                    self._model = first.load(self._stages, self._device)
                reach("actor: loaded")
            return self._model

        limits = first.unit_seconds is not None and any(first.items(each.data) for each in prepared)
        if loads or limits:
            model()  # loading it is no part of the time; and an attempt without inputs tries just that
        with limited(first.unit_seconds):
            results = [first.forward(model, each.data, self._stages, each.wanted) for each in prepared]
        tally.count("tokens", sum(first.tokens(each.data) for each in prepared))
        reach("actor: scored")
        return Results(first.device_kind(self._model) if used else "", results)
