"""The timeline of a run, from its events: what ran when, and where the time went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from annotate import tally
from annotate.storage import retries

SLICES = 60
OTHER = "other"
"""The time of a call that is in no phase: the stage's own arithmetic."""
FORWARD = "forward"
"""The step of the calls of models."""
PHASES = (*get_args(tally.Phase), OTHER)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """The calls of a stage, or of stages that are made together.

    Attributes:
        label: of the stage.
        start: when its first call started, in seconds since the epoch.
        end: when its last call ended.
        calls: their number.
        seconds: of all calls, by phase: those of `tally.Phase`, and "other".
        waited: seconds that calls waited for a free worker.
        peak: the most memory that a call held, in bytes.
        running: mean number of calls that ran in each slice of the timeline.
        model: how busy its models were; None if it has none.
    """

    label: str
    start: float
    end: float
    calls: int
    seconds: Mapping[str, float]
    waited: float
    peak: int
    running: Sequence[float]
    model: ModelTime | None = None


@dataclass(frozen=True, kw_only=True)
class ModelTime:
    """What the models of a stage did from the time on when each was loaded, in calls that have ended.

    Attributes:
        busy: the seconds of their forward passes, of all models together.
        idle: the seconds in which they waited for the next unit.
        tokens: that they read.
    """

    busy: float
    idle: float
    tokens: int

    @property
    def share(self) -> float:
        """The share of the time in which a model was busy."""
        return self.busy / (self.busy + self.idle) if self.busy else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of one model, waits included."""
        return self.tokens / (self.busy + self.idle) if self.busy else 0.0


@dataclass(frozen=True, kw_only=True)
class NodeRate:
    """What a node did for one step of a stage.

    Attributes:
        stage: label of the stage.
        step: what the calls did for it.
        node: address of the node, and the first digits of its id in Ray.
        calls: their number.
        seconds: of all calls.
        rows: that were committed.
        tokens: that a model or a tokenizer had.
    """

    stage: str
    step: str
    node: str
    calls: int
    seconds: float
    rows: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class SlowCall:
    """One of the slowest calls.

    Attributes:
        stage: label of the stage.
        step: what it did for the stage.
        units: name of the units.
        node: where it ran.
        pid: number of the process.
        start: in seconds since the epoch.
        seconds: by phase, as in `StageTime`.
        peak: the most memory that the process held, in bytes.
    """

    stage: str
    step: str
    units: str
    node: str
    pid: int
    start: float
    seconds: Mapping[str, float]
    peak: int


@dataclass(frozen=True, kw_only=True)
class Death:
    """Processes of workers that died on one node in the same way.

    Attributes:
        node: where they ran.
        why: what the log of the last one says of its end, or what Ray knows of it.
        number: how many died.
        time: when the last one was seen to be dead, in seconds since the epoch.
        pid: number of the last process.
        log: path of its log on the node; `*` stands for the number of a job.
    """

    node: str
    why: str
    number: int
    time: float
    pid: int
    log: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What a run did when. The time of each worker is in one of three: a call, waiting, idle.

    Attributes:
        start: when the first call was sent, in seconds since the epoch.
        end: when the last one ended.
        workers: number of calls that may run at a time: the CPUs that the run may use; the most, if that has changed.
        stages: in the order in which they started.
        waiting: mean number of workers, in each slice, that stood still while calls waited: for a free worker to start,
            or for CPUs, GPUs or memory that others hold.
        idle: mean number of workers, in each slice, for which there was no call.
        rates: by stage, step and node.
        slowest: the slowest calls, the slowest first.
        retries: what was tried again, by kind.
        requests: number of requests to object stores, by kind.
        deaths: processes of workers that died, by node and cause; those that happened most often first.
        lost_nodes: names of the nodes that were lost.
    """

    start: float
    end: float
    workers: int
    stages: Sequence[StageTime]
    waiting: Sequence[float]
    idle: Sequence[float]
    rates: Sequence[NodeRate]
    slowest: Sequence[SlowCall]
    retries: Mapping[str, int]
    requests: Mapping[str, int]

    deaths: Sequence[Death]
    lost_nodes: Sequence[str]

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of the workers' time that went into each phase, into waiting and into idling."""
        width = self.seconds / max(1, len(self.idle))
        spent = {name: sum(stage.seconds.get(name, 0.0) for stage in self.stages) for name in PHASES}
        spent |= {"waiting": width * sum(self.waiting), "idle": width * sum(self.idle)}
        whole = sum(spent.values())
        return {name: seconds / whole if whole else 0.0 for name, seconds in spent.items()}


@dataclass
class Reader:
    """Makes a timeline of events. What it holds does not grow with the number of units."""

    _workers: list[tuple[float, int]] = field(default_factory=list)  # since when, in order
    _calls: list[Mapping[str, Any]] = field(default_factory=list)
    _slow: list[Mapping[str, Any]] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _deaths: dict[tuple[str, str], Death] = field(default_factory=dict)  # by node and cause
    _lost_nodes: list[str] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event; False if it is of no use here."""
        kind = event["event"]
        if kind == "calls":
            self._counts.update(event["counts"])
            if "calls" in event:
                self._calls.append(event)
        elif kind == "slow":
            self._slow.append(event)
        elif kind == "died":
            at = (event["node"], event["why"])
            number = self._deaths[at].number + 1 if at in self._deaths else 1
            last = {name: event[name] for name in ("time", "pid", "log")}
            self._deaths[at] = Death(node=at[0], why=at[1], number=number, **last)
        elif kind == "nodes":
            self._lost_nodes += event["lost"]
        elif kind == "workers":
            self._workers.append((event["time"], event["workers"]))
        else:
            return False
        return True

    def timeline(self) -> Timeline | None:
        """The timeline; None if no call has ended."""
        if not self._calls:
            return None
        start, end = min(event["sent"] for event in self._calls), max(event["end"] for event in self._calls)
        edges = np.linspace(start, max(end, start + 1e-3), SLICES + 1)
        stages = sorted(self._stages(edges), key=lambda stage: stage.start)
        running = np.sum([stage.running for stage in stages], axis=0)
        ready = np.sum([_spread(e["waited"], e["sent"], e["start"], edges) for e in self._calls], axis=0)
        workers = self._workers_in(edges) if self._workers else np.full(SLICES, max(1.0, running.max().round()))
        free = np.maximum(workers - running, 0)
        waiting = np.minimum(free, ready)
        return Timeline(
            start=start,
            end=end,
            workers=int(workers.max()),
            stages=stages,
            waiting=waiting.tolist(),
            idle=(free - waiting).tolist(),
            rates=self._rates(),
            slowest=[_slow(event) for event in sorted(self._slow, key=lambda e: e["start"] - e["end"])],
            retries=self._counted(retries.COUNTED),
            requests=self._counted(tally.REQUESTS),
            deaths=tuple(sorted(self._deaths.values(), key=lambda death: -death.number)),
            lost_nodes=tuple(self._lost_nodes),
        )

    def _workers_in(self, edges: Floats) -> Floats:
        """Number of workers at the end of each slice."""
        since, numbers = map(np.array, zip(*self._workers, strict=True))
        at = np.searchsorted(since, edges[1:], side="right") - 1
        return numbers[np.maximum(at, 0)].astype(np.float64)

    def _stages(self, edges: Floats) -> list[StageTime]:
        stages: dict[str, list[Mapping[str, Any]]] = {}
        for event in self._calls:
            stages.setdefault(event["stage"], []).append(event)
        return [
            StageTime(
                label=label,
                start=min(event["start"] for event in events),
                end=max(event["end"] for event in events),
                calls=sum(event["calls"] for event in events),
                seconds=phases([e["counts"] for e in events], sum(e["seconds"] for e in events)),
                waited=sum(event["waited"] for event in events),
                peak=max(event["peak"] for event in events),
                running=np.sum([_spread(e["seconds"], e["start"], e["end"], edges) for e in events], axis=0).tolist(),
                model=_model_time([event for event in events if event["step"] == FORWARD]),
            )
            for label, events in stages.items()
        ]

    def _rates(self) -> list[NodeRate]:
        found: dict[tuple[str, str, str], Counter[str]] = {}
        for event in self._calls:
            sums = found.setdefault((event["stage"], event["step"], event["node"]), Counter())
            sums.update({"calls": event["calls"], "seconds": event["seconds"]})
            sums.update({name: event["counts"].get(name, 0) for name in ("rows", "tokens")})
        return [
            NodeRate(
                stage=stage,
                step=step,
                node=node,
                calls=sums["calls"],
                seconds=sums["seconds"],
                rows=round(sums["rows"]),
                tokens=round(sums["tokens"]),
            )
            for (stage, step, node), sums in found.items()
        ]

    def _counted(self, prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): round(number)
            for name, number in sorted(self._counts.items())
            if name.startswith(prefix)
        }


def _slow(event: Mapping[str, Any]) -> SlowCall:
    same = ("stage", "step", "units", "node", "pid", "start", "peak")
    seconds = phases([event["counts"]], event["end"] - event["start"])
    return SlowCall(seconds=seconds, **{name: event[name] for name in same})


def _model_time(events: Sequence[Mapping[str, Any]]) -> ModelTime | None:
    """Of the calls of models."""
    if not events:
        return None
    counts = [event["counts"] for event in events]
    loading = sum(each.get(tally.SECONDS + "load", 0.0) for each in counts)
    return ModelTime(
        busy=max(0.0, sum(event["seconds"] for event in events) - loading),
        idle=sum(each.get(tally.MODEL_IDLE, 0.0) for each in counts),
        tokens=round(sum(each.get("tokens", 0) for each in counts)),
    )


def phases(counts: Sequence[Mapping[str, float]], seconds: float) -> dict[str, float]:
    """The seconds of calls by phase, from their counts and from the seconds of all of them."""
    found = {name: sum(each.get(tally.SECONDS + name, 0.0) for each in counts) for name in PHASES[:-1]}
    return {name: spent for name, spent in found.items() if spent} | {OTHER: max(0.0, seconds - sum(found.values()))}


def _spread(seconds: float, start: float, end: float, edges: Floats) -> Floats:
    """Seconds of calls between two times, as the mean number of calls in each slice between `edges`."""
    end = max(end, start + 1e-6)
    inside = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None)
    return seconds * inside / (end - start) / np.diff(edges)
