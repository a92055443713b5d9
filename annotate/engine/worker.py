"""What the workers of all kinds of stage share: the facts of a call, the tables of a unit, and its commit.

The worker halves are plain functions and classes, which the driver makes remote. Each unit is looked up before it is
computed, so a second try computes only what is not committed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import pyarrow as pa

from annotate import tally
from annotate.engine import overdue
from annotate.engine.facts import Facts, Sent, Told, forget_peak, gpus_held, peak_memory, show_as, this_log, this_node
from annotate.engine.versions import check_versions, versions
from annotate.errors import AnnotateError
from annotate.graph import Stage, Tables
from annotate.graph.tables import Work
from annotate.storage.faults import reach
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, Part, UnitOutput, commit_all, find_all, put_output, read_part
from annotate.storage.store import Directory

P = ParamSpec("P")
R = TypeVar("R")


def frugal(work: Callable[P, R]) -> Callable[P, R]:
    """Give memory back to the system after each unit: what allocators keep would add up from unit to unit."""

    @functools.wraps(work)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        result = work(*args, **kwargs)
        give_back()
        return result

    return wrapped


def give_back() -> None:
    """Give the free memory that allocators keep back to the system."""
    pa.default_memory_pool().release_unused()
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The function of glibc that gives back the freed pages of NumPy's arrays; None with another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows takes no None
        return None


def told(sent: Sent, function: Callable[..., Any], *arguments: Any) -> Told:
    """Call a function, in a worker, and tell the facts of the call with its result.

    Arguments may be what earlier calls have told: the function is given their results, and their facts are passed on.

    Raises:
        ConfigError: this is another node than the driver's, and has other versions.
    """
    if this_node() != sent.driver.node:
        check_versions(this_node(), versions(), sent.driver.versions)
    facts: list[Facts] = []
    for argument in arguments:
        if isinstance(argument, Told):
            facts += [fact for fact in argument.facts if fact not in facts]
    show_as(sent)
    overdue.working_on(sent.stage, sent.units)
    forget_peak()
    start, cpu = time.time(), time.process_time()
    try:
        result = function(*(argument.result if isinstance(argument, Told) else argument for argument in arguments))
    except AnnotateError:  # its message says all
        raise
    except Exception as error:
        error.add_note(f"In process {os.getpid()} on the node {this_node()}; its log there: {this_log()}")
        raise
    end, cpu, peak = time.time(), time.process_time() - cpu, peak_memory()
    waited = max(0.0, start - max([sent.time, *(fact.end for fact in facts)]))
    counts, said = tally.taken(), tally.said()
    own = Facts(sent, this_node(), os.getpid(), waited, start, end, counts, peak, cpu, gpus_held(), said)
    return Told(result, (*facts, own))


@dataclass(frozen=True)
class Context:
    """The data that all units of a stage share; it travels once to each worker.

    Attributes:
        stage: the stage.
        workdir: the work directory.
        whole: the units of the inputs that are read whole.
        fresh: whether nothing was committed when the stage began. Then units are not looked up before they are made: a
            commit finds what another process committed meanwhile.
        unit_bytes: bytes of text that a work unit aims at.
    """

    stage: Stage
    workdir: Directory
    whole: Mapping[str, tuple[Unit, ...]]
    fresh: bool = False
    unit_bytes: int = 0

    def committed(self, key: str) -> tuple[Entry, ...] | None:
        """The entries of a unit that was committed; None if it must be made."""
        return None if self.fresh else find_all(self.directory, key)

    @property
    def directory(self) -> Directory:
        """Where the stage's dataset lies."""
        return self.workdir.child(self.stage.dataset)

    def shared(self) -> dict[str, pa.Table]:
        """The tables of inputs that are read whole."""
        tables = {}
        for name, units in self.whole.items():
            source = self.stage.inputs[name]
            parts = tuple(entry.part for unit in units for entry in unit.entries)
            tables[name] = _whole(self.workdir.child(source.dataset), parts, source.schema)
        return tables

    def tables(self, work: Work) -> Iterator[Tables]:
        """The tables of each item of `work.units`, in order."""
        shared = self.shared()
        return (Tables(self.stage, self.workdir, units, shared, work.number + i) for i, units in enumerate(work.units))


@functools.lru_cache(maxsize=8)
def _whole(directory: Directory, parts: tuple[Part, ...], schema: str) -> pa.Table:
    return pa.concat_tables([read_part(directory, part, schema=schema) for part in parts])


def commit_parts(context: Context, key: str, outputs: Iterator[UnitOutput]) -> tuple[Entry, ...]:
    """Commit the parts of a unit as they come; one at a time is in memory."""

    def put(output: UnitOutput) -> Entry:
        reach("unit: computed")
        entry = put_output(context.directory, key, output, schema=context.stage.schema)
        give_back()
        return entry

    return commit_all(context.directory, key, map(put, outputs))


def made_of(*entries: Entry) -> Unit:
    """A unit that has no rows of a corpus shard: that of a partition, or a piece."""
    return Unit("", 0, 0, 0, entries)
