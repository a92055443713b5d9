"""Shows the progress of a run: on a terminal as bars with units, rates and time left, elsewhere as plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from annotate.amounts import counted, duration
from annotate.cli.terminal import visible
from annotate.engine.events import Observer

LINE_SECONDS = 10.0


@contextmanager
def observer(console: Console) -> Iterator[Observer]:
    """Give an observer: bars if the console is a terminal, else lines."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield Bars(progress)


@dataclass
class _Stage:
    units: int
    done: int = 0
    rows: int = 0
    since: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    task: TaskID | None = None

    def advance(self, units: int, rows: int) -> None:
        self.done += units
        self.rows += rows

    @property
    def rate(self) -> str:
        if self.rows == 0:  # some steps report no rows, such as the import of files
            return ""
        seconds = max(time.monotonic() - self.since, 1e-9)
        return f"{counted(self.rows, 'row')}, {self.rows / seconds:,.0f}/s"

    @property
    def left(self) -> str:
        seconds = time.monotonic() - self.since
        return f"{duration(seconds / self.done * (self.units - self.done))} left" if 0 < self.done < self.units else ""


@dataclass
class Bars:
    """One bar for each stage."""

    progress: Progress
    stages: dict[str, _Stage] = field(default_factory=dict)

    def started(self, stage: str, units: int, detail: str) -> None:
        """Add a bar."""
        name = visible(f"{stage} ({detail})" if detail else stage)
        task = self.progress.add_task(name, total=units or None, rate="")
        self.stages[stage] = _Stage(units, task=task)

    def advanced(self, stage: str, units: int, rows: int) -> None:
        """Move the bar."""
        state = self.stages[stage]
        state.advance(units, rows)
        assert state.task is not None
        self.progress.update(state.task, completed=state.done, rate=state.rate)

    def finished(self, stage: str, detail: str) -> None:
        """Fill the bar, or say that there was nothing to do."""
        state = self.stages.get(stage)
        if state is None or state.task is None:
            self.progress.console.print(visible(f"{stage}: {detail}"), style="dim", markup=False)
        else:
            self.progress.update(state.task, total=max(state.done, 1), completed=max(state.done, 1))

    def said(self, level: str, message: str) -> None:
        """Print above the bars."""
        self.progress.console.print(
            f"{level}: {visible(message)}", style="yellow" if level == "warning" else None, markup=False
        )


@dataclass
class Lines:
    """One line when a stage starts, one when it ends, and one every few seconds in between."""

    console: Console
    stages: dict[str, _Stage] = field(default_factory=dict)

    def started(self, stage: str, units: int, detail: str) -> None:
        """Print a line."""
        self.stages[stage] = _Stage(units)
        of = counted(units, "unit") if units else ""
        self._print(f"{stage}: {_listed('started', of)}{f' ({detail})' if detail else ''}")

    def advanced(self, stage: str, units: int, rows: int) -> None:
        """Print a line, if the last one was some seconds ago."""
        state = self.stages[stage]
        state.advance(units, rows)
        if time.monotonic() - state.told > LINE_SECONDS:
            state.told = time.monotonic()
            of = f"{state.done:,} of " if state.units else ""
            done = of + counted(state.units or state.done, "unit")
            self._print(f"{stage}: {_listed(done, state.rate, state.left)}")

    def finished(self, stage: str, detail: str) -> None:
        """Print a line."""
        state = self.stages.get(stage)
        if state is None:
            self._print(f"{stage}: {detail}")
        else:
            seconds = duration(time.monotonic() - state.since)
            self._print(f"{stage}: {_listed('done', detail or counted(state.done, 'unit'), state.rate, seconds)}")

    def said(self, level: str, message: str) -> None:
        """Print a line."""
        self._print(f"{level}: {message}")

    def _print(self, text: str) -> None:
        self.console.print(visible(text), markup=False, soft_wrap=True)


def _listed(*items: str) -> str:
    """Join items with commas; empty ones are left out."""
    return ", ".join(item for item in items if item)
