"""A stage of each kind, defined here and nowhere else: a class and a contract are all that the engine needs.

They run, are found again, go on after a kill, and show in status, plan, ledger and quarantine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray

from annotate import Options, Pipeline, tables
from annotate.engine.ledger import read_ledgers
from annotate.engine.plan import plan
from annotate.engine.status import status
from annotate.graph import EndsDocuments, LedgerStates, Map, Model, Reduce, Shuffle, Source
from annotate.storage.manifests import FileRows, Unit
from annotate.storage.parts import UnitOutput
from annotate.storage.store import Directory, checksum

TEXT, UNIT = "text", 4
NAMES = [f"file{n}.txt" for n in range(5)]
POINTS = ["driver: receipt taken", "driver: manifest created", "actor: scored"]


def contract(folder: Path, name: str, **columns: str) -> str:
    """Write a contract; gives the path, which a stage names as its schema."""
    path = folder / f"{name}.json"
    columns = [{"name": column, "type": kind} for column, kind in columns.items()]
    path.write_text(json.dumps({"name": name, "columns": columns, "other_columns": None}))
    return str(path)


@dataclasses.dataclass(frozen=True)
class Lines(Source):
    """The lines of text files, of which a unit has a few."""

    folder: str

    name = "lines"
    schema = "corpus"

    @property
    def inputs(self):
        return {}

    def settings(self):
        return {}

    def about(self):
        return {"location": self.folder}

    def listing(self, new, found, inputs, *, limit, readers):
        listing = new()
        for path in sorted(Path(self.folder).iterdir()):
            data = path.read_bytes()
            source = FileRows(path=path.name, size=len(data), checksum=checksum(data))
            lines = len(data.splitlines())
            cuts = range(0, lines, UNIT)
            listing.add(Unit(path.name, at, min(at + UNIT, lines), len(data), source=source) for at in cuts)
            listing.writer.count("documents", lines)
        return listing

    def read(self, directory, unit):
        lines = (Path(self.folder) / unit.shard).read_text().splitlines()[unit.start : unit.stop]
        return pa.table({"row": pa.array(range(unit.start, unit.stop), pa.int64()), "text": lines})


class Step:
    """What the others have in common."""

    def settings(self):
        return {}


@dataclasses.dataclass(frozen=True)
class Words(Step, Map):
    """The words of each line; a line without words is no use."""

    lines: Lines
    schema: str

    name = "words"

    @property
    def inputs(self):
        return {"lines": self.lines}

    def unit(self, tables):
        lines = tables["lines"]
        words = [text.split() for text in lines["text"].to_pylist()]
        bad = [row for row, found in zip(lines["row"].to_pylist(), words, strict=True) if not found]
        quarantine = pa.table(
            {
                "shard": pa.array([tables.shard] * len(bad), pa.string()),
                "row": pa.array(bad, pa.int64()),
                "span": pa.nulls(len(bad), pa.int32()),
                "id": pa.nulls(len(bad), pa.string()),
                "axis": pa.nulls(len(bad), pa.string()),
                "reason": pa.array(["no words"] * len(bad), pa.string()),
            }
        )
        pairs = [(row, word) for row, found in zip(lines["row"].to_pylist(), words, strict=True) for word in found]
        table = pa.table({"row": pa.array([r for r, _ in pairs], pa.int64()), "word": [w for _, w in pairs]})
        return UnitOutput(table, quarantine=quarantine, counts={"lines": lines.num_rows, "bad": len(bad)})


@dataclasses.dataclass(frozen=True)
class Counts(Step, Shuffle):
    """How often each word occurs: a word goes to the partition of its length."""

    words: Words
    schema: str
    sent_schema: str

    name = "counts"

    @property
    def inputs(self):
        return {"words": self.words}

    @property
    def sources(self):
        return (("words",),)

    def partitions(self, whole, manifests):
        return (3,)

    def send(self, tables, partitions):
        word = tables["words"]["word"]
        to = pc.utf8_length(word).to_numpy() % partitions.number
        yield UnitOutput(pa.table({"to": pa.array(to, pa.int32()), "word": word}))

    def receive(self, received):
        counted = pc.value_counts(received.sent["word"].combine_chunks())
        table = pa.table({"word": counted.field("values"), "count": counted.field("counts")})
        yield UnitOutput(table.sort_by("word"))


@dataclasses.dataclass(frozen=True)
class Common(Step, Reduce):
    """The commonest word."""

    counts: Counts
    schema: str
    piece_schema: str

    name = "common"

    @property
    def inputs(self):
        return {"counts": self.counts}

    def piece(self, tables):
        return tables["counts"]

    def merge(self, pieces):
        return pa.concat_tables(list(pieces)).sort_by([("count", "descending"), ("word", "ascending")]).slice(0, 1)

    def finish(self, merged, shared):
        return UnitOutput(merged)


@dataclasses.dataclass(frozen=True)
class Guesses(Step, Model):
    """How often a line has the commonest word, times what a model says; of this one has two that share it."""

    words: Words
    common: Common
    factor: int
    schema: str
    threads: int = 1

    name = "guesses"
    gpu = False

    @property
    def inputs(self):
        return {"words": self.words, "common": self.common}

    def settings(self):
        return {"factor": self.factor}

    @property
    def label(self):
        return f"guesses ({self.factor})"

    @property
    def shared(self):
        return self.words, self.common

    def together(self, stages):
        return f"guesses of {len(stages)}"

    def wanted(self, tables):
        return np.unique(tables["words"]["row"].to_numpy())

    def prepare(self, tables, rows):
        words, common = tables["words"], tables["common"]["word"][0].as_py()
        found = words.filter(pc.equal(words["word"], common))["row"].to_numpy()
        return rows, np.array([(found == row).sum() for row in rows], np.int64)

    def load(self, stages, device):
        return [stage.factor for stage in stages]

    def forward(self, model, prepared, stages, wanted):
        return [prepared[1] * model()[i] for i in wanted]

    def finish(self, shard, prepared, result, device, covered):
        fresh = ~np.isin(prepared[0], covered)
        table = pa.table({"row": prepared[0][fresh], "guess": result[fresh]})
        return UnitOutput(table, counts={"guessed": table.num_rows})


@dataclasses.dataclass(frozen=True)
class Written(Step, EndsDocuments, Map):
    """Lines with what was guessed of them, two units in a part."""

    words: Words
    guesses: tuple[Guesses, ...]
    schema: str

    name = "written"
    gathers = True

    @property
    def inputs(self):
        return {"words": self.words, **{f"guesses-{i}": stage for i, stage in enumerate(self.guesses)}}

    def unit(self, tables):
        return next(self.gathered_unit(iter([tables])))

    def gathering(self, manifests):
        number = -1

        def group(units):
            nonlocal number
            number += 1
            return number // 2

        return group

    def gathered_unit(self, group):
        tables = [unit["guesses-0"].append_column("other", unit["guesses-1"]["guess"]) for unit in group]
        table = pa.concat_tables(tables)
        yield UnitOutput(table, counts={"written": table.num_rows})

    def ledger(self, counts):
        words = counts(self.words)
        states = {"written": counts(self).get("written", 0), "wordless": words.get("bad", 0)}
        return LedgerStates(states, words.get("lines", 0), {"guessed": counts(self.guesses[0]).get("guessed", 0)})


def pipeline(folder: Path) -> Pipeline:
    lines = Lines(str(folder / "lines"))
    words = Words(lines, contract(folder, "words", row="int64", word="string"))
    counted = contract(folder, "counts", word="string", count="int64")
    counts = Counts(words, counted, contract(folder, "sent", to="int32", word="string"))
    common = Common(counts, counted, counted)
    guessed = contract(folder, "guesses", row="int64", guess="int64")
    guesses = tuple(Guesses(words, common, factor, guessed) for factor in (2, 3))
    both = contract(folder, "written", row="int64", guess="int64", other="int64")
    return Pipeline(written=Written(words, guesses, both))


@pytest.fixture(scope="module")
def folder(ray_cluster, fault_plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "lines").mkdir()
    for n, name in enumerate(NAMES):
        lines = ["" if i % 7 == n else f"the {'word ' * (i % 3)}of line {i + n}" for i in range(10)]
        (folder / "lines" / name).write_text("\n".join(lines) + "\n")
    drive(folder, "undisturbed", {})
    return folder


def drive(folder: Path, name: str, faults: dict[str, Any]) -> int:
    """Run the pipeline in a process of its own, with faults; gives its return code."""
    spent = folder / f"spent-{name}"
    spent.mkdir(exist_ok=True)
    Path(os.environ["FAULT_PLAN"]).write_text(json.dumps({**faults, "spent": str(spent)}))
    environment = {
        **os.environ,
        "ANNOTATE_FAULT_HOOK": "faults:kill",
        "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"],
    }
    command = [sys.executable, __file__, str(folder), str(folder / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode


def parts(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workdir.glob("written-*/parts/*.parquet")}


def test_each_kind_makes_its_dataset(folder):
    out = folder / "undisturbed"
    rows = [row for table in tables(out, "guesses (3)") for row in table.to_pylist()]
    assert len(rows) == 42 and {row["guess"] % 3 for row in rows} == {0}
    words = [row["word"] for table in tables(out, "words") for row in table.to_pylist()]
    lines = [line for name in NAMES for line in (folder / "lines" / name).read_text().splitlines()]
    assert words == " ".join(lines).split()
    assert len(parts(out)) == 8  # of three units a file, two in a part


def test_status_plan_ledger_and_quarantine_show_them(folder):
    out = folder / "undisturbed"
    found = status(out)
    assert [(stage.label, stage.state) for stage in found.stages] == [
        (label, "done")
        for label in ("lines", "words", "counts", "common", "guesses (2)", "guesses (3)", "written (written)")
    ]
    assert {stage.label: stage.units for stage in found.stages}["counts"] == 3
    assert {call.units for call in found.timeline.slowest if call.stage == "common"} == {"piece 1 of 1", "all pieces"}
    ledger = read_ledgers(Directory.at(out))["written"]
    assert ledger.states == {"written": 42, "wordless": 8, "not_reached": 0} and ledger.beside == {"guessed": 42}
    (view,) = (out / "quarantine").glob("words-*.parquet")
    assert view.stat().st_size
    planned = plan(pipeline(folder).outputs, str(out), Options(workers=1), 0)
    assert {stage.state for stage in planned.stages} == {"done"}
    planned = plan(pipeline(folder).outputs, str(folder / "nothing"), Options(workers=1), 0)
    assert {stage.label: stage.units for stage in planned.stages} == {
        "lines": 15,
        "words": 15,
        "counts": None,
        "common": 1,
        "guesses (2)": 15,
        "guesses (3)": 15,
        "written (written)": None,
    }


def test_they_go_on_after_kills_at_points_and_of_a_worker_in_each_stage(folder):
    faults = {"points": POINTS, "each_stage": True}
    codes = [drive(folder, "killed", faults)]
    while codes[-1]:
        codes.append(drive(folder, "killed", faults))
    assert codes == [-signal.SIGKILL] * 2 + [0]
    spent = {path.name for path in (folder / "spent-killed").iterdir()}
    assert spent >= set(POINTS), "no process came to a point"
    killed = {name.partition(" ")[2].partition("-")[0] for name in spent if name.startswith("killed ")}
    assert killed >= {"words", "counts", "common", "guesses", "written"}
    assert parts(folder / "killed") == parts(folder / "undisturbed")


if __name__ == "__main__":
    ray.init(log_to_driver=False, logging_level="ERROR")
    pipeline(Path(sys.argv[1])).run(sys.argv[2], Options(workers=2))
