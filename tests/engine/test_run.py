"""Whole runs on a real local Ray: what is written, and what is not done twice."""

import itertools
import json
import shutil
import subprocess
import sys

import polars as pl
import pytest
from support import TWO_SCORERS, pipeline, rows_scored, shard_bytes, write_corpus

from annotate import (
    ConfigError,
    Corpus,
    InputError,
    Options,
    Pipeline,
    Place,
    Render,
    Split,
    StorageError,
    Tag,
    TagScheme,
    score,
    shards,
)
from annotate.engine import cluster, pool
from annotate.engine.events import Silent
from annotate.engine.lease import hold
from annotate.engine.rescore import drop, to_drop
from annotate.scorers import fake_scorer
from annotate.stages.score import Score
from annotate.storage.latest import read_latest
from annotate.storage.manifests import missing_parts, read_manifest
from annotate.storage.store import Directory
from annotate.tags.rendering import strip


class Told(Silent):
    """Keeps what a run tells."""

    def __init__(self):
        self.ran, self.found, self.warnings, self.infos, self.details = [], [], [], [], {}

    def started(self, stage, units, detail):
        self.ran.append(stage)
        self.details[stage] = (units, detail)

    def finished(self, stage, detail):
        if stage not in self.ran:
            self.found.append(stage)

    def said(self, level, message):
        (self.warnings if level == "warning" else self.infos).append(message)


@pytest.fixture(scope="module")
def finished(ray_cluster, tmp_path_factory):
    """A corpus and the work directory of a run over it, to be copied: a work directory can be moved."""
    folder = tmp_path_factory.mktemp("finished")
    write_corpus(folder / "corpus")
    run(folder, folder / "corpus")
    return folder


@pytest.fixture
def corpus(finished, tmp_path):
    """A copy of the finished run, in `tmp_path / "out"`; gives its corpus."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "corpus"


def run(tmp_path, corpus, name="out", options=None, **changes):
    told = Told()
    made = pipeline(corpus, tmp_path / "calls", **{"axes": TWO_SCORERS, **changes})
    result = made.run(str(tmp_path / name), options or Options(workers=2), told)
    return result, told


def test_shards_hold_every_kept_document_and_its_columns(ray_cluster, tmp_path, corpus):
    result, _ = run(tmp_path, corpus, quantile=0.6)
    written = pl.read_parquet(shards(tmp_path / "out"))
    source = pl.read_parquet(corpus / "*.parquet")
    assert written["id"].to_list() == [i for i in source["id"] if i in set(written["id"])]
    assert written.columns == ["id", "text", "placements", "source"]
    assert result.ledger.documents == len(source) == 90
    assert sum(result.ledger.states.values()) == 90
    assert result.ledger.states["written"] == len(written)
    assert result.ledger.states["near_duplicate"] == 6
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["shards"]["documents"] == 90


def test_taking_the_placements_out_gives_back_the_text(ray_cluster, tmp_path, corpus):
    written = pl.read_parquet(shards(tmp_path / "out"))
    placed = (
        written.with_row_index("row")
        .select(pl.col("row").cast(pl.Int64), "placements")
        .explode("placements")
        .drop_nulls()
        .unnest("placements")
    )
    assert len(placed) > 100
    stripped = strip(written["text"].to_arrow(), placed.to_arrow())
    source = {r["id"]: r["text"] for r in pl.read_parquet(corpus / "*.parquet").to_dicts()}
    assert stripped.to_pylist() == [source[i] for i in written["id"]]


def test_a_second_run_does_nothing(ray_cluster, tmp_path, corpus):
    scored = rows_scored(tmp_path / "calls")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/parts/*")}
    _, told = run(tmp_path, corpus)
    assert told.ran == []
    assert rows_scored(tmp_path / "calls") == scored
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/parts/*")} == before


@pytest.mark.parametrize("change", [{"quantile": 0.9}, {"part_bytes": 20_000}, {"spelled": "keep"}])
def test_another_scheme_or_rendering_scores_nothing(ray_cluster, tmp_path, corpus, change):
    scored = rows_scored(tmp_path / "calls")
    _, told = run(tmp_path, corpus, **change)
    assert rows_scored(tmp_path / "calls") == scored
    assert "text-shards" in told.ran


def test_another_axis_scores_only_that_axis(ray_cluster, tmp_path, corpus):
    scored = rows_scored(tmp_path / "calls")
    _, told = run(tmp_path, corpus, axes=(("niceness",), ("tone", "correctness"), ("humour",)))
    assert rows_scored(tmp_path / "calls") - scored == scored / 2
    assert [stage for stage in told.ran if stage.startswith("annotations")] == ["annotations (humour)"]


def test_another_shard_scores_only_that_shard(ray_cluster, tmp_path, corpus):
    result, _ = run(tmp_path, corpus)
    spans = result.ledger.beside["spans"]
    scored = rows_scored(tmp_path / "calls")
    write_corpus(corpus, shards=1, start=3)
    result, _ = run(tmp_path, corpus)
    new = rows_scored(tmp_path / "calls") - scored
    assert 0 < new <= 2 * (result.ledger.beside["spans"] - spans)


def test_another_duplicate_threshold_scores_only_newly_kept_documents(ray_cluster, tmp_path, corpus):
    first, _ = run(tmp_path, corpus)
    scored = rows_scored(tmp_path / "calls")
    second, _ = run(tmp_path, corpus, threshold=0.99)
    assert second.ledger.states["near_duplicate"] < first.ledger.states["near_duplicate"]
    new_spans = second.ledger.beside["spans"] - first.ledger.beside["spans"]
    assert rows_scored(tmp_path / "calls") - scored == 2 * new_spans > 0
    third, told = run(tmp_path, corpus)
    assert rows_scored(tmp_path / "calls") - scored == 2 * new_spans
    assert told.ran == []
    assert third.ledger == first.ledger


def test_equal_bytes_for_one_two_and_three_workers(ray_cluster, tmp_path, corpus, monkeypatch):
    written, asked = [], []
    close = pool.Pool.close
    monkeypatch.setattr(pool.Pool, "close", lambda models: asked.append(models.resources.workers) or close(models))
    for workers in (1, 2, 3):
        run(tmp_path, corpus, name=f"out-{workers}", options=Options(workers=workers), groups=True)
        written.append(shard_bytes(tmp_path / f"out-{workers}"))
    assert len(written[0]) > 1
    assert written[0] == written[1] == written[2]
    assert asked == [1, 1, 2, 2, 3, 3]  # models, of two scorers in each run


def test_moving_corpus_and_work_directory_changes_nothing(ray_cluster, tmp_path, corpus):
    corpus.rename(tmp_path / "moved")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    _, told = run(tmp_path, tmp_path / "moved", name="elsewhere")
    assert told.ran == []


def test_a_limit_reaches_the_first_units_of_each_shard_and_keeps_their_scores(ray_cluster, tmp_path, corpus):
    shutil.rmtree(tmp_path / "calls")
    limited, _ = run(tmp_path, corpus, name="limited", options=Options(workers=2, limit=20))
    reached = 90 - limited.ledger.states["not_reached"]
    assert 20 <= reached < 60
    scored = rows_scored(tmp_path / "calls")
    full, _ = run(tmp_path, corpus, name="limited")
    assert full.ledger.states["not_reached"] == 0
    # No span is scored twice, those of documents included that only the full run finds to be near-duplicates.
    spans = full.datasets["spans"].rows
    assert rows_scored(tmp_path / "calls") <= 2 * spans
    assert scored + 2 * full.ledger.beside["spans"] > 2 * spans


def test_a_deleted_shard_is_made_again_with_equal_bytes(ray_cluster, tmp_path, corpus):
    before = shard_bytes(tmp_path / "out")
    lost = next((tmp_path / "out").glob("text-shards-*/parts/*"))
    lost.unlink()
    scored = rows_scored(tmp_path / "calls")
    _, told = run(tmp_path, corpus)
    assert told.ran == ["text-shards"]
    assert shard_bytes(tmp_path / "out") == before
    assert rows_scored(tmp_path / "calls") == scored


def test_a_damaged_annotation_part_stops_the_run_and_is_healed_when_deleted(ray_cluster, tmp_path, corpus):
    before = shard_bytes(tmp_path / "out")
    part = max((tmp_path / "out").glob("annotations-*/parts/*"), key=lambda p: p.stat().st_size)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=part.name):
        run(tmp_path, corpus, quantile=0.9)
    part.unlink()
    run(tmp_path, corpus, quantile=0.9)
    run(tmp_path, corpus)
    assert shard_bytes(tmp_path / "out") == before


@pytest.mark.parametrize("workers", [None, 2])
def test_without_ray_an_error_says_so(tmp_path, workers):
    write_corpus(tmp_path / "corpus", shards=1)
    code = (
        "import pathlib, support, annotate\n"
        f"options = annotate.Options(workers={workers})\n"
        "support.pipeline(pathlib.Path('corpus'), pathlib.Path('calls')).run('out', options)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigError: Ray is not running" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_stage_that_goes_on_tells_at_its_start_of_units_that_are_committed(ray_cluster, tmp_path, corpus):
    """Where all that it reads is there: what a run makes before may have other units."""
    out = tmp_path / "out"
    later = ["calibration", "thresholds", "placements", "text-shards"]

    def goes_on(name, *lost):
        for stage in (name, *later):
            for path in out.glob(f"{stage}-*/manifests/*.json"):
                path.unlink()
        for path in lost:
            path.unlink()
        return run(tmp_path, corpus)[1].details

    units = len(list(out.glob("spans-*/units/*")))
    scored = rows_scored(tmp_path / "calls")
    assert goes_on("spans")["spans"] == (units, f"{units} committed before")
    lost = list(out.glob("verdicts-*/units/*"))[:2]
    assert goes_on("verdicts", *lost)["verdicts"] == (units, f"{units - 2} committed before")
    told = goes_on("annotations")
    assert told["annotations (niceness)"] == (units, f"{units} committed before; 2 models, CPU")
    assert rows_scored(tmp_path / "calls") == scored
    _, told = run(tmp_path, corpus, name="new")
    assert told.details["spans"] == (units, "")


def test_two_outputs_keep_their_datasets_and_groups_run_before_their_readers(ray_cluster, tmp_path):
    corpus = Corpus(str(write_corpus(tmp_path / "corpus", shards=1)), unit_bytes=2000)
    scores = score(Split(corpus), scorers=[fake_scorer(axes=("niceness",)), fake_scorer(axes=("tone",))])
    outputs = {}
    for stage, axis in zip(scores, ("niceness", "tone"), strict=True):
        scheme = TagScheme(tags=(Tag(name=axis, rule=f"{axis} >= q(0.5)"),))
        outputs[axis] = Render(Place([stage], scheme))
    result = Pipeline(**outputs).run(str(tmp_path / "out"), Options(workers=1))
    latest = read_latest(Directory.at(tmp_path / "out"))
    assert len(latest) == len(result.datasets) == len({item.label for item in latest})
    assert any("<niceness>" in t for t in pl.read_parquet(shards(tmp_path / "out", "niceness"))["text"])
    assert any("<tone>" in t for t in pl.read_parquet(shards(tmp_path / "out", "tone"))["text"])
    with pytest.raises(StorageError, match=r"(?s)several outputs: niceness, tone.*--output niceness in a command"):
        shards(tmp_path / "out")


def test_a_lost_part_of_a_topped_up_unit_is_made_again(ray_cluster, tmp_path, corpus):
    first = shard_bytes(tmp_path / "out")
    run(tmp_path, corpus, threshold=0.99)
    topped = shard_bytes(tmp_path / "out")
    for path in (tmp_path / "out").glob("annotations-*/units/*-0"):
        entry = json.loads(path.read_text())
        (path.parents[1] / entry["part"]["path"]).unlink()
    run(tmp_path, corpus, threshold=0.99, quantile=0.9)
    run(tmp_path, corpus, threshold=0.99)
    assert shard_bytes(tmp_path / "out") == topped
    run(tmp_path, corpus)
    assert shard_bytes(tmp_path / "out") == first


def below(workdir, *folders):
    """All files below some folders of a work directory, with their contents."""
    paths = [p for folder in folders for p in workdir.glob(f"{folder}/**/*") if p.is_file()]
    return {str(p.relative_to(workdir)): p.read_bytes() for p in paths}


def test_rescoring_after_a_top_up_gives_what_a_new_work_directory_does(ray_cluster, tmp_path, corpus):
    for changes in ({"quantile": 0.9}, {}):
        run(tmp_path, corpus, threshold=0.99, **changes)
    run(tmp_path, corpus, name="new", threshold=0.99)
    made = below(tmp_path / "out", "annotations-*")
    assert made != below(tmp_path / "new", "annotations-*")
    scored = rows_scored(tmp_path / "calls")
    result, told = run(tmp_path, corpus, threshold=0.99, options=Options(workers=2, rescore=True))
    size = sum(len(data) for path, data in made.items() if "dataset.json" not in str(path))  # that stays
    assert told.infos == [f"scores dropped: 2 of 2 annotation datasets, {size / 1000:.1f} kB"]
    assert rows_scored(tmp_path / "calls") - scored == 2 * result.ledger.beside["spans"]
    assert "text-shards" in told.ran and not {"spans", "verdicts"} & set(told.ran)
    assert below(tmp_path / "out", "annotations-*") == below(tmp_path / "new", "annotations-*")
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "new")
    # Nor does another pipeline find the shards that it once made from the scores that went.
    _, told = run(tmp_path, corpus, threshold=0.99, quantile=0.9)
    assert "text-shards" in told.ran and not any(stage.startswith("annotations") for stage in told.ran)


def granted() -> None:
    """The lease is held."""


def test_a_drop_of_scores_that_was_cut_short_is_finished_by_the_next_run(ray_cluster, tmp_path, corpus, monkeypatch):
    workdir = Directory.at(tmp_path / "out")
    stages = pipeline(corpus, tmp_path / "calls", axes=TWO_SCORERS).stages()
    names = to_drop(workdir, stages, rescore=True)
    whole = shutil.copytree(tmp_path / "out", tmp_path / "whole")
    assert drop(Directory.at(whole), names, granted)[0] == len(names) == 2
    assert to_drop(Directory.at(whole), stages, rescore=False) == {}
    delete, left = Directory.delete, 0

    def killed(self, paths):
        nonlocal left
        left -= 1
        delete(self, paths[: len(paths) // 2] if left == 0 else paths)
        if left == 0:
            raise KeyboardInterrupt

    for steps in itertools.count(1):
        cut = Directory.at(shutil.copytree(tmp_path / "out", tmp_path / f"cut-{steps}"))
        left = steps
        monkeypatch.setattr(Directory, "delete", killed)
        try:
            drop(cut, names, granted)
            break
        except KeyboardInterrupt:
            monkeypatch.undo()
        for path in cut.local.glob("*/manifests/*.json"):
            dataset = cut.child(path.parents[1].name)
            if path.parents[1].name in names:  # others are held to what they read by their fingerprints
                assert not missing_parts(dataset, read_manifest(dataset, path.stem))
        again = to_drop(cut, stages, rescore=False)
        drop(cut, again, granted)
        assert below(cut.local, "*") == below(whole, "*")
    monkeypatch.undo()
    assert steps > 6
    left = 4
    monkeypatch.setattr(Directory, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        drop(workdir, names, granted)
    monkeypatch.undo()
    scored = rows_scored(tmp_path / "calls")
    _, told = run(tmp_path, corpus)
    assert rows_scored(tmp_path / "calls") == 2 * scored and "scores dropped" in told.infos[0]


def test_rescoring_drops_nothing_where_the_corpus_cannot_be_read_or_the_models_have_no_room(
    ray_cluster, tmp_path, corpus
):
    before = below(tmp_path / "out", "annotations-*")
    with pytest.raises(ConfigError, match="has no GPU"):
        run(tmp_path, corpus, options=Options(workers=2, rescore=True, device="cuda"))
    shard = sorted(corpus.iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"not a readable|truncated|can't be read"):
        run(tmp_path, corpus, options=Options(workers=2, rescore=True))
    assert before and below(tmp_path / "out", "annotations-*") == before


def test_with_nothing_to_do_that_is_said_and_a_gpu_that_is_not_there_is_still_an_error(ray_cluster, tmp_path, corpus):
    _, told = run(tmp_path, corpus)
    assert told.infos == ["nothing to do: all that the pipeline makes is committed"]
    with pytest.raises(ConfigError, match="has no GPU"):
        run(tmp_path, corpus, options=Options(workers=2, device="cuda"))


def test_what_is_committed_asks_for_no_more_gpus_than_there_are(ray_cluster, tmp_path, corpus, monkeypatch):
    """Its models took four GPUs, on another cluster; here is one."""
    there = [{"CPU": 3.0, "GPU": 1.0}]
    monkeypatch.setattr(cluster, "_there", lambda least=1: there)
    made, told = pipeline(corpus, tmp_path / "calls", axes=TWO_SCORERS), Told()
    for stage in made.stages():
        if isinstance(stage, Score):
            object.__setattr__(stage, "gpus", 4.0)
    made.run(str(tmp_path / "out"), Options(workers=2, device="cuda"), told)
    assert told.infos == ["nothing to do: all that the pipeline makes is committed"]
    before = below(tmp_path / "out", "annotations-*")
    with pytest.raises(ConfigError, match="takes 4 GPUs, but no node has more than 1"):
        made.run(str(tmp_path / "out"), Options(workers=2, device="cuda", rescore=True))
    assert below(tmp_path / "out", "annotations-*") == before


@pytest.mark.parametrize("what", ["run", "rescore"])
def test_rescoring_shares_a_work_directory_with_nobody(ray_cluster, tmp_path, corpus, what):
    before = below(tmp_path / "out", "annotations-*")
    with hold(Directory.at(tmp_path / "out"), "other", share=False, what=what), pytest.raises(StorageError) as caught:
        run(tmp_path, corpus, options=Options(workers=2, rescore=what == "run", share=True))
    assert f"another {what} works in" in caught.value.message and "--share" not in caught.value.hint
    assert below(tmp_path / "out", "annotations-*") == before


def test_a_module_that_workers_lack_is_named_at_once(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "only_here.py").write_text("class Scorer:\n    def __call__(self, table):\n        return None\n")
    import only_here

    from annotate import Corpus, Pipeline, PythonScorer, Split, score

    corpus = write_corpus(tmp_path / "corpus", shards=1)
    scorer = PythonScorer(function=only_here.Scorer, axes=("x",))
    [scores] = score(Split(Corpus(str(corpus))), scorers=[scorer])
    with pytest.raises(ConfigError, match="can't import the module 'only_here'"):
        Pipeline(scores).run(str(tmp_path / "out"), Options(workers=1))


def test_another_column_of_the_corpus_is_another_output_and_no_more_scoring_than_it_needs(ray_cluster, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = [f"The {i}th text of some length. It has two sentences." for i in range(12)]
    table = pl.DataFrame({"text": texts, "body": [t[::-1] for t in texts], "id": [f"a{i}" for i in range(12)]})
    table = table.with_columns(other=pl.col("id").str.replace("a", "b"), n=pl.int_range(12))
    table.write_parquet(corpus / "s.parquet")
    calls = tmp_path / "calls"

    def written(**options):
        result = pipeline(corpus, calls, **options).run(str(tmp_path / "out"), Options(workers=1))
        assert sum(result.ledger.states.values()) == 12
        return pl.read_parquet(shards(tmp_path / "out"))

    assert written(columns=("n",)).columns == ["id", "text", "placements", "n"]
    scored = rows_scored(calls)
    assert written(columns=("other",)).columns == ["id", "text", "placements", "other"]
    assert written(id="other", columns=("n",))["id"][0] == "b0"
    assert rows_scored(calls) == scored
    assert "txet" in written(text="body", columns=("n",))["text"][0]
    assert rows_scored(calls) > scored
