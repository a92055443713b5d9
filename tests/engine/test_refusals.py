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
from deadly import DeadlyCorpus, Stubborn, longer, pipeline, write
from here import ray_here
from support import sentences, shard_bytes
from tiny_tokenizer import byte_tokenizer

from annotate import Corpus, InputError, Options, Schedule, Split, WorkError, clean, status
from annotate.engine import shuffle
from annotate.engine.source import open_source
from annotate.engine.status import _told
from annotate.errors import StorageError
from annotate.graph import graph, lineages, source_of
from annotate.storage.refusals import REASON, Refusal, file_identity, put_refusal, read_refusals
from annotate.storage.store import Directory, checksum


def run(folder, out, **options):
    return pipeline(folder, **options).run(out, Options(workers=2, by_value=("deadly",)))


def quarantined(out):
    views = [pl.read_parquet(path) for path in sorted((out / "quarantine").iterdir())]
    return pl.concat(views).sort(pl.all())


def compare(out, plain, rows, outputs=(None,)):
    """Compare a run that has crashed with one over a corpus whose bad documents had a problem from the start."""
    for output in outputs:
        assert list(shard_bytes(plain, output).values()) == list(shard_bytes(out, output).values())
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
def test_documents_that_crash_or_hang_the_tokenizer_in_the_partitions_of_a_shuffle(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "SMALL_READS", 1)  # of two levels; below, a driver is killed in a search in one level
    tokens = {"tokenizer": byte_tokenizer(tmp_path / "tokenizer"), "unit_seconds": 2}
    bad, options = ((3, "Segfault"), (20, "Hang")), {"split": Split, "schedule": Schedule(seed=3)}
    made = run(write(tmp_path / "corpus", bad), tmp_path / "out", tokens=tokens, **options)
    assert made.ledger.states["written"] == 22
    sent_on = [rate.stage for rate in status(tmp_path / "out").timeline.rates if rate.step == "regroup"]
    assert any(stage.startswith("token-shards") for stage in sent_on)
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain", tokens=tokens, **options)
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", 3), ("s1.parquet", 8)})


@pytest.mark.slow
def test_documents_that_crash_two_stages_that_go_on_together(ray_cluster, tmp_path):
    tokens = {"tokenizer": byte_tokenizer(tmp_path / "tokenizer")}
    bad, options = ((3, "Exit"), (17, "Segfault")), {"split": Split, "tokens": tokens, "both": True}
    made = run(write(tmp_path / "corpus", bad), tmp_path / "out", **options)  # the first crashes both
    assert {ledger.states["written"] for ledger in made.ledgers.values()} == {22}
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain", **options)
    rows = {("s0.parquet", 3), ("s1.parquet", 5)}
    compare(tmp_path / "out", tmp_path / "plain", rows, outputs=("text", "tokens"))


@pytest.mark.slow
def test_a_made_document_that_crashes_a_later_stage(ray_cluster, tmp_path):
    bad, options = ((3, "Exit"),), {"split": Split, "made": longer}
    for name, invalid in (("out", False), ("plain", True)):
        made = run(write(tmp_path / f"{name}-corpus" / "files", bad, invalid=invalid), tmp_path / name, **options)
        assert made.ledger.states["written"] == 23 and made.ledger.states["quarantined"] == 1
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", 3)})


@pytest.mark.slow
def test_a_file_whose_reader_crashes_is_named_or_passed_over(ray_cluster, tmp_path):
    folder = write(tmp_path / "corpus")
    (first, *_) = open_source(Corpus(folder, id=None, unit_bytes=900), Directory.at(tmp_path / "scratch")).units()
    assert first.stop > 2
    reader = {"row": 1, "until": first.stop, "unreadable": "quarantine"}
    options = {"split": Split, "corpus": DeadlyCorpus, "corpus_options": reader}
    made = run(folder, tmp_path / "out", **options)
    assert all("can't be read here: a process" in reason for reason in made.quarantined)
    bad = [(row, "Fine") for row in range(first.stop)]
    plain = {**options, "corpus_options": {"unreadable": "quarantine"}}
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain", **plain)
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", row) for row in range(first.stop)})
    options["corpus_options"] = {**reader, "unreadable": "error"}
    with pytest.raises(InputError, match=rf"s0.parquet, rows 0 to {first.stop - 1} can't be read: a process"):
        run(folder, tmp_path / "other", **options)


@pytest.mark.slow
def test_a_file_whose_import_crashes_is_named_or_passed_over(ray_cluster, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": sentences(i, 3)}) + "\n" for i in range(4)))
    options = {"split": Split, "corpus": DeadlyCorpus}
    made = run(folder, tmp_path / "out", corpus_options={"file": "b.jsonl", "unreadable": "quarantine"}, **options)
    assert made.ledger.states["written"] == 8 and made.ledger.beside["unreadable_files"] == 1
    with pytest.raises(InputError, match=r"b\.jsonl can't be imported: a process that reads it ends"):
        run(folder, tmp_path / "other", corpus_options={"file": "b.jsonl"}, **options)


@pytest.mark.slow
def test_a_document_that_is_refused_in_vain_ends_the_run(ray_cluster, tmp_path):
    with pytest.raises(WorkError, match=r"spans: s0\.parquet\[\d+:\d+\] lost its worker 4 times"):
        run(write(tmp_path / "corpus"), tmp_path / "out", split=Stubborn)
    (corpus,) = (tmp_path / "out").glob("corpus-*")
    assert len(list((corpus / "refused").iterdir())) == 1


def start(folder, out, calls, *tokenizer, **environment):
    """Start a driver of its own, whose shards are rendered by a map; or tokenized in the partitions of a shuffle."""
    calls.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(deadly.__file__).parent), os.environ.get("PYTHONPATH", "")])
    own = {**os.environ, "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"], "PYTHONPATH": path, **environment}
    command = [sys.executable, deadly.__file__, *map(str, (folder, out, calls, *tokenizer))]
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_in_the_search(driver, calls, deaths):
    while len(list(calls.iterdir())) < deaths and driver.poll() is None:  # two are of the unit, then come parts of it
        time.sleep(0.05)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_driver_that_is_killed_in_the_search_of_a_map_goes_on(ray_cluster, tmp_path):
    bad, folder, out = ((2, "Exit"),), tmp_path / "corpus", tmp_path / "out"
    driver = start(write(folder, bad, shards=1), out, tmp_path / "calls")
    kill_in_the_search(driver, tmp_path / "calls", deaths=4)
    assert not list(out.glob("corpus-*/refused/*"))
    made = run(folder, out, split=Split)
    assert made.ledger.states["quarantined"] == 1
    run(write(tmp_path / "invalid", bad, invalid=True, shards=1), tmp_path / "plain", split=Split)
    compare(out, tmp_path / "plain", {("s0.parquet", 2)})


@pytest.mark.slow
def test_a_driver_that_is_killed_in_the_search_of_a_partition_and_after_a_note_goes_on(
    ray_cluster, fault_plan, tmp_path
):
    bad = (2, "Exit"), (3, "Exit")
    folder, out, calls = write(tmp_path / "corpus", bad, shards=1), tmp_path / "out", tmp_path / "calls"
    (tmp_path / "spent").mkdir()
    fault_plan.write_text(json.dumps({"points": ["refusal: put"], "spent": str(tmp_path / "spent")}))
    tokenizer = byte_tokenizer(tmp_path / "tokenizer")
    hook = {"ANNOTATE_FAULT_HOOK": "faults:kill"}

    kill_in_the_search(start(folder, out, calls, tokenizer, **hook), calls, deaths=4)
    assert not (tmp_path / "spent" / "refusal: put").exists()
    second = start(folder, out, calls, tokenizer, **hook)
    second.communicate(timeout=300)
    assert second.returncode == -signal.SIGKILL
    (corpus,) = out.glob("corpus-*")
    assert len(list((corpus / "refused").iterdir())) == 1
    third = start(folder, out, calls, tokenizer, **hook)
    said, _ = third.communicate(timeout=300)
    assert third.returncode == 0, said[-3000:]
    options = {"split": Split, "schedule": Schedule(seed=3), "tokens": {"tokenizer": tokenizer}}
    run(write(tmp_path / "invalid", bad, invalid=True, shards=1), tmp_path / "plain", **options)
    compare(out, tmp_path / "plain", {("s0.parquet", 2), ("s0.parquet", 3)})


def refuse(made, out, row, *, by="spans"):
    """Note a document of the first shard as one that ends the worker of a stage."""
    stages = graph(made.outputs.values())
    stage, corpus = next(each for each in stages if each.name == by), source_of(made.outputs["shards"])
    lineage = lineages(stages)[stage]
    unit = next(iter(open_source(corpus, Directory.at(out.with_name("scratch"))).units()))
    directory = Directory.at(out).child(corpus.dataset)
    put_refusal(directory, Refusal(unit.shard, row, file_identity(unit.source), lineage))
    assert [each.row for each in read_refusals(directory, {lineage})] == [row]


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
    with ray_here():
        assert {stage.state for stage in pipeline(folder).plan(out, Options(workers=1)).stages} == {"done"}
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


def test_a_note_holds_while_all_that_its_stage_reads_is_made_in_the_same_way(tmp_path):
    folder, out = write(tmp_path / "corpus"), tmp_path / "out"
    with ray_here():
        assert pipeline(folder).run(out, Options(workers=1)).ledger.states["written"] == 24
        refuse(pipeline(folder), out, 3, by="text-shards")
        assert pipeline(folder).run(out, Options(workers=1)).ledger.states["written"] == 23
        # With other spans the shards are made from something else: the document is tried again.
        assert pipeline(folder, by="line").run(out, Options(workers=1)).ledger.states["written"] == 24


@pytest.mark.parametrize("change", [{"row": "3"}, {"row": 3.0}, {"shard": []}, {"more": 1}, {"row": 4}])
def test_a_note_that_is_not_what_its_name_says_is_an_error_that_names_it(tmp_path, change):
    directory = Directory.at(tmp_path)
    directory.create()
    put_refusal(directory, Refusal("s0.parquet", 3, "a file", "a stage"))
    (path,) = (tmp_path / "refused").iterdir()
    note = json.loads(path.read_text()) | change
    path.write_text(json.dumps(note, sort_keys=True))
    with pytest.raises(StorageError, match=path.name):
        list(read_refusals(directory, {"a stage"}))
    path.unlink()
    data = json.dumps(note, sort_keys=True).encode()
    if change != {"row": 4}:  # it has the right name, but no note has such fields
        path.with_name(f"{checksum(data)[:24]}.json").write_bytes(data)
        with pytest.raises(StorageError, match="damaged"):
            list(read_refusals(directory, {"a stage"}))


def test_a_step_that_is_done_again_in_a_run_that_begins_anew_is_not_counted_twice():
    once = [{"event": "started", "units": 2, "of": []}, {"event": "advanced", "units": 2, "rows": 7}]
    events = [{**event, "stage": "corpus: import", "time": 1.0} for event in [*once, *once]]
    seen = _told(events).stages["corpus: import"]
    assert (seen.done, seen.units, seen.rows) == (2, 2, 7)
