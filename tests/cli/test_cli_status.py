import json
import shutil
import time
from types import SimpleNamespace

import pytest
import ray

from annotate import Options
from annotate.amounts import counted
from annotate.cli.timeline_view import SHADES
from annotate.engine import events
from annotate.engine.events import Silent
from annotate.engine.lease import hold
from annotate.engine.status import status
from annotate.stages.score import Score
from annotate.storage.store import Directory

GROUPS = ("annotations (niceness)", "annotations (tone, correctness)")


class Stop(Silent):
    """Interrupts the driver when a stage has advanced twice; `killed` becomes what a SIGKILL there would leave."""

    def __init__(self, stage, workdir, killed):
        self.stage, self.seen, self.workdir, self.killed = stage, 0, workdir, killed

    def advanced(self, stage, units, rows):
        self.seen += stage == self.stage
        if self.seen == 2:
            shutil.copytree(self.workdir, self.killed, ignore=shutil.ignore_patterns("leases"))
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def interrupted(ray_cluster, pipeline, tmp_path_factory):
    """A work directory whose only run was interrupted while it scored the first axis."""
    assert ray.is_initialized()
    workdir = tmp_path_factory.mktemp("interrupted") / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(events, "FLUSH_SECONDS", 1e9)  # as where all this takes less
        pipeline.run(str(workdir), Options(workers=1), Stop(GROUPS[0], workdir, workdir.with_name("killed")))
    return workdir


def states(workdir):
    return {stage.label: stage.state for stage in status(workdir).stages}


def test_a_finished_run(annotate, finished):
    found = status(finished)
    assert found.finished and found.holder is None
    assert set(states(finished).values()) == {"done"}
    labels = [stage.label for stage in found.stages]
    assert labels[0] == "corpus" and labels[-1] == "text-shards"
    scored = next(stage for stage in found.stages if stage.label == GROUPS[1])
    latest = json.loads((finished / "latest.json").read_text())[GROUPS[1]]
    manifest = json.loads((finished / latest["dataset"] / "manifests" / f"{latest['fingerprint']}.json").read_text())
    assert (scored.done, scored.units, scored.rows) == (manifest["units"], manifest["units"], manifest["rows"])
    assert scored.size == sum(p.stat().st_size for p in (finished / latest["dataset"] / "parts").iterdir())
    assert scored.seconds is not None and scored.seconds > 0
    code, out, _ = annotate("status", finished)
    assert code == 0 and "finished" in out and all(label in out for label in labels)
    assert f"{manifest['rows']:,}" in out and "near duplicate" in out
    events = [json.loads(line) for path in (finished / "events").iterdir() for line in path.read_text().splitlines()]
    ends = {event["stage"]: event["detail"] for event in events if event["event"] == "finished"}
    made = {stage.label: counted(stage.done, "unit") for stage in found.stages if stage.seconds is not None}
    assert "members (0.8)" in made, "a shuffle"
    assert {label: ends[label] for label in made if label in ends} == made, "the log tells the same"


def test_the_timeline_of_a_run(annotate, finished, workdir):
    code, out, _ = annotate("status", finished, "--timeline")
    timeline = status(finished).timeline
    assert code == 0 and f"{timeline.slowest[0].pid}" in out and timeline.rates[0].node in out
    assert all(word in out for word in ("waiting", "idle", "Slowest calls", "Rates by node", "Time of the workers: "))
    assert all(stage.label in out for stage in timeline.stages) and timeline.slowest[0].step in out
    assert any(shade in out for shade in SHADES[1:])
    shown = [line for line in annotate("status", finished)[1].splitlines() if "models were busy for" in line]
    assert len(shown) == len(GROUPS) and all(line in out for line in shown)
    assert "Slowest" not in annotate("status", finished)[1] and "near duplicate" not in out
    told = [
        {
            "time": 5.0,
            "event": "died",
            "node": "10.0.0.7 (abcdef)",
            "pid": 77,
            "why": "killed",
            "log": "/tmp/logs/w.err",
        },
        {"time": 6.0, "event": "nodes", "lost": ["10.0.0.8 (abcdef)"], "joined": []},
        {
            "time": 7.0,
            "event": "calls",
            "stage": "",
            "step": "driver",
            "node": "n",
            "counts": {"retries: throttled": 3},
        },
    ]
    later = workdir / "events" / f"{status(workdir).run}-99.jsonl"
    later.write_text("".join(json.dumps({"time": 5.0} | event) + "\n" for event in told))
    _, out, _ = annotate("status", workdir, "--timeline")
    assert "process 77 on 10.0.0.7 (abcdef): killed" in out and "/tmp/logs/w.err" in out
    assert "node 10.0.0.8" in out and "throttled 3" in out
    for path in (workdir / "events").iterdir():
        path.unlink()
    assert "no timeline" in annotate("status", workdir, "--timeline")[1]


def test_what_each_stage_does_is_told(annotate, finished):
    code, out, _ = annotate("status", finished, "--stages")
    assert code == 0 and "near duplicate" not in out
    told = {stage.label: stage.about for stage in status(finished).stages}
    assert told["annotations (niceness)"] == Score.summary() == "Scores of the spans of kept documents, by one scorer"
    assert all(told.values()) and all(label in out and about in out for label, about in told.items())


def test_the_provenance_of_a_run(annotate, finished, workdir):
    code, out, _ = annotate("status", finished, "--provenance")
    told = status(finished).provenance
    assert code == 0 and all(word in out for word in (told["annotate"], told["stages"][0]["fingerprint"], "pyarrow "))
    assert f"provenance/{told['run']}.json" in out
    for path in (workdir / "provenance").iterdir():
        path.write_text("{]")
    code, _, err = annotate("status", workdir)
    assert code == 4 and "provenance" in err and "is damaged" in err
    for path in (workdir / "provenance").iterdir():
        path.unlink()
    assert "There is no provenance" in annotate("status", workdir, "--provenance")[1]


def test_an_interrupted_run_names_what_is_partly_done_and_what_is_not_started(annotate, interrupted):
    found = {stage.label: stage for stage in status(interrupted).stages}
    partly = found[GROUPS[0]]
    latest = next(each for each in interrupted.iterdir() if each.name == partly.dataset)
    assert partly.done == len(list((latest / "units").iterdir()))
    assert partly.state == "partly done" and partly.units == 7 and 0 < partly.done <= 7 and partly.rows > 0
    assert [found[label].state for label in ("corpus", "spans", "verdicts")] == ["done"] * 3
    for label in (GROUPS[1], "calibration", "thresholds", "placements", "text-shards"):
        assert found[label].state == "not started"
    code, out, _ = annotate("status", interrupted)
    assert code == 0 and "stopped before its end" in out and f"{partly.done} of 7" in out


def test_a_stage_in_which_the_driver_was_killed_is_partly_done(annotate, interrupted):
    found = {stage.label: stage for stage in status(interrupted.with_name("killed")).stages}
    assert (found[GROUPS[0]].state, found[GROUPS[0]].units) == ("partly done", 7)
    assert (found["verdicts"].state, found[GROUPS[1]].state) == ("done", "not started")
    _, out, _ = annotate("status", interrupted.with_name("killed"))
    assert "stopped before its end" in out


def test_a_stage_that_has_begun_and_has_committed_nothing_has_its_own_word(annotate, interrupted):
    later = interrupted / "events" / f"{status(interrupted).run}-99.jsonl"
    labels = ("placements", "calibration", "text-shards")
    told = [{"time": 5.0, "event": "started", "stage": label, "units": 7, "detail": ""} for label in labels]
    later.write_text("".join(json.dumps(event) + "\n" for event in told))
    found = {stage.label: stage for stage in status(interrupted).stages}
    assert [found[label].state for label in labels] == ["nothing done"] * 3
    assert annotate("status", interrupted)[1].count("nothing done") == 3
    units = interrupted / found["calibration"].dataset / "units"
    units.mkdir(parents=True)
    (units / ("a" * 24)).touch()
    assert states(interrupted)["calibration"] == "partly done"  # its unit is not there, but a piece is
    assert "pieces, 0 of 7" in annotate("status", interrupted)[1]
    shutil.rmtree(units.parent)
    units = interrupted / found["text-shards"].dataset / "units"  # a map: what has an entry is a unit
    units.mkdir(parents=True)
    (units / ("a" * 24)).touch()
    shards = next(stage for stage in status(interrupted).stages if stage.label == "text-shards")
    assert (shards.state, shards.done, shards.pieces) == ("partly done", 1, False)
    shutil.rmtree(units.parent)
    later.unlink()


def test_a_run_that_goes_on_names_its_holder_and_what_is_stuck(annotate, interrupted, monkeypatch):
    run = status(interrupted).run
    later = interrupted / "events" / f"{run}-99.jsonl"
    event = {"time": 0.0, "event": "in_flight", "stage": GROUPS[0], "in_flight": ["s0.parquet[3:9]"], "waits": ""}
    now = time.time
    monkeypatch.setattr("annotate.engine.status.time", SimpleNamespace(time=lambda: now() + 1000))
    with hold(Directory.at(interrupted), run, share=False):
        assert states(interrupted)[GROUPS[0]] == "running"
        _, out, _ = annotate("status", interrupted)
        assert f"{run} works there" in out and "no unit was finished for 16 min" in out and "in flight" not in out
        later.write_text(json.dumps(event) + "\n")
        code, out, _ = annotate("status", interrupted)
        later.unlink()
    assert code == 0 and "in flight: s0.parquet[3:9]" in out
    assert states(interrupted)[GROUPS[0]] == "partly done"


def test_what_comes_back_after_all_is_not_stuck(interrupted):
    run = status(interrupted).run
    later = interrupted / "events" / f"{run}-99.jsonl"
    told = [
        {"time": 1.0, "event": "in_flight", "stage": GROUPS[0], "in_flight": ["s0.parquet[3:9]"], "waits": ""},
        {"time": 2.0, "event": "advanced", "stage": GROUPS[0], "units": 1, "rows": 5},
    ]
    later.write_text("".join(json.dumps(event) + "\n" for event in told))
    with hold(Directory.at(interrupted), run, share=False):
        [running] = [stage for stage in status(interrupted).stages if stage.state == "running"]
    later.unlink()
    assert running.label == GROUPS[0] and running.stuck == ()


def test_how_far_a_search_is_is_shown_while_it_goes_on(annotate, interrupted):
    run = status(interrupted).run
    later = interrupted / "events" / f"{run}-99.jsonl"
    about = {"time": 2.0, "event": "searching", "stage": GROUPS[0], "unit": "s0.parquet[3:9]"}
    told = [{**about, "how_far": "4 of its 6 inputs left to search"}, {**about, "how_far": ""}]
    with hold(Directory.at(interrupted), run, share=False):
        for number, expected in ((1, 1), (2, 0)):
            later.write_text("".join(json.dumps(event) + "\n" for event in told[:number]))
            said = f"{GROUPS[0]}: s0.parquet[3:9]: 4 of its 6 inputs left to search"
            assert annotate("status", interrupted)[1].count(said) == expected
    later.unlink()


def test_a_run_that_another_pipeline_began_is_not_taken_for_the_finished_one(annotate, workdir):
    planned = [{"label": "corpus", "dataset": "corpus-00000000", "fingerprint": "0"}]
    event = {"time": 5.0, "event": "planned", "datasets": planned}
    (workdir / "events" / "99990101T000000-abcdef-0.jsonl").write_text(json.dumps(event) + "\n")
    assert states(workdir) == {"corpus": "not started"}
    assert not status(workdir).finished
    assert "by the last run that finished" in annotate("status", workdir)[1]


def test_without_events_the_datasets_of_the_last_run_are_listed(annotate, workdir):
    for path in (workdir / "events").iterdir():
        path.unlink()
    assert set(states(workdir).values()) == {"done"} and status(workdir).finished
    assert annotate("status", workdir)[0] == 0


def test_a_directory_without_a_run_is_an_error_and_is_not_made(annotate, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        code, out, err = annotate("status", path)
        assert code == 4 and "no run in" in err and not out
    assert list(tmp_path.iterdir()) == []


def test_damaged_events_are_named(annotate, workdir):
    (workdir / "events" / "99990101T000000-abcdef-0.jsonl").write_text("{]\n")
    code, _, err = annotate("status", workdir)
    assert code == 4 and "99990101T000000-abcdef-0.jsonl is damaged" in err


def test_nothing_is_written(annotate, finished, interrupted, tree):
    for workdir in (finished, interrupted):
        before = tree(workdir)
        annotate("status", workdir)
        assert tree(workdir) == before


def test_a_run_that_stopped_before_it_had_a_plan_tells_of_its_first_step(annotate, tmp_path):
    told = [
        {"time": 1.0, "event": "started", "stage": "corpus (import)", "units": 5, "detail": ""},
        {"time": 3.0, "event": "advanced", "stage": "corpus (import)", "units": 2, "rows": 0},
    ]
    (tmp_path / "events").mkdir()
    lines = "".join(json.dumps(event) + "\n" for event in told)
    (tmp_path / "events" / "20260101T000000-abcdef-0.jsonl").write_text(lines)
    [step] = status(tmp_path).stages
    assert (step.label, step.state, step.done, step.units, step.seconds) == (
        "corpus (import)",
        "partly done",
        2,
        5,
        2.0,
    )
    code, out, _ = annotate("status", tmp_path)
    assert code == 0 and "2 of 5" in out
