"""CPU time of a shuffle in one level and in two, by the number of slices that partitions read.

    python benchmarks/levels.py [--pieces 50,100,200] [--megabytes 2] [--json FILE] [--runs 3]

As many pieces as partitions, each of `--megabytes`, with rows as the near-duplicate filter sends them: they are sent,
sent on where there are two levels, and received, by the functions that workers call, in one process on a local disk. In
an object store a small read takes far longer, but waits most of the time. A ratio is one level over two: above 1, two
are faster.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from report import measure, medians, parser, print_table, write_json

from annotate.engine.parcels import put_sent
from annotate.engine.shuffle import receive, regroup
from annotate.engine.worker import Context, made_of
from annotate.graph import Partitions, Received, Shuffle, Stage, Tables
from annotate.graph.tables import Work
from annotate.storage.contracts import contract
from annotate.storage.manifests import Unit
from annotate.storage.parts import UnitOutput, commit_all
from annotate.storage.store import Directory

TASK = 16  # partitions, or groups of them, that one task makes
ROW_BYTES = 20


@dataclass(frozen=True)
class Links(Shuffle):
    """Receives pairs of documents, and leaves them as they come."""

    name: ClassVar[str] = "links"
    schema: ClassVar[str] = "pairs"
    sent_schema: ClassVar[str] = "sent-links"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """None: rows are made here."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Rows are made here."""
        raise NotImplementedError

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """The rows."""
        yield UnitOutput(received.sent.drop_columns(["to"]))


def main() -> None:
    """Print the times, and write them where `--json` says."""
    arguments = parser(__doc__, runs=3)
    arguments.add_argument("--pieces", default="50,100,200")
    arguments.add_argument("--megabytes", type=float, default=2)
    options = arguments.parse_args()
    rows, ratios = [], {}
    raw: dict[str, float] = {}
    for pieces in map(int, options.pieces.split(",")):
        made = tables(pieces, int(options.megabytes * (1 << 20) / ROW_BYTES))
        jobs = {name: partial(shuffle, made, two=name == "two") for name in ("one", "two")}
        seconds = medians(measure(jobs, options.runs, clock=time.process_time))
        ratios[f"{pieces**2}_reads"] = seconds["one"] / seconds["two"]
        raw |= {f"{pieces**2}_{name}": taken for name, taken in seconds.items()}
        rows.append([f"{pieces**2:,}", *(f"{taken:.1f}" for taken in seconds.values())])
    print_table(["small reads", "one level, s", "two levels, s"], rows)
    write_json(options.json, ratios, {"seconds": raw, "megabytes": options.megabytes})


def tables(pieces: int, rows: int) -> list[pa.Table]:
    """Rows for as many partitions as there are pieces, a table for each piece."""
    rng = np.random.default_rng(0)
    numbers = [pa.array(rng.integers(0, 1 << 60, rows).astype(np.uint64)) for _ in range(2)]
    schema = contract(Links.sent_schema).schema
    return [
        pa.table([pa.array(rng.integers(0, pieces, rows).astype(np.int32)), *numbers], schema=schema)
        for _ in range(pieces)
    ]


def shuffle(pieces: list[pa.Table], *, two: bool) -> None:
    """Send the pieces, and receive them."""
    number = len(pieces)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Links(), Directory.at(folder), {})
        to = Partitions((number,), 1 << 30, math.isqrt(number - 1) + 1 if two else 1)
        sent = [sent_unit(context, f"{i:024x}", piece, to) for i, piece in enumerate(pieces)]
        groups = sent_on(context, sent, to) if two else [sent]
        width = to.width if two else number
        for group, parts in enumerate(groups):
            own = range(group * width, min((group + 1) * width, number))
            for first in own[::TASK]:
                works = [Work("", "", p, p + 1, 0, ()) for p in range(first, min(first + TASK, own.stop))]
                receive(context, works, parts, [()] * len(works), "", (0, 0), first == own.start)


def sent_unit(context: Context, key: str, piece: pa.Table, to: Partitions) -> Unit:
    """Send a piece."""
    return made_of(
        *commit_all(context.directory, key, put_sent(context, key, iter([UnitOutput(piece)]), to.most, to.width))
    )


def sent_on(context: Context, sent: list[Unit], to: Partitions) -> list[list[Unit]]:
    """The middle level; returns what each group of partitions reads."""
    groups: list[list[Unit]] = [[] for _ in range(to.slices)]
    size = max(1, to.slices // 2)
    for first in range(0, len(sent), size):
        for group in range(0, to.slices, TASK):
            some = range(group, min(group + TASK, to.slices))
            for number, unit in zip(some, regroup(context, some, sent[first : first + size], to, ""), strict=True):
                groups[number].append(unit)
    return groups


if __name__ == "__main__":
    main()
