"""The models that a stage has on the cluster: actors, each of which holds one.

Only an actor that runs gets units. So a run goes on with what it has: if a node is lost, its units go to the actors
that are left; an actor that waits for room on the cluster keeps no unit waiting; when a node joins, there are more. A
node that is about to be taken away gets no more units: its actors end when those that they have are done.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions

from annotate.engine import head, nodes
from annotate.engine.cluster import Resources
from annotate.engine.facts import Facts, Held, Place
from annotate.engine.feeding import AHEAD, MOST_AHEAD, Feeding
from annotate.engine.losses import Loss, loss_of, too_often
from annotate.engine.pause import Pause
from annotate.engine.recovery import ATTEMPTS
from annotate.errors import ConfigError

LOOK_SECONDS = 5.0
"""How often the number of models is looked at again: nodes come and go."""
FEED_SECONDS = 1.0
"""How often it is looked at how many calls keep a model busy."""
TURN_SECONDS = 600.0
"""So long a model keeps its GPU while more runs have models there than there are GPUs; then another has its turn."""


@dataclass(eq=False)
class _Model:
    """An actor that runs.

    Attributes:
        actor: its handle.
        place: where it runs.
        cpus: that it claims.
        since: when its first result came back; before, when it began.
        last: when its last result came back; before, when it began.
        calls: the calls that were sent to it and are not back, in order; the loss of those that were lost.
        warm: set when a first result is back; until then the model is loaded.
        dead: whether its process was lost.
        leaving: whether it is given back when its calls are done.
    """

    actor: Any
    place: Place
    cpus: float
    since: float
    last: float
    calls: dict[Any, Loss | None] = field(default_factory=dict)
    warm: bool = False
    dead: bool = False
    leaving: bool = False

    def room(self, ahead: int) -> int:
        """Calls that it can still take, where `ahead` are to be in front of a loaded one.

        While models load, one each is enough: more tasks would compete for CPUs.
        """
        return 0 if self.leaving else max(0, (ahead if self.warm else 1) - len(self.calls))


@dataclass(eq=False)
class _Coming:
    """An actor that has not answered yet: it may wait for room.

    Attributes:
        actor: its handle.
        cpus: that it claims.
        asked: when it was asked for.
        attempt: counts those that were lost before it.
    """

    actor: Any
    cpus: float
    asked: float
    attempt: int = 1


class Pool:
    """Actors that hold models. They are made when units are about to be sent; one that dies is replaced.

    Args:
        label: of the stage, for messages.
        make: makes an actor. It has to answer `there()` with its place as soon as it runs, and is then told to
            `import_modules()`.
        look: finds what an actor claims, and how many there may be.
        wanted: number of units that are to be made: no more actors than that are asked for.
        said: takes warnings.
    """

    def __init__(
        self,
        label: str,
        make: Callable[[Resources], Any],
        look: Callable[[], Resources],
        wanted: int,
        said: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._label, self._make, self._look, self._wanted, self._said = label, make, look, max(1, wanted), said
        self.resources = look()
        self._feeding, self._ahead, self._fed = Feeding(), AHEAD, time.monotonic()
        self._models: dict[_Model, int] = {}  # with the room of each
        self._by_room: list[dict[_Model, None]] = [{} for _ in range(MOST_AHEAD + 1)]
        self._answered: deque[Any] = deque()  # futures of actors that have answered; other threads add to it
        self._changed = True
        self._coming: dict[Any, _Coming] = {}  # by the future of its answer
        self._sent: dict[Any, _Model] = {}  # by the reference of a call
        self._looked = time.monotonic()
        self._left: frozenset[str] = frozenset()  # nodes that are about to be taken away
        self._again: list[int] = []  # attempts of actors that are asked for after a pause
        self._pause = Pause()
        self._paused: Future[None] = Future()  # stands for them among those that are coming

    def describe(self) -> str:
        """The number of models and their device, for people."""
        n = self._size()
        return f"{n} {'model' if n == 1 else 'models'}, {'GPU' if self.resources.gpu else 'CPU'}"

    def room(self) -> int:
        """How many calls may be with the actors that run."""
        self._welcome()
        self._resize()
        return len(self._sent) + sum(room * len(models) for room, models in enumerate(self._by_room))

    def idle(self) -> bool:
        """Whether the actor to which the next call would go has nothing to do."""
        self._welcome()
        self._resize()
        return any(self._by_room[1:]) and not self._next().calls

    def waiting(self) -> Iterator[Any]:
        """The calls that wait while their actor works on another: those at the end of the longest lines first."""
        for models in self._by_room:  # the less room, the longer the line
            for model in models:
                yield from list(model.calls)[:0:-1]

    def coming(self) -> Mapping[Any, str]:
        """The futures of actors that do not run yet, each with what it needs of the cluster."""
        claims = {"CPU": self.resources.model_cpus, "GPU": self.resources.gpus}
        needs = " and ".join(f"{claim:g} {name}" for name, claim in claims.items() if claim)
        paused = {self._paused: "a pause, since models were lost before they ran"} if self._again else {}
        return dict.fromkeys(self._coming, f"room for a model, which needs {needs}") | paused

    def send(self, work: Callable[[Any], Any], text_bytes: int = 0) -> Any:
        """Call the actor that has the most room, of which there has to be some.

        Args:
            work: is given the actor, and returns the reference of a result.
            text_bytes: bytes of text of the units of the call.

        Returns:
            The reference.
        """
        model = self._next()
        reference = work(model.actor)
        model.calls[reference] = None
        self._sent[reference] = model
        self._feeding.send(text_bytes)
        self._put(model)
        return reference

    def held(self, reference: Any) -> Held:
        """What is known of the actor that a call was sent to."""
        if (model := self._sent.get(reference)) is None:  # it was no call of a model
            return Held()
        return Held(model.last, model.place.node, model.place.pid, self.resources.gpus)

    def returned(self, reference: Any, facts: Sequence[Facts] = ()) -> Mapping[Any, bool]:
        """The result of a call is back, which came from the calls that these facts are of.

        Returns:
            What `lost` does: a call whose result was only to be written still may be the last of an actor that died.
        """
        model = self._sent.pop(reference, None)
        if model is None:  # it was no call of a model
            return {}
        self._feeding.take(facts)
        del model.calls[reference]
        model.last = time.monotonic()
        if not model.warm:
            model.warm, model.since = True, model.last
        if model.dead:
            return self._judged(model)
        self._put(model)
        self._changed |= model.leaving
        return {}

    def lost(self, reference: Any, loss: Loss) -> Mapping[Any, bool]:
        """A call has lost a worker. If it was the model's, another model is made in its place.

        Returns:
            The calls that are judged by now, and whether each was what its worker was working on. Those of an actor
            that died are judged together, when all are back: it has worked on the first of those that were lost.
        """
        model = self._sent.pop(reference, None)
        if model is None:
            return {reference: True}
        if not loss.actor:
            del model.calls[reference]
            judged = {reference: True}
            if model.dead:
                judged |= self._judged(model)
            else:
                self._put(model)
                self._changed |= model.leaving
            self._ask_again()
            return judged
        model.calls[reference] = loss
        if not model.dead:
            model.dead = True
            self._drop(model)
            ray.kill(model.actor)
            self._ask_again()
        return self._judged(model)

    def _next(self) -> _Model:
        """The actor that has the most room."""
        return next(iter(next(models for models in reversed(self._by_room) if models)))

    def _judged(self, model: _Model) -> Mapping[Any, bool]:
        if None in model.calls.values():
            return {}
        return {each: at == 0 for at, each in enumerate(model.calls)}

    def close(self) -> None:
        """End the actors."""
        if not head.is_lost():
            for actor in [*(model.actor for model in self._models), *(each.actor for each in self._coming.values())]:
                ray.kill(actor)
        for model in list(self._models):
            self._drop(model)
        self._coming.clear()
        self._again.clear()

    def _size(self) -> int:
        """The number of actors that there should be."""
        return min(self.resources.workers, self._wanted)

    def _ask_again(self) -> None:
        """Ask the idle actors whether they run: what took one of them may have taken more."""
        for model in [model for model in self._models if not model.calls]:
            self._drop(model)
            self._ask(_Coming(model.actor, model.cpus, time.monotonic()))

    def _ask(self, coming: _Coming) -> None:
        future = coming.actor.there.remote().future()
        self._coming[future] = coming
        future.add_done_callback(self._answered.append)

    def _put(self, model: _Model) -> None:
        """Note the room of an actor: one with the most is found at once, however many there are."""
        if (before := self._models.get(model)) is not None:
            del self._by_room[before][model]
        self._models[model] = room = model.room(self._ahead)
        self._by_room[room][model] = None

    def _drop(self, model: _Model) -> None:
        """An actor gets nothing any more: it is lost, given back or asked again."""
        del self._by_room[self._models.pop(model)][model]
        self._changed = True

    def _ask_new(self, attempt: int = 1) -> None:
        coming = _Coming(self._make(self.resources), self.resources.model_cpus, time.monotonic(), attempt)
        self._ask(coming)
        coming.actor.import_modules.remote()

    def _resize(self) -> None:
        """Ask for actors that are missing, and no longer for those that the cluster has no room for."""
        now = time.monotonic()
        self._feed(now)
        if now - self._looked > LOOK_SECONDS and not head.is_silent():
            self._looked = now
            before, self._left = self._left, nodes.leaving()
            self._changed |= before != self._left or self.resources.crowded
            # While no node is there, wait for one; what has GPUs waits for GPUs.
            with contextlib.suppress(ConfigError, exceptions.RayError):
                found = self._look()
                if found.gpus == self.resources.gpus:
                    self._changed |= found != self.resources
                    self.resources = found
        if self._again and self._pause.over(now):
            for attempt in self._again:
                self._ask_new(attempt)
            self._again.clear()
        if not self._changed:
            return
        self._changed = False
        self._give_back()
        missing = self._size() - len(self._staying()) - len(self._coming) - len(self._again)
        for _ in range(missing):
            self._ask_new()
        if missing < 0:
            dropped = min(-missing, len(self._again))
            del self._again[len(self._again) - dropped :]
            for future in list(self._coming)[missing + dropped :] if missing + dropped else []:
                ray.kill(self._coming.pop(future).actor)

    def _feed(self, now: float) -> None:
        """Have as many calls in front of each model as keep it busy, and tell what else does not let them."""
        if now - self._fed < FEED_SECONDS:
            return
        self._fed, before = now, self._ahead
        self._ahead = self._feeding.ahead(self.resources.feeders)
        if self._ahead != before:
            for model in list(self._models):
                self._put(model)
        # On CPUs all is one: what prepares units has the cores that models have not.
        there = self.resources
        if there.gpu and (limit := self._feeding.limits(there.feeders, asked=there.asked)):
            self._said(f"{self._label}: {limit}")

    def _had_its_turn(self, model: _Model) -> bool:
        """Whether an actor is to make room for those of other runs. Another is asked for, which waits behind theirs."""
        if not self.resources.crowded:
            return False
        if self.resources.gpu:
            return model.warm and time.monotonic() - model.since > TURN_SECONDS
        return model.cpus > self.resources.model_cpus  # with what each claims now, those of all runs fit

    def _staying(self) -> list[_Model]:
        """The actors whose node does not leave."""
        return [model for model in self._models if model.place.node_id not in self._left]

    def _give_back(self) -> None:
        """Let models go whose node leaves or whose turn is over, and those that are too many: idle ones first."""
        staying = self._staying()
        spare = len(staying) - self._size()
        going = {*(self._models.keys() - staying), *sorted(staying, key=lambda each: len(each.calls))[: max(0, spare)]}
        going.update(model for model in staying if self._had_its_turn(model))
        for model in list(self._models):
            model.leaving = model in going
            self._put(model)
        for model in [model for model in self._models if model.leaving and not model.calls]:
            self._drop(model)
            ray.kill(model.actor)

    def _welcome(self) -> None:
        """Look which actors run by now.

        Raises:
            AnnotateError: one could not start, nor those in its place.
        """
        while self._answered:
            future = self._answered.popleft()
            if (coming := self._coming.pop(future, None)) is None:
                continue  # it is not asked for any more
            self._changed = True
            if (error := future.exception()) is None:
                now, self._pause = time.monotonic(), Pause()
                self._put(_Model(coming.actor, future.result(), coming.cpus, now, now))
                continue
            head.confirm()
            loss = loss_of(self._label, "a model", error)
            ray.kill(coming.actor)
            if loss.kind != "node" and coming.attempt == ATTEMPTS:
                raise too_often(self._label, "a model", ATTEMPTS, loss)
            self._pause.lost(time.monotonic(), sent=coming.asked)
            self._again.append(coming.attempt + (loss.kind != "node"))
