"""What a run tells while it goes on: metrics at Ray's endpoint, names of tasks, workers that died with their logs."""

import ctypes
import os
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import support

from annotate import AnnotateError, Corpus, Pipeline, PythonScorer, Split, score, status, tally
from annotate.engine import cluster_watch, last_words, metrics, nodes
from annotate.engine.at_work import at_work
from annotate.engine.cluster_watch import ClusterWatch
from annotate.engine.events import Events, Silent
from annotate.engine.facts import in_turn
from annotate.engine.last_words import UNSAID
from annotate.engine.metrics import METRICS, PREFIX, exported
from annotate.engine.model_actor import BROKEN
from annotate.engine.overdue import TOO_LONG, limited
from annotate.engine.running import Running
from annotate.engine.timeline import ModelTime, Reader
from annotate.storage.store import Directory


def scraped(name, *words, enough=lambda samples: True):
    """The samples of a metric, as a scraper finds them: labels and value.

    Waits until there are some with each word, and until they are `enough`: what a run has counted is exported later,
    and until then there is what earlier runs of this process have counted.
    """
    [node] = [node for node in ray.nodes() if node["Alive"]]
    until = time.monotonic() + 40
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        samples = [line.removeprefix(name) for line in lines if line.startswith(name + "{")]
        if samples and all(any(word in sample for sample in samples) for word in words) and enough(samples):
            return samples
        assert time.monotonic() < until, f"{name}: {samples}"
        time.sleep(0.5)


class Scraping(Silent):
    """Scrapes gauges while a run goes on: they are those of a run that goes on."""

    def __init__(self):
        self.gauges = {}

    def started(self, stage, units, detail):
        if stage == "placements":
            self.gauges = {name: scraped(exported(name)) for name in ("annotate_nodes", "annotate_queue")}


@pytest.fixture(scope="module")
def ran(ray_cluster, tmp_path_factory):
    """A finished run: its pipeline, its work directory, its status, and the gauges that were scraped meanwhile."""
    folder, scraping = tmp_path_factory.mktemp("telemetry"), Scraping()
    corpus = support.write_corpus(folder / "corpus", shards=2)
    [shards] = support.pipeline(corpus, folder / "calls").outputs.values()
    pipeline = Pipeline(scraped=shards)  # a label that no other run of this process has
    pipeline.run(folder / "out", observer=scraping)
    return SimpleNamespace(
        pipeline=pipeline, workdir=folder / "out", status=status(folder / "out"), gauges=scraping.gauges
    )


def test_a_scrape_of_the_endpoint_has_what_the_run_does_and_did(ran):
    assert ran.gauges["annotate_nodes"][0].endswith(" 1.0")
    assert all('stage="' in sample for sample in ran.gauges["annotate_queue"])
    shards = next(stage for stage in ran.status.stages if "(scraped)" in stage.label)

    def rows(samples):
        own = [sample for sample in samples if f'stage="{shards.label}"' in sample]
        assert all('step="make"' in sample for sample in own)
        return sum(float(sample.rpartition(" ")[2]) for sample in own)

    found = scraped(exported("annotate_rows"), enough=lambda samples: rows(samples) >= shards.rows)
    assert rows(found) == shards.rows > 0
    assert scraped(exported("annotate_seconds"), *(f'phase="{phase}"' for phase in ("read", "forward", "write")))
    assert scraped(
        exported("annotate_store_requests"), *(f'kind="{kind}"' for kind in ("get", "put", "create", "head"))
    )
    for name in (
        "annotate_calls",
        "annotate_units",
        "annotate_spans",
        "annotate_waited_seconds",
        "annotate_model_idle_seconds",
    ):
        assert scraped(exported(name))


def test_series_are_bounded_where_nodes_come_and_go(monkeypatch):
    counted = []
    counter = SimpleNamespace(inc=lambda more, tags: counted.append(tags["node"]))
    monkeypatch.setattr(metrics, "_made", lambda name: counter)
    monkeypatch.setattr(metrics, "_NODES", set())
    for n in [*range(200), *range(200)]:
        metrics.count("annotate_calls", 1, stage="spans", step="make", node=f"node-{n}")
    own = [f"node-{n}" for n in range(metrics.MOST_NODES)]
    assert counted == ([*own] + [metrics.OTHERS] * (200 - len(own))) * 2


def test_names_of_metrics_are_those_of_the_endpoint():
    assert all(name.startswith(PREFIX) and name.islower() for name in METRICS)
    assert exported("annotate_rows") == "ray_annotate_rows_total" and exported("annotate_queue") == "ray_annotate_queue"


def test_the_page_has_each_metric():
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text("utf-8")
    for name, metric in METRICS.items():
        tags = ", ".join(f"`{tag}`" for tag in metric.tags)
        assert f"| `{exported(name)}` | {tags} | {metric.help} |" in page
    assert page.count("| `ray_") == len(METRICS)


def test_the_timeline_has_each_stage_that_ran(ran):
    timeline, stages = ran.status.timeline, ran.status.stages
    assert {stage.label for stage in timeline.stages} == {stage.label for stage in stages if stage.seconds is not None}
    assert sum(timeline.shares.values()) == pytest.approx(1)
    model = next(stage for stage in timeline.stages if stage.label.startswith("annotations"))
    steps = {rate.step: rate for rate in timeline.rates if rate.stage == model.label}
    assert set(steps) == {"prepare", "forward", "finish"}
    assert steps["finish"].rows == next(stage.rows for stage in stages if stage.label == model.label)
    assert model.peak > 50 << 20 and model.seconds["forward"] > 0 and timeline.slowest[0].pid


def test_how_busy_models_are_is_read_from_the_calls_that_ran_them():
    """Two models on two nodes; one of them was loaded in its call."""
    same = {"event": "calls", "stage": "annotations", "start": 5.0, "end": 9.0, "sent": 5.0, "waited": 0.0, "peak": 1}
    reader = Reader()
    for node, step, spent, counts in (
        ("a", "forward", 12.0, {"seconds: load": 2.0, "seconds: forward": 10.0, "model idle": 5.0, "tokens": 3000}),
        ("b", "forward", 10.0, {"seconds: forward": 10.0, "model idle": 15.0, "tokens": 1000}),
        ("b", "prepare", 99.0, {"seconds: tokenize": 99.0}),
    ):
        reader.take({**same, "node": node, "step": step, "calls": 1, "seconds": spent, "counts": counts})
    reader.take({**same, "stage": "spans", "node": "a", "step": "make", "calls": 1, "seconds": 1.0, "counts": {}})
    models = {stage.label: stage.model for stage in reader.timeline().stages}
    assert models == {"annotations": ModelTime(busy=20.0, idle=20.0, tokens=4000), "spans": None}
    assert (models["annotations"].share, models["annotations"].tokens_per_second) == (0.5, 100)


def test_a_run_that_finds_all_committed_has_no_timeline(ran):
    ran.pipeline.run(ran.workdir)
    assert status(ran.workdir).timeline is None


def test_a_worker_that_died_is_told_of_with_its_cause_and_its_log(ray_cluster, tmp_path):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    events = Events(Directory.at(tmp_path), Silent())
    watch = ClusterWatch(events)
    watch.start()
    running = Running(None, None, None, None)
    ways = {"kill": UNSAID, "crash": "Segmentation fault", "exit": "it ended itself with exit code 3", "hang": TOO_LONG}
    calls = [running.task(_die, 0, how, stage="a stage", units="a unit") for how in ways]
    for call in calls:
        with pytest.raises(ray.exceptions.RayError):
            ray.get(call)
    until = time.monotonic() + 20
    died = []
    while len(died) < len(ways) and time.monotonic() < until:
        watch.look()
        died = [event for event in events._pending if event["event"] == "died"]
        time.sleep(0.2)
    watch.look()
    assert [event for event in events._pending if event["event"] == "died"] == died, "they are told of once"
    assert sorted(event["why"] for event in died) == sorted(ways.values())
    [event] = [event for event in died if event["why"] == UNSAID]
    place = Path(event["log"])
    [log] = place.parent.glob(place.name)
    assert "last words" in log.read_text() and log.name.endswith(f"-{event['pid']}.err")


def test_logs_are_read_on_the_nodes_that_they_are_on(tmp_path, monkeypatch):
    asked = []

    def on_each_node(question, seconds, only, strict):
        asked.append(set(only))
        assert not strict
        return {node: question() for node in only if node != "lost"}

    (tmp_path / "worker-a-01-7.err").write_text(
        "text\nterminate called after throwing an instance of 'std::bad_alloc'\n"
    )
    (tmp_path / "worker-b-01-8.err").write_text("Timeout (0:00:08)!\nThread 0x1 (most recent call first):\n")
    (tmp_path / "worker-c-01-9.err").write_text("Fatal Python error: Bus error\n" + "x" * last_words.READ)
    broken = f"{BROKEN}: RuntimeError: CUDA error: device-side assert triggered"
    (tmp_path / "worker-e-01-5.err").write_text(f"Traceback (most recent call last):\n{broken}\n")
    own = SimpleNamespace(get_node_id=lambda: "own")
    monkeypatch.setattr(last_words.ray, "get_runtime_context", lambda: own)
    monkeypatch.setattr(last_words.nodes, "on_each_node", on_each_node)
    names = ("a-*-7", "b-*-8", "c-*-9", "d-*-10", "e-*-5")
    a, b, c, gone, e = (str(tmp_path / f"worker-{name}.err") for name in names)
    found = last_words.last_words({"own": [a, e], "other": [b, c], "lost": [gone]})
    assert asked == [{"other", "lost"}] and gone not in found
    assert found == {
        a: "terminate called after throwing an instance of 'std::bad_alloc'",
        b: TOO_LONG,
        c: UNSAID,
        e: broken,
    }


def test_an_error_of_a_call_says_where_it_was_and_where_the_log_is(ray_cluster, tmp_path):
    def broken(table):
        print("last words", file=sys.stderr, flush=True)
        raise ZeroDivisionError("broken")

    corpus = support.write_corpus(tmp_path / "corpus", shards=1, documents=5)
    scores = score(Split(Corpus(corpus)), [PythonScorer(function=broken, axes=["a"], version="1")])
    with pytest.raises(AnnotateError, match="broken"):
        Pipeline(scores[0]).run(tmp_path / "out")
    assert "broken" in status(tmp_path / "out").error
    running = Running(None, None, None, None)
    with pytest.raises(ray.exceptions.RayError, match=r"In process \d+ on the node .*; its log there: ") as error:
        ray.get(running.task(_fail, 0, stage="a stage", units="a unit"))
    place = Path(str(error.value).partition("its log there: ")[2].splitlines()[0])
    [log] = place.parent.glob(place.name)
    assert "last words" in log.read_text()


def test_a_run_that_lost_a_worker_tells_of_it(ray_cluster, tmp_path):
    tally.taken()  # what other tests have counted in this process
    once = str(tmp_path / "killed")

    def dies_once(table):
        if not Path(once).exists():
            Path(once).touch()
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), 9)
        return np.zeros(table.num_rows, np.float32)

    corpus = support.write_corpus(tmp_path / "corpus", shards=1, documents=5)
    scores = score(Split(Corpus(corpus)), [PythonScorer(function=dies_once, axes=["a"], version="1")])
    Pipeline(scores[0]).run(tmp_path / "out")
    timeline = status(tmp_path / "out").timeline
    assert timeline.retries == {"lost worker": 1}
    [death] = timeline.deaths
    assert (death.why, death.number) == (UNSAID, 1)
    place = Path(death.log)
    assert any("last words" in log.read_text() for log in place.parent.glob(place.name))


def test_a_warning_of_workers_is_heard_once(ray_cluster, tmp_path):
    def warns(table):
        tally.say("speed", f"slow on {len(table)} spans")
        return np.zeros(len(table), np.float32)

    heard = []

    class Hears(Silent):
        def said(self, level, message):
            heard.append((level, message))

    spans = Split(Corpus(support.write_corpus(tmp_path / "corpus", shards=3), unit_bytes=2000))
    Pipeline(*score(spans, [PythonScorer(function=warns, axes=["loud"])])).run(tmp_path / "out", observer=Hears())
    [(level, message)] = [each for each in heard if "slow on" in each[1]]
    assert level == "warning"
    assert message.startswith("annotations (loud): slow on ")


def test_names_in_ray_have_stage_and_step_and_titles_of_processes_the_unit_too(ray_cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    running = Running(None, None, None, None)
    told = ray.get(running.task(_names, 0, stage="a stage", units="s0[0:3]\x1b"))
    assert told.result == ("a stage: _names", "ray::a stage: _names s0[0:3]?")
    told = ray.get(running.task(_titles, 0, ["a", "b"], stage="a stage", units="a and 1 more"))
    assert told.result == [f"ray::a stage: _titles a and 1 more, now {number} of 2" for number in (1, 2)]


def test_of_a_call_with_several_units_that_which_is_worked_on_is_told(ray_cluster, tmp_path):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    running, go_on = Running(None, None, None, None), tmp_path / "go on"
    units, named = ["s0[0:3]", "s0[3:6]\x1b", "s0[6:9]"], {"stage": "stages (a, b)", "units": "s0[0:3] and 2 more"}
    call = running.task(_stops_at_the_second, 0, units, str(go_on), **named)
    calls = [["s0[0:30]", "other", "others"], units, ["alone"], ["alone"], units[:2]]
    until, found = time.monotonic() + 60, []
    while "s0[3:6]\x1b (2 of 3 in its call)" not in found and time.monotonic() < until:
        found = at_work("stages (a, b)", calls)
    go_on.touch()
    assert found == [*calls[0], "s0[3:6]\x1b (2 of 3 in its call)", "alone", *units[:2]]
    ray.get(call)
    assert at_work("stages (a, b)", [units]) == units == at_work("stages", [units])


def _stops_at_the_second(units, go_on):
    for unit in in_turn(units):
        while unit == units[1] and not Path(go_on).exists():
            time.sleep(0.05)


def _names():
    return ray.get_runtime_context().get_task_name(), _title()


def _titles(units):
    return [_title() for _ in in_turn(units)]


def _title():
    return Path("/proc/self/cmdline").read_bytes().strip(b"\0 ").decode()


def _fail():
    print("last words", file=sys.stderr, flush=True)
    raise ValueError("no")


def _die(how):
    print("last words", file=sys.stderr, flush=True)
    if how == "crash":
        ctypes.string_at(0)
    if how == "exit":
        sys.exit(3)
    if how == "hang":
        with limited(0.2):
            time.sleep(60)
    os.kill(os.getpid(), 9)


def test_nodes_that_go_and_come_are_told_of(tmp_path, monkeypatch):
    node = lambda name, alive: {"NodeID": name * 10, "NodeManagerAddress": "10.0.0.1", "Alive": alive}  # noqa: E731
    seen = [node("a", True), node("b", True)]
    for module in (cluster_watch, nodes):
        monkeypatch.setattr(module, "ray", SimpleNamespace(nodes=lambda: seen))
    monkeypatch.setattr(cluster_watch, "dead_workers", list)
    events = Events(Directory.at(tmp_path), Silent())
    watch = ClusterWatch(events)
    watch.start()
    watch.look()
    seen = [node("a", True), node("b", False), node("c", True)]
    watch.look()
    [event] = events._pending
    assert (event["event"], event["lost"], event["joined"]) == (
        "nodes",
        ["10.0.0.1 (bbbbbb)"],
        ["10.0.0.1 (cccccc)"],
    )
