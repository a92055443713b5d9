"""What ends the workers of stages that don't score: it is found down to the document, which goes to quarantine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import deadly
import polars as pl
import pytest
from deadly import Stubborn, pipeline, write
from here import ray_here
from support import shard_bytes

from annotate import Options, Schedule, Split, WorkError, clean, status
from annotate.engine.source import open_source
from annotate.graph import source_of
from annotate.storage.refusals import REASON, Refusal, file_identity, put_refusal, read_refusals
from annotate.storage.store import Directory


def run(folder, out, **options):
    return pipeline(folder, **options).run(out, Options(workers=2, by_value=("deadly",)))


def quarantined(out):
    views = [pl.read_parquet(path) for path in sorted((out / "quarantine").iterdir())]
    return pl.concat(views).sort(pl.all())


def compare(out, plain, rows):
    """Compare a run that has crashed with one over a corpus whose bad documents had a problem from the start."""
    assert list(shard_bytes(plain).values()) == list(shard_bytes(out).values())
    assert json.loads((plain / "ledger.json").read_text()) == json.loads((out / "ledger.json").read_text())
    one, other = quarantined(out), quarantined(plain)
    assert one.drop("reason").equals(other.drop("reason"))
    assert set(one.select("shard", "row").iter_rows()) == rows


@pytest.mark.slow  # a worker is started anew after each crash
def test_documents_that_crash_or_hang_go_to_quarantine(ray_cluster, tmp_path):
    bad = (1, "Segfault"), (4, "Hang"), (17, "Exit"), (20, "Tokenize")
    folder = write(tmp_path / "corpus", bad)
    made = run(folder, tmp_path / "out")
    assert made.ledger.states == {"written": 20, "near_duplicate": 0, "quarantined": 4, "not_reached": 0}
    assert made.quarantined == {REASON: 4}
    assert any("4 documents" in remark for remark in made.remarks)
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain")
    rows = {("s0.parquet", 1), ("s0.parquet", 4), ("s1.parquet", 5), ("s1.parquet", 8)}
    compare(tmp_path / "out", tmp_path / "plain", rows)
    told = status(tmp_path / "out")
    assert told.finished and any("begins anew" in warning for warning in told.warnings)
    # Nothing is left to do.
    again = run(folder, tmp_path / "out")
    assert again.ledger == made.ledger and again.datasets == made.datasets


@pytest.mark.slow
def test_documents_that_crash_a_shuffle(ray_cluster, tmp_path):
    bad, options = ((3, "Exit"),), {"split": Split, "schedule": Schedule(seed=3)}
    run(write(tmp_path / "corpus", bad), tmp_path / "out", **options)
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain", **options)
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", 3)})


@pytest.mark.slow
def test_a_document_that_is_refused_in_vain_ends_the_run(ray_cluster, tmp_path):
    with pytest.raises(WorkError, match=r"spans: s0\.parquet\[\d+:\d+\] lost its worker 4 times"):
        run(write(tmp_path / "corpus"), tmp_path / "out", split=Stubborn)
    (corpus,) = (tmp_path / "out").glob("corpus-*")
    assert len(list((corpus / "refused").iterdir())) == 1


@pytest.mark.slow
def test_a_driver_that_is_killed_in_the_search_and_after_a_note_goes_on(ray_cluster, tmp_path):
    bad = (2, "Exit"), (3, "Exit")
    folder, out, calls, plan = write(tmp_path / "corpus", bad), tmp_path / "out", tmp_path / "calls", tmp_path / "plan"
    for each in (calls, tmp_path / "spent"):
        each.mkdir()
    plan.write_text(json.dumps({"points": ["refusal: put"], "spent": str(tmp_path / "spent")}))
    environment = {
        **os.environ,
        "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"],
        "FAULT_PLAN": str(plan),
        "ANNOTATE_FAULT_HOOK": "faults:kill",
        "PYTHONPATH": os.pathsep.join([str(Path(deadly.__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }

    def start():
        command = [sys.executable, deadly.__file__, str(folder), str(out), str(calls)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    first = start()
    while len(list(calls.iterdir())) < 4 and first.poll() is None:  # twice it was the unit, then parts of it
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -signal.SIGKILL and not (tmp_path / "spent" / "refusal: put").exists()
    second = start()
    second.communicate(timeout=300)
    assert second.returncode == -signal.SIGKILL
    (corpus,) = out.glob("corpus-*")
    assert len(list((corpus / "refused").iterdir())) == 1
    third = start()
    said, _ = third.communicate(timeout=300)
    assert third.returncode == 0, said[-3000:]
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain")
    compare(out, tmp_path / "plain", {("s0.parquet", 2), ("s0.parquet", 3)})


def refuse(made, out, row):
    """Note a document of the first shard as one that ends the worker of the split."""
    shards = made.outputs["shards"]
    split, corpus = shards.placements.spans, source_of(shards)
    unit = next(iter(open_source(corpus, Directory.at(out.with_name("scratch"))).units()))
    directory = Directory.at(out).child(corpus.dataset)
    put_refusal(directory, Refusal(unit.shard, row, file_identity(unit.source), split.dataset))
    assert [each.row for each in read_refusals(directory, {split.dataset})] == [row]


def units(out, name):
    return sorted(path.name for path in out.glob(f"{name}-*/units/*"))


def test_a_note_holds_for_its_stage_and_file_until_it_is_removed(tmp_path):
    folder, out = write(tmp_path / "corpus"), tmp_path / "out"

    def states(**options):
        with ray_here():
            return pipeline(folder, **options).run(out, Options(workers=1)).ledger.states

    assert states()["written"] == 24
    before, shards = units(out, "spans"), shard_bytes(out)
    refuse(pipeline(folder), out, 3)
    assert states() == {"written": 23, "near_duplicate": 0, "quarantined": 1, "not_reached": 0}
    assert set(quarantined(out)["reason"]) == {REASON}
    assert len(set(units(out, "spans")) - set(before)) == 1  # of the unit that has it
    assert states(split=Split)["written"] == 24  # another stage tries it
    assert states(by="line")["written"] == 24  # and so does this one with other settings
    assert states()["quarantined"] == 1
    write(folder, shards=3)  # the corpus grows
    assert states() == {"written": 35, "near_duplicate": 0, "quarantined": 1, "not_reached": 0}
    write(folder, [(0, "Another")])  # a shard has another content, in the same place
    (folder / "s2.parquet").unlink()
    assert states()["written"] == 24
    write(folder)
    assert states()["quarantined"] == 1
    assert [item.path for item in clean(out, dry_run=True).unused if "refused" in item.path] == []
    assert clean(out, refused=True).removed
    assert states()["written"] == 24 and shard_bytes(out) == shards
