"""The status of the newest run in a work directory, from its events, manifests and lease. Nothing is written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

from annotate.engine.lease import Holder, holder
from annotate.engine.ledger import Ledger, read_ledgers
from annotate.engine.provenance import read_provenance
from annotate.engine.timeline import Reader, Timeline
from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.latest import read_latest
from annotate.storage.manifests import read_manifest
from annotate.storage.store import Directory

StageState = Literal[
    "done", "running", "waits for resources", "partly done", "nothing done", "not started", "not needed"
]


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage.

    Attributes:
        label: of the stage.
        dataset: its folder in the work directory; empty for a step before the stages, such as an import.
        state: "waits for resources" if no call of it can begin since others hold what they need; "partly done" if a run
            that has ended began it, "nothing done" if nothing of it is committed; "not needed" if all that reads it is.
        done: number of committed units.
        pieces: whether a run that has ended committed no unit yet, but pieces that units are made of.
        units: number of all units; None if unknown.
        rows: number of rows in the committed units.
        size: bytes of the committed dataset; None if it is not committed.
        about: what the stage does, in a few words; empty for a step before the stages.
        seconds: from its start in this run to its last result, waits included; None if it was committed before.
        quiet: seconds since the last event of a running stage; None for others.
        stuck: units of a running stage that were in flight when no result had come for minutes.
        searches: how far the searches are for what ends workers of a running stage; for people.
        waits: the resources that it waits for, what the cluster has free of them, and who holds them; for people.
    """

    label: str
    dataset: str
    state: StageState
    done: int = 0
    pieces: bool = False
    units: int | None = None
    rows: int = 0
    size: int | None = None
    seconds: float | None = None
    quiet: float | None = None
    stuck: Sequence[str] = ()
    waits: str = ""
    searches: Sequence[str] = ()
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The newest run of a work directory.

    Attributes:
        workdir: path, or URL, of the work directory.
        run: its name, which starts with the UTC time at which it began; empty where no events are left.
        finished: whether it went to its end.
        holder: who works there now; None if nobody does.
        stages: inputs before users.
        warnings: what the run said.
        outputs: the outputs of the last run that went to its end: by name, the name with its subset and control.
        ledgers: of that run, by output.
        timeline: what the newest run did when; None if it has made no call, as where all was committed before.
        provenance: what one needs to repeat that run, as `provenance/<run>.json` has it; None if it wrote none.
        error: the message of the error that ended it; None if none did, or it was killed.
        stopped: why it was stopped on purpose, as at the end of its budget; else None.
    """

    workdir: str
    run: str
    finished: bool
    holder: Holder | None
    stages: Sequence[StageStatus]
    warnings: Sequence[str]
    outputs: Mapping[str, str]
    ledgers: Mapping[str, Ledger]
    timeline: Timeline | None
    provenance: Mapping[str, Any] | None
    error: str | None
    stopped: str | None


def status(workdir: str | PathLike[str]) -> Status:
    """What the newest run in a work directory has done, and whether one goes on. Nothing is written.

        annotate.status("out").finished

    Args:
        workdir: the work directory.

    Raises:
        StorageError: the directory is missing, or no run was ever started in it.
    """
    directory = Directory.at(workdir)
    run, files = _newest_run(directory)
    left = read_latest(directory)
    latest = {item.label: _Planned(item.dataset, item.fingerprint) for item in left}
    held = holder(directory)
    if not files and not latest and held is None:
        raise StorageError(
            f"there is no run in {directory.url}",
            hint="Name the work directory that `annotate run --workdir` was given.",
        )
    told = _told(_events(directory, files))
    planned = told.planned or latest
    alive = held is not None and held.run == run
    cut_short = any(seen.started and not seen.finished for seen in told.stages.values())
    finished = (
        not alive
        and not cut_short
        and bool(latest)
        and all(label in planned and planned[label].fingerprint == item.fingerprint for label, item in latest.items())
    )
    steps = [
        _begun(label, "", seen, alive=alive)
        for label, seen in told.stages.items()
        if planned.keys().isdisjoint(seen.of)
    ]
    stages = [
        replace(
            _stage(directory, label, planned[label], told.of(label), alive=alive, finished=finished),
            about=planned[label].about,
        )
        for label in planned
    ]
    return Status(
        workdir=directory.url,
        run=run,
        finished=finished,
        holder=held,
        stages=(*steps, *stages),
        warnings=tuple(told.warnings),
        outputs={item.output: item.described for item in left if item.output is not None},
        ledgers=read_ledgers(directory),
        timeline=told.timeline.timeline(),
        provenance=read_provenance(directory, run),
        error=told.error,
        stopped=told.stopped,
    )


@dataclass(frozen=True)
class _Planned:
    """A dataset that a run was to leave."""

    dataset: str
    fingerprint: str
    made_as: str = ""
    about: str = ""

    def committed(self, directory: Directory) -> tuple[int, bool]:
        """Number of units with an entry, 0 if pieces have entries too; whether there is any entry."""
        names = (layout.parse(path) for path, _ in directory.sizes(f"{layout.ENTRIES}/"))
        units = (name.of.partition("-")[0] for name in names if name is not None)
        if self.made_as not in ("map", "model"):
            return 0, next(units, None) is not None
        there = len(set(units))
        return there, there > 0


def _stage(
    workdir: Directory, label: str, planned: _Planned, seen: _Seen, *, alive: bool, finished: bool
) -> StageStatus:
    dataset = planned.dataset
    if seen.started and not seen.finished:
        begun = _begun(label, dataset, seen, alive=alive)
        if alive:
            return begun
        # The last results may have come when nobody took them any more: the store knows.
        there, some = planned.committed(workdir.child(dataset))
        done = max(begun.done, min(there, begun.units or there))
        state: StageState = "partly done" if some or done else begun.state
        return replace(begun, done=done, pieces=some and not done, state=state)
    manifest = read_manifest(workdir.child(dataset), planned.fingerprint)
    if manifest is None:
        return StageStatus(label=label, dataset=dataset, state="not needed" if finished else "not started")
    return StageStatus(
        label=label,
        dataset=dataset,
        state="done",
        done=manifest.units,
        units=manifest.units,
        rows=manifest.rows,
        size=manifest.size,
        seconds=seen.last - seen.since if seen.started else None,
    )


def _begun(label: str, dataset: str, seen: _Seen, *, alive: bool) -> StageStatus:
    """The status of a stage without a manifest: it is not finished, or it is a step that leaves no dataset."""
    now = time.time()
    goes_on = alive and not seen.finished
    running: StageState = "waits for resources" if seen.waits else "running"
    left: StageState = "partly done" if seen.done else "nothing done"
    return StageStatus(
        label=label,
        dataset=dataset,
        state="done" if seen.finished else running if alive else left,
        done=seen.done,
        units=seen.units,
        rows=seen.rows,
        seconds=(now if goes_on else seen.last) - seen.since,
        quiet=now - seen.last if goes_on else None,
        stuck=seen.in_flight if goes_on else (),
        waits=seen.waits if goes_on else "",
        searches=tuple(seen.searches.values()) if goes_on else (),
    )


@dataclass
class _Seen:
    """The events of a stage, or of stages that are made together; `of` has their labels."""

    of: tuple[str, ...] = ()
    since: float = 0.0
    last: float = 0.0
    units: int | None = None
    done: int = 0
    rows: int = 0
    started: bool = False
    finished: bool = False
    in_flight: tuple[str, ...] = ()
    waits: str = ""
    searches: dict[str, str] = field(default_factory=dict)


@dataclass
class _Told:
    """The events of a run; `planned` has datasets by label."""

    planned: dict[str, _Planned] = field(default_factory=dict)
    stages: dict[str, _Seen] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    timeline: Reader = field(default_factory=Reader)
    error: str | None = None
    stopped: str | None = None

    def of(self, label: str) -> _Seen:
        """The events of a stage, or of the stages that it is made with."""
        return next((seen for seen in self.stages.values() if label in seen.of), _Seen())


def _told(events: Iterable[Mapping[str, Any]]) -> _Told:
    told = _Told()
    for event in events:
        kind, at = event["event"], event["time"]
        if kind == "planned":
            told.planned = {item["label"]: _planned(item) for item in event["datasets"]}
            # A run that begins anew tells of its stages once more.
            told.stages = {at: seen for at, seen in told.stages.items() if told.planned.keys().isdisjoint(seen.of)}
        elif kind == "ended":
            told.error = event["error"]
        elif kind == "stopped":
            told.stopped = event["error"]
        elif kind == "warning":
            told.warnings.append(event["message"])
        elif told.timeline.take(event):
            continue
        elif "stage" in event:
            _add(told.stages.setdefault(event["stage"], _Seen((event["stage"],))), kind, at, event)
    return told


def _planned(item: Mapping[str, str]) -> _Planned:
    return _Planned(item["dataset"], item["fingerprint"], item.get("made_as", ""), item.get("about", ""))


def _add(seen: _Seen, kind: str, at: float, event: Mapping[str, Any]) -> None:
    if kind == "in_flight":  # said when no result came for minutes: no sign of life
        seen.in_flight, seen.waits = tuple(event["in_flight"]), event.get("waits", "")
        return
    if kind == "searching":  # nor is this
        seen.searches.pop(event["unit"], None)
        if event["how_far"]:
            seen.searches[event["unit"]] = f"{event['stage']}: {event['unit']}: {event['how_far']}"
        return
    seen.last, seen.in_flight, seen.waits = at, (), ""
    if kind == "started":  # perhaps once more, in a run that begins anew
        seen.finished, seen.done, seen.rows, seen.searches = False, 0, 0, {}
        seen.started, seen.since, seen.units, seen.of = (
            True,
            at,
            event["units"] or None,
            tuple(event.get("of", seen.of)),
        )
    elif kind == "advanced":
        seen.done, seen.rows = seen.done + event["units"], seen.rows + event["rows"]
    elif kind == "finished":
        seen.finished = True


def _newest_run(workdir: Directory) -> tuple[str, list[str]]:
    """The name of the newest run, and its events files in order."""
    runs: dict[str, list[tuple[int, str]]] = {}
    for path, _ in workdir.sizes(layout.EVENTS):
        if (found := layout.parse_events(path)) is not None:
            run, number = found
            runs.setdefault(run, []).append((number, path))
    if not runs:
        return "", []
    newest = max(runs)
    return newest, [path for _, path in sorted(runs[newest])]


def _events(workdir: Directory, files: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Stream events in order. A long run has thousands of small files."""
    with ThreadPoolExecutor(16) as pool:
        for path, data in pool.map(lambda path: (path, workdir.get(path)), files):
            try:
                yield from (json.loads(line) for line in data.splitlines())
            except ValueError as error:
                raise StorageError(
                    f"{workdir.url}/{path} is damaged: {error}", hint="Delete it: events are for people only."
                ) from error
