"""A proof from end to end, on made-up shards and models that train in seconds."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Event
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from proof_shards import card_and_tables, tokenizer
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from annotate import PythonScorer
from annotate.cli.prove import command
from annotate.errors import ConfigError, InputError, StorageError
from annotate.proof import runs, timing
from annotate.proof.arms import TRUE
from annotate.proof.likelihoods import Columns, likelihoods
from annotate.proof.material import read_material
from annotate.proof.persistence import FIRST, THEN, further
from annotate.proof.prove import prove
from annotate.proof.runs import WEIGHTS, Run, Work, complete_models, do_all
from annotate.proof.training import STATE, Progress, Recipe
from annotate.storage.latest import Role

SMALL = {"width": 32, "layers": 1, "learning_rate": 1e-2, "jobs": 1, "checkpoints": 3, "texts": 40}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_tags_that_words_tell_are_learned(made, tmp_path: Path) -> None:
    told: list[str] = []
    proof = prove(made.folder, tmp_path / "proof", steps=80, seeds=1, full=True, tell=told.append, **SMALL)
    assert [each.outcome for each in proof.verdicts] == ["learned", "learned"]
    assert all(gate.passed for gate in proof.gates) and len(proof.gates) == 4
    (family,) = proof.families
    last = family.steps[-1]
    assert last.step == 80 and last.difference.low > 2 and last.accuracy > 0.9 > last.accuracy_shuffled
    assert last.gain_difference is not None and last.gain_difference.above_zero
    assert last.gain.value - last.gain_shuffled.value == pytest.approx(last.gain_difference.value)
    assert last.share_of_bound == pytest.approx(last.gain_difference.value / family.entropy)
    assert abs(family.random_tags.value) < 0.5 * last.true.value
    assert [each.arm for each in proof.in_part] == ["first half", "last half", "cooldown", "ramp", "1 %", "10 %"]
    assert {*proof.curves} == {"true", "shuffled", "no tags", *(each.arm for each in proof.in_part)}
    assert proof.curves["true"][-1] < proof.curves["no tags"][-1] < proof.curves["true"][0]
    assert sum("in all, if as many cores are free" in line for line in told) == 1
    (written,) = proof.judged.families
    assert proof.judged.texts == 40 and proof.judged.left_out == (0, 0)
    for tag in written.tags:
        assert tag.difference.above_zero and tag.corpus.above_zero and 0.3 < tag.fidelity < 1.5
        assert abs(tag.shuffled.value) < 0.3 * tag.true.value and tag.highest > tag.highest_shuffled
    (left,) = proof.persistence.families
    assert proof.persistence.steps == 20 and left.gap.before.value == pytest.approx(last.true.value)
    assert 0 < left.gap.share.value < 1.1 and left.judged.share.value > 0
    names = {path.name for path in (tmp_path / "proof").iterdir()}
    assert names >= {"proof.json", "proof.md", "learning.svg", "sharpening.svg", "written.svg", "runs"}
    said = (tmp_path / "proof" / "proof.md").read_text()
    assert "**<high>: learned.**" in said and "nan" not in said

    before = json.loads((tmp_path / "proof" / "proof.json").read_text())
    told.clear()
    prove(made.folder, tmp_path / "proof", steps=80, seeds=1, full=True, tell=told.append, **SMALL)
    after = json.loads((tmp_path / "proof" / "proof.json").read_text())
    assert "all models are trained" in told
    for each in (before, after):
        del each["about"]["seconds of this call"]
    assert before == after

    with pytest.raises(ConfigError, match="has a proof with steps 80, not 81"):
        prove(made.folder, tmp_path / "proof", steps=81, **SMALL)
    with (tmp_path / "proof" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process works on"):
            prove(made.folder, tmp_path / "proof", steps=80, **SMALL)


def test_tags_that_nothing_tells_are_not_learned(empty, tmp_path: Path) -> None:
    """Here the true tags are drawn by lot."""
    card, tables = card_and_tables(300, cue=0.0, window=64)
    empty.add("train", card, tables, subset="train")
    empty.add("held_out", card, card_and_tables(300, cue=0.0, window=64, seed=5, parts=1)[1], subset="evaluation")
    proof = prove(empty.folder, tmp_path / "proof", steps=30, seeds=2, tell=lambda line: None, **SMALL)
    assert "learned" not in [each.outcome for each in proof.verdicts]
    last = proof.families[0].steps[-1]
    assert last.difference.low < 0 and last.gain is None  # no tag was left out by chance


def work_of(folder: Path, out: Path, steps: int = 6) -> Work:
    return Work(
        material=read_material(folder),
        recipe=Recipe(width=32, layers=1, batch=4, steps=steps, checkpoints=2),
        folder=out,
        device="cpu",
        arms=(TRUE,),
    )


def test_a_checkpoint_is_a_model_of_transformers(made, tmp_path: Path) -> None:
    work, run = work_of(made.folder, tmp_path), Run(arm=TRUE, seed=0)
    do_all(work, [run], 1, lambda run, progress: None)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "true-0" / "model-0000006")
    columns = Columns(families=work.material.families)
    found = likelihoods(model, work.rows(), len(work.material.measured.of_spans), columns)
    np.testing.assert_allclose(found, work.read(run)[-1], atol=1e-4)


def test_the_tokenizer_lies_beside_each_model_and_is_added_to_those_of_older_versions(made, tmp_path: Path) -> None:
    work, run = work_of(made.folder, tmp_path), Run(arm=TRUE, seed=0)
    do_all(work, [run], 1, lambda run, progress: None)
    model = tmp_path / "true-0" / "model-0000006"
    names = ["tags.json", "tokenizer.json", "tokenizer_config.json"]
    assert AutoTokenizer.from_pretrained(model).tokenize("w1 up0 .") == ["w1", "up0", "."]
    assert sorted({path.name for path in model.iterdir()} - {"config.json", "model.safetensors"}) == names
    before = {name: (model / name).read_bytes() for name in names}
    for name in names:
        (model / name).unlink()
    complete_models(work)
    assert {name: (model / name).read_bytes() for name in names} == before
    assert json.loads(before["tags.json"])["tags"][0]["name"] == "high"


def test_checkpoints_that_other_code_measured_are_measured_again_from_their_models(made, tmp_path, monkeypatch) -> None:
    work, run = work_of(made.folder, tmp_path), Run(arm=TRUE, seed=0)
    do_all(work, [run], 1, lambda run, progress: None)
    before = work.read(run)
    monkeypatch.setattr(runs, "MEASURING", runs.MEASURING + 1)
    assert not work.done(run)
    told = []
    do_all(work, [run], 1, lambda run, progress: told.append(progress))
    assert not told  # nothing is trained again
    np.testing.assert_array_equal(work.read(run), before)


def test_models_of_older_versions_write_texts_and_are_not_trained_again(made, tmp_path: Path) -> None:
    """These trained without texts; then more texts are asked for."""
    run, folder = Run(arm=TRUE, seed=0), tmp_path / "true-0"
    do_all(work_of(made.folder, tmp_path), [run], 1, lambda run, progress: None)
    (folder / STATE).unlink()  # not even this is needed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    told = []
    for n in (5, 8):
        work = replace(work_of(made.folder, tmp_path), texts=n)
        assert not work.done(run)
        do_all(work, [run], 1, lambda run, progress: told.append(progress))
        assert work.done(run) and work.read_texts(run).shape[:2] == (3, n)
    assert not told and {path: path.stat().st_mtime_ns for path in before} == before
    table = pq.read_table(work.texts_file(run))
    assert table["tag"].to_pylist() == ["high"] * 8 + ["low"] * 8 + [None] * 8
    assert set(table["seed"].to_pylist()) == {0} and all(table["text"].to_pylist())
    first = tokenizer().decode(table["tokens"][0].as_py())
    assert table["text"][0].as_py() == first and len(first.split()) > 1
    shutil.rmtree(folder / "model-0000006")
    with pytest.raises(ConfigError, match=r"has no model\.safetensors any more") as gone:
        do_all(replace(work, texts=9), [run], 1, lambda run, progress: None)

    assert "--texts 0" in str(gone.value.hint)
    do_all(replace(work, texts=0), [run], 1, lambda run, progress: None)  # and so it goes on


def test_training_on_without_tags_goes_on_from_the_last_model_and_after_a_kill(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("annotate.proof.training.SAVED_EVERY", 0.0)  # each step is saved
    found = {}
    for name in ("whole", "killed"):
        work = replace(work_of(made.folder, tmp_path / name, steps=12), texts=3)
        do_all(work, [FIRST], 1, lambda run, progress: None)
        later = further(work)
        assert (later.recipe.steps, later.recipe.learning_rate) == (3, work.recipe.learning_rate / 4)

        def tell(run: Run, progress: Progress) -> None:
            raise KeyboardInterrupt

        if name == "killed":
            with pytest.raises(KeyboardInterrupt):
                do_all(later, [THEN], 1, tell)
        do_all(later, [THEN], 1, lambda run, progress: None)
        assert later.done(THEN)
        found[name] = [later.model_folder(THEN, 3) / "model.safetensors", later.texts_file(THEN)]
        before, after = (load_file(path) for path in (work.model_folder(FIRST, 12) / WEIGHTS, found[name][0]))
        moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
        assert all(0 < most < 0.05 for most in moved.values()), moved
    for one, other in zip(*found.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_proof_without_texts_or_with_a_judge_of_its_own(made, tmp_path: Path) -> None:
    sizes = {**SMALL, "checkpoints": 1, "steps": 4, "seeds": 1}
    proof = prove(made.folder, tmp_path / "proof", **{**sizes, "texts": 0})
    assert proof.judged is None and not (tmp_path / "proof" / "written.svg").exists()
    assert "Texts written" not in (tmp_path / "proof" / "proof.md").read_text()
    judge = PythonScorer(function=words, axes=("words",))
    proof = prove(made.folder, tmp_path / "proof", judge=judge, **{**sizes, "texts": 5})
    assert "'words'" in proof.judged.judge and proof.judged.families[0].tags[0].highest is None
    assert any("highest of 25 is not known" in remark for remark in proof.remarks)
    with pytest.raises(ConfigError, match="texts is at least 0"):
        prove(made.folder, tmp_path / "proof", **{**sizes, "texts": -1})
    with pytest.raises(ConfigError, match="no probe named 'nicety'"):
        prove(made.folder, tmp_path / "other", judge="nicety", **sizes)
    with pytest.raises(ConfigError, match="nothing to judge: texts is 0"):
        prove(made.folder, tmp_path / "other", judge=judge, **{**sizes, "texts": 0})
    assert not (tmp_path / "other").exists()  # before anything is trained
    nothing = PythonScorer(function=no_words, axes=("words",))
    with pytest.raises(ConfigError, match="can score no text"):
        prove(made.folder, tmp_path / "other", judge=nothing, **sizes)
    assert not (tmp_path / "other" / "runs").exists()


def test_a_proof_whose_judge_fails_at_the_end_is_reported_without_it(made, tmp_path: Path) -> None:
    sizes = {**SMALL, "checkpoints": 1, "steps": 4, "seeds": 1}
    told: list[str] = []
    judge = PythonScorer(function=few_words, axes=("words",))
    proof = prove(made.folder, tmp_path / "proof", judge=judge, tell=told.append, **sizes)
    assert proof.judged is None and any("no texts were judged: the judge" in remark for remark in proof.remarks)
    said = (tmp_path / "proof" / "proof.md").read_text()
    assert "no texts were judged: the judge" in said and "## Cost to untagged text" in said
    assert any("texts and held-out spans: about" in line for line in told)


def no_words(table: pa.Table) -> np.ndarray:
    return np.full(table.num_rows, np.nan, np.float32)


def few_words(table: pa.Table) -> np.ndarray:
    """Scores no more texts than are tried before the training."""
    return words(table) if table.num_rows <= timing.TIMED_TEXTS else no_words(table)


def words(table: pa.Table) -> np.ndarray:
    return np.array([len(text.split()) for text in table["text"].to_pylist()], np.float32)


def test_a_proof_on_the_text_that_was_trained_on_ends(empty) -> None:
    card, tables = card_and_tables(200)
    empty.add("train", card, tables, subset="train")
    empty.add("held_out", card, tables, subset="evaluation")
    with pytest.raises(InputError, match="leaves no text to measure"):
        read_material(empty.folder)


def test_all_that_processes_tell_is_told(made, tmp_path, monkeypatch) -> None:
    """Here the processes end at once, all before the first line is read."""

    class Pool:
        def __init__(self, jobs, context, *, initializer, initargs) -> None:
            self.queue = initargs[1]

        def __enter__(self):
            return self

        def __exit__(self, *raised) -> None:
            pass

        def submit(self, function, run: Run) -> Future:
            self.queue.put((run, Progress(step=6, steps=6, loss=0.0)))
            done: Future = Future()
            done.set_result(None)
            return done

    monkeypatch.setattr(runs, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(runs.multiprocessing, "get_context", lambda name: SimpleNamespace(Queue=Queue, Event=Event))
    told: list[str] = []
    three = [Run(arm=TRUE, seed=seed) for seed in range(3)]
    do_all(work_of(made.folder, tmp_path), three, 3, lambda run, progress: told.append(run.name))
    assert sorted(told) == ["true-0", "true-1", "true-2"]


def test_on_a_cpu_a_model_is_trained_and_timed_by_one_thread(made, tmp_path, monkeypatch) -> None:
    seen: list[int] = []
    step = timing.train_step
    monkeypatch.setattr(
        timing, "train_step", lambda *given, **more: (seen.append(torch.get_num_threads()), step(*given, **more))
    )
    monkeypatch.setattr(runs, "train", lambda *given, **more: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    work = work_of(made.folder, tmp_path)
    found = timing.timed(work)
    do_all(work, [Run(arm=TRUE, seed=0)], 1, lambda run, progress: None)
    assert seen == [1] * len(seen) and len(seen) > 1
    assert torch.get_num_threads() == 2
    assert found.step > 0 and found.texts == 0  # none are asked for


def test_a_proof_of_a_few_documents_ends(empty) -> None:
    card, tables = card_and_tables(60, parts=1)
    empty.add("train", card, tables, subset="train")
    empty.add("held_out", card, card_and_tables(5, seed=5, parts=1)[1], subset="evaluation")
    with pytest.raises(InputError, match=r"leaves \d documents to measure, and intervals need 10"):
        read_material(empty.folder)


def test_a_model_that_diverged_is_named(made, tmp_path: Path) -> None:
    sizes = {**SMALL, "checkpoints": 1, "learning_rate": 1e30}
    for texts, what in ((40, "logits"), (0, "log-likelihoods")):
        with pytest.raises(ConfigError, match=f"the {what} of true-0 at step 6 are no finite numbers"):
            prove(made.folder, tmp_path / "proof", steps=6, seeds=1, **{**sizes, "texts": texts})


@pytest.mark.slow
def test_processes_train_the_same_models(made, tmp_path: Path) -> None:
    two = [Run(arm=TRUE, seed=seed) for seed in (0, 1)]
    told: list[tuple[str, int]] = []
    for jobs in (1, 2):
        work = work_of(made.folder, tmp_path / str(jobs))
        do_all(work, two, jobs, lambda run, progress: told.append((run.name, progress.step)))
    for run in two:
        name = f"{run.name}/model-0000006/model.safetensors"
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert told.count(("true-0", 6)) == 2


def test_a_process_that_is_told_to_stop_does_and_one_goes_on(made, tmp_path: Path, monkeypatch) -> None:
    work, run, queue, stop = work_of(made.folder, tmp_path), Run(arm=TRUE, seed=0), Queue(), Event()
    monkeypatch.setattr("annotate.proof.runs.signal.signal", lambda *given: None)
    monkeypatch.setattr("annotate.proof.runs._end_with", lambda parent: None)
    runs._begin(work, queue, stop, os.getppid())
    stop.set()
    with pytest.raises(SystemExit):
        runs._in_process(run)
    assert not work.done(run) and queue.empty()
    stop.clear()
    unfinished = tmp_path / run.name / ".state.safetensors.1"  # of a process that was killed
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.touch()
    runs._in_process(run)
    assert not unfinished.exists()
    assert work.done(run) and queue.get()[1].step == 1


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """The first starts the second and is killed; the second has nothing to do but to notice."""
    second = (
        "import os; from annotate.proof.runs import _end_with as end; parent = os.getppid(); "
        "print(os.getpid(), flush=True); end(parent)"
    )
    first = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {second!r}])"
    started = subprocess.Popen([sys.executable, "-c", first], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    number = int(started.stdout.readline())
    os.kill(number, 0)  # it is there
    started.kill()
    assert started.stdout.read() == ""  # until the second, which holds the pipe too, has ended
    started.wait()


def test_the_command_prints_verdicts_and_where_the_rest_is(made, tmp_path: Path) -> None:
    sizes = ["--steps", "4", "--seeds", "1", "--width", "32", "--layers", "1", "--jobs", "1", "--checkpoints", "1"]
    result = CliRunner().invoke(command, [str(made.folder), "--out", str(tmp_path / "proof"), *sizes])
    assert result.exit_code == 0, result.output
    assert "3 models of" in result.output and "true, seed 0: step 4 of 4" in result.output
    assert "<high>: " in result.output and f"{tmp_path / 'proof'}/proof.md" in result.output
    elsewhere = CliRunner().invoke(command, [str(made.folder), "--out", "s3://bucket/proof"])
    assert isinstance(elsewhere.exception, ConfigError) and "s3://bucket/proof is not a local folder" in str(
        elsewhere.exception
    )


def test_without_a_subset_documents_are_held_out_here(empty) -> None:
    card, tables = card_and_tables(200)
    empty.add("train", card, tables)
    material = read_material(empty.folder)
    trained, measured = set(material.text.documents.tolist()), set(material.measured.documents.tolist())
    assert not trained & measured and 0.02 < len(measured) / 200 < 0.2
    assert any("no subset for evaluation" in remark for remark in material.remarks)


def test_held_out_documents_that_are_in_training_are_left_out_and_counted(empty) -> None:
    card, tables = card_and_tables(100, parts=2)
    empty.add("train", card, tables[:1], subset="train")
    empty.add("held_out", card, [tables[0].slice(0, 10), tables[1]], subset="evaluation")
    material = read_material(empty.folder)
    (said,) = [remark for remark in material.remarks if "left out" in remark]
    assert int(said.split()[0]) >= 8
    assert len(np.unique(material.measured.documents)) >= 45


def test_a_large_run_is_read_in_part_and_that_is_said(made, monkeypatch) -> None:
    whole = read_material(made.folder)
    monkeypatch.setattr("annotate.proof.material.MOST", 10)
    part = read_material(made.folder)
    assert len(part.text.tokens) < len(whole.text.tokens)
    assert part.remarks[0].startswith("only the first") and not whole.remarks[0].startswith("only the first")


def test_without_text_to_measure_it_ends(empty, tmp_path: Path) -> None:
    card, tables = card_and_tables(60, parts=1)
    empty.add("train", card, tables, subset="train")
    empty.add("held_out", card, [tables[0].slice(0, 1)], subset="evaluation")
    with pytest.raises(InputError, match=r"leaves no text to measure: .* left out"):
        read_material(empty.folder, spans=1)
    with pytest.raises(ConfigError, match="not a local folder"):
        prove(empty.folder, "s3://bucket/proof")
    with pytest.raises(ConfigError, match="not both"):
        prove(empty.folder, tmp_path, steps=1, tokens=1)


def test_outputs_that_do_not_go_together_are_refused(empty) -> None:
    card, tables = card_and_tables(200)
    empty.add("a", card, tables, subset="train")
    empty.add("control", card, tables, subset="train", control="shuffled")
    read_material(empty.folder)
    with pytest.raises(ConfigError, match="tags of a control"):
        read_material(empty.folder, output="control")
    empty.add("b", card, tables, subset="train")
    with pytest.raises(ConfigError, match="2 outputs of token shards to train on") as several:
        read_material(empty.folder)
    assert several.value.hint == (
        "Its token shards are: a (subset train), control (subset train, control shuffled), b (subset train). "
        "Name one of them: --output."
    )
    with pytest.raises(ConfigError, match="0 outputs of token shards to measure on called 'c'") as none:
        read_material(empty.folder, output="a", held_out="c")
    assert none.value.hint is not None and none.value.hint.endswith("Name one of them: --held-out.")
    other = card_and_tables(40, names=("high",))
    empty.add("other", *other, subset="evaluation")
    with pytest.raises(ConfigError, match="other tokens or tags"):
        read_material(empty.folder, output="a")


def test_a_run_without_token_shards_is_told_how_to_make_some(empty) -> None:
    with pytest.raises(StorageError, match="no run has finished in"):
        read_material(empty.folder)
    card, tables = card_and_tables(10)
    empty.add("train", card, tables, role=Role.TEXT_SHARDS)
    with pytest.raises(StorageError, match="left no token shards: train") as none:
        read_material(empty.folder)
    assert none.value.hint is not None and "--set tokenizer=FOLDER --set span_ids=true" in none.value.hint


def test_several_families_are_told_apart(empty, tmp_path: Path) -> None:
    names = ("high", "low", "start")
    card, tables = card_and_tables(300, cue=0.7, window=64, names=names)
    empty.add("train", card, tables, subset="train")
    held = card_and_tables(60, cue=0.7, window=64, seed=5, parts=1, names=names)[1]
    empty.add("held_out", card, held, subset="evaluation")
    proof = prove(empty.folder, tmp_path / "proof", steps=60, seeds=1, tell=lambda line: None, **SMALL)
    assert [family.tags for family in proof.families] == [("high", "low"), ("start",)]
    matrix = proof.specificity.matrix
    assert matrix.shape == (3, 3) and matrix[0, 0] > 0.3 and matrix[1, 1] > 0.3 and matrix[0, 1] < -0.3
    assert abs(matrix[0, 2]) < 0.2  # the words of a sentence do not tell whether it is the first
    assert proof.as_json()["specificity"]["matrix"][0][0] == pytest.approx(matrix[0, 0])
    said = (tmp_path / "proof" / "proof.md").read_text()
    assert "<high> | <low> | <start> |\n" in said and (tmp_path / "proof" / "sharpening-1.svg").exists()
    assert f"{matrix[0, 0]:+.3f}</text>" in (tmp_path / "proof" / "specificity.svg").read_text()
    # Texts of one family are judged by the words of its own tags.
    (high, low), (start,) = (family.tags for family in proof.judged.families)
    assert (high.name, low.name, start.name) == ("high", "low", "start")
    assert high.true.value > 0.5 and high.corpus.above_zero and low.corpus.above_zero
    assert abs(start.true.value) < 0.2 and start.fidelity is None
    assert any("does not tell the held-out spans of <start> apart" in remark for remark in proof.remarks)
