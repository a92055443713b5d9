"""Phases and mixes in a file for people: the documents in the order in which they are trained on, with their tags.

PYTHONPATH=. python tests/training_order/test_golden_schedules.py --write      # after a change that is meant
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from annotate import Mix, Phase, Schedule, Tag, TagScheme
from annotate.tags.in_words import explain
from annotate.tags.placing import place
from annotate.tags.rendering import render
from annotate.tags.states import Measured
from annotate.training_order.schedule import BINS, make_schedule, phase_names, tag_rates, times

GOLDEN = Path(__file__).parents[1] / "golden" / "schedules.txt"
SHARD, N = "golden", 24
SOURCES = ["wiki" if i % 4 == 0 else "web" for i in range(N)]
TEXTS = [f"Document {i} is from {source}." for i, source in enumerate(SOURCES)]

FOUR = (
    Phase(name="untagged", share=0.25, tag_rate=0.0),
    Phase(name="ramp", share=0.25, tag_rate=(0.0, 1.0)),
    Phase(name="tagged"),
    Phase(name="cooldown", share=0.2, tag_rate=0.0),
)
TWO = (Phase(name="tokens", tokens=60), Phase(name="rest", tag_rate=0.5))
WEIGHTS = {"wiki": 0.5, "web": 0.5}
CASES: dict[str, tuple[tuple[Phase, ...], Mix | None]] = {
    "one phase": ((), None),
    "untagged, ramp, tagged, cooldown": (FOUR, None),
    "a budget in tokens (words here), and half of the rest tagged": (TWO, None),
    "half wiki, half web, until one is used up": (
        (),
        Mix(column="source", weights=WEIGHTS, exhaustion="first_exhausted"),
    ),
    "half wiki, half web, until all is used, in two phases": (
        (Phase(name="tagged", share=0.5), Phase(name="plain", share=0.5, tag_rate=0)),
        Mix(column="source", weights=WEIGHTS, exhaustion="all_exhausted"),
    ),
    "no wiki": ((), Mix(column="source", weights={"wiki": 0, "web": 1})),
}


def golden() -> Iterator[str]:
    """The file, line by line."""
    row = np.arange(N)
    sizes = np.array([len(text.split()) for text in TEXTS])
    for title, (phases, mix) in CASES.items():
        schedule = Schedule(mix=mix, seed=2)
        places = schedule.places(SHARD, row)
        sources = pa.array(SOURCES if mix else [None] * N, pa.string())
        counted = pa.table(
            {
                "source": sources,
                "bin": pa.array((places * BINS).astype(np.int32)),
                **dict.fromkeys(("documents",), pa.array(np.ones(N, np.int64))),
                **dict.fromkeys(("size", "bytes"), pa.array(sizes)),
            }
        )
        table = make_schedule(counted, phases, mix)
        due = times(table, places, sources if mix else None)
        scheme = TagScheme(tags=(Tag(name="good", rule="x > 0"),), phases=phases)
        untagged = schedule.untagged(SHARD, row, tag_rates(table, places))
        lengths = np.array([len(text) for text in TEXTS])
        spans = pa.table(
            {
                "row": row,
                "span": np.zeros(N, np.int64),
                **dict.fromkeys(("start", "byte_start"), np.zeros(N, np.int64)),
                **dict.fromkeys(("end", "byte_end"), lengths),
            }
        )
        measured = Measured(
            spans=spans,
            scores={"x": np.ones(N, np.float32)},
            thresholds={},
            curves={},
            columns={},
            shard=SHARD,
        )
        placed = place(measured, scheme)
        if phases:
            placed = placed.filter(pa.array(~untagged[placed["row"].to_numpy()]))
        shown = render(pa.array(TEXTS, pa.large_string()), placed).to_pylist()
        yield from ("", "=" * 100, title, "-" * 100)
        yield from (f"# {line}" for line in explain(scheme) if line.startswith("In phase"))
        for line in table.to_pylist():
            told = ("phase", "source", "repeats", "rate_from", "rate_to", "budget", "documents", "copies", "size")
            yield "# " + ", ".join(f"{name} {line[name]}" for name in told if line[name] is not None)
        names = phase_names(table)
        for at in np.lexsort((due.time, due.phase)):
            yield f"    {names[due.phase[at]]:10} {due.time[at]:.3f}  {shown[due.document[at]]}"
        if missing := sorted(set(range(N)) - set(due.document.tolist())):
            yield f"    not reached: {', '.join(map(str, missing))}"


def test_every_schedule_gives_the_golden_order() -> None:
    assert "\n".join(golden()) + "\n" == GOLDEN.read_text("utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    GOLDEN.write_text("\n".join(golden()) + "\n", "utf-8")
