"""Several outputs with names: a ledger each, quarantine of all, and hints that work as they stand."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from here import ray_here
from length_scorer import length_scorer
from rich.console import Console
from support import sentences, to_shards, write_corpus
from tiny_tokenizer import byte_tokenizer

import annotate
from annotate import (
    Calibrate,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Place,
    Render,
    Split,
    StorageError,
    Subsets,
    Tag,
    TagScheme,
    TokenShards,
    score,
    shards,
    tables,
    tags_folder,
)
from annotate.cli.app import app, guarded
from annotate.cli.summary_view import print_summary
from annotate.pipeline import make
from annotate.stages.duplicates.documents import OLDER
from annotate.storage.latest import read_latest
from annotate.storage.store import Directory

DOCUMENTS = 60
SCHEME = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two shards; one document is empty, one spells a tag."""
    folder = tmp_path_factory.mktemp("outputs") / "corpus"
    folder.mkdir()
    for shard in range(2):
        texts = [sentences(100 * shard + i, 3 + i % 4) for i in range(30)]
        if shard == 0:
            texts[4], texts[9] = "", f"It says <long> here. {texts[9]}"
        pq.write_table(
            pa.table({"id": [f"{shard}-{i}" for i in range(30)], "text": texts}), folder / f"s{shard}.parquet"
        )
    return folder


@pytest.fixture(scope="module")
def pipeline(corpus, tmp_path_factory):
    """Text of two subsets, one of them under a control too, and tokens."""
    documents = Corpus(str(corpus), unit_bytes=2000)
    verdicts = NearDuplicates(documents, subsets=Subsets(train=0.6, calibration=0.2, evaluation=0.2))
    scores = score(Split(documents), skip=verdicts, scorers=[length_scorer()])
    placed = Place(scores, SCHEME)
    swapped = Place(scores, replace(SCHEME, control="shuffled-in-document"))
    tokenizer = byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return Pipeline(
        train=Render(placed),
        evaluation=Render(placed, subset="evaluation"),
        swapped=Render(swapped, subset="evaluation"),
        tokens=TokenShards(placed, tokenizer=tokenizer, window=64, loss="mask"),
    )


@pytest.fixture(scope="module")
def result(pipeline, tmp_path_factory):
    """Its run; tests only read the work directory."""
    with ray_here():
        return pipeline.run(str(tmp_path_factory.mktemp("outputs") / "out"), Options(workers=1))


@pytest.fixture
def out(result):
    return result.workdir


def command(capsys, *arguments):
    code = guarded(app, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_each_output_has_a_ledger_that_balances(result, out):
    assert list(result.ledgers) == ["train", "evaluation", "swapped", "tokens"]
    for name, ledger in result.ledgers.items():
        assert sum(ledger.states.values()) == ledger.documents == DOCUMENTS
        if name != "tokens":
            assert ledger.states["written"] == len(pl.read_parquet(shards(out, name))) > 3
    written = {name: ledger.states["written"] for name, ledger in result.ledgers.items()}
    assert written["evaluation"] == written["swapped"] < written["train"] <= written["tokens"]
    assert json.loads(Path(out, "ledger.json").read_text()) == {n: vars(each) for n, each in result.ledgers.items()}
    with pytest.raises(annotate.ConfigError, match="train, evaluation, swapped, tokens"):
        _ = result.ledger


def test_what_is_quarantined_is_shown_whatever_met_it_and_counted_once(result, out):
    assert {reason.partition(":")[0]: n for reason, n in result.quarantined.items()} == {
        "the text is empty": 1,
        "the text spells a tag": 1,
    }
    latest = read_latest(Directory.at(out))
    views = {path.stem for path in Path(out, "quarantine").iterdir()}
    named = {f"{item.dataset}-{item.fingerprint[:8]}": item.label for item in latest}
    assert {named[view] for view in views} == {
        "spans",
        "text-shards (train)",
        "text-shards (evaluation)",
        "text-shards (swapped)",
        "token-shards (tokens)",
    }


def test_an_ambiguous_call_lists_the_names_and_a_named_one_works(out):
    with pytest.raises(StorageError) as raised:
        shards(out)
    named = "train (subset train), evaluation (subset evaluation), swapped (subset evaluation, control"
    assert named in str(raised.value)
    assert 'output="train" in Python, --output train in a command' in str(raised.value)
    with pytest.raises(StorageError, match=r"(?s)of an output 'test'.*outputs are: train"):
        shards(out, "test")
    assert tags_folder(out) == tags_folder(out, output="tokens")  # of text there are no such files
    with pytest.raises(StorageError, match="text shards, no token shards: train"):
        tags_folder(out, "train")


def test_tables_are_those_that_an_output_was_made_from(out):
    both = [pa.concat_tables(tables(out, "placements", output=name)) for name in ("evaluation", "swapped")]
    assert both[0] != both[1]
    assert both == [pa.concat_tables(tables(out, label)) for label in ("placements", "placements #2")]
    with pytest.raises(StorageError, match=r"(?s)no output 'test'.*train \(subset train\)"):
        next(tables(out, "placements", output="test"))


def test_every_hint_of_the_summary_works_as_it_stands(ray_in_process, pipeline, out, capsys):
    print_summary(make(pipeline, out, Options(workers=2)), Console(width=400))
    said = capsys.readouterr().out
    calls = re.findall(r"(?:in Python|tokenizer): +(?:in )?(.*\))", said)
    assert len(calls) == 5  # four outputs, and what lies beside the tokens
    for call in calls:
        assert eval(call, {"annotate": annotate, "polars": pl}) is not None
    commands = re.findall(r"by eye: +annotate (.*)", said)
    assert len(commands) == 3
    for line in commands:
        code, shown, _ = command(capsys, *shlex.split(line), "-n", 1)
        assert code == 0 and shown.count("╭") == 1
    for name in ("evaluation (subset evaluation)", "swapped (subset evaluation, control shuffled-in-document)"):
        assert f"{name}: " in said
    assert said.count("Tags on") == 2 and "placements #2" in said


def test_status_and_show_tell_outputs_apart(out, capsys):
    code, shown, _ = command(capsys, "status", out)
    assert code == 0
    for text in ("text-shards (swapped)", "token-shards (tokens)", "subset", "control"):
        assert text in shown
    code, shown, _ = command(capsys, "show", out, "-n", 1)
    assert code == 0 and shown.count("╭") == 3
    assert shown.index("train (subset train)") < shown.index("evaluation (subset evaluation)")
    one = pl.read_parquet(shards(out, "swapped"))["id"][0]
    code, shown, _ = command(capsys, "show", out, "--doc", one)
    assert code == 0 and shown.count("╭") == 2  # in both outputs of the subset
    code, _, err = command(capsys, "show", out, "--doc", "nothing")
    assert code == 2 and "no document 'nothing'" in err
    code, shown, _ = command(capsys, "show", out, "--scores", "-n", 1)
    assert code == 0 and "of placements; for placements #2, use --output" in shown
    code, shown, _ = command(capsys, "show", out, "--scores", "-n", 1, "--output", "swapped")
    assert code == 0 and "with --output" not in shown
    code, _, err = command(capsys, "show", out, "--output", "test")
    assert code == 4 and "no output 'test'" in err and "swapped (subset evaluation, control" in err


def test_export_takes_the_tokens_by_name(out, capsys, tmp_path):
    for name in ("one", "two"):
        named = ["--output", "tokens"] if name == "two" else []
        assert command(capsys, "export", out, tmp_path / name, "--format", "huggingface", *named)[0] == 0
    one, two = (sorted((tmp_path / name).rglob("*.parquet")) for name in ("one", "two"))
    assert one and [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    code, _, err = command(capsys, "export", out, tmp_path / "three", "--format", "olmo", "--output", "train")
    assert code == 4 and "text shards, no token shards: train (subset train)" in err


def test_a_second_run_finds_all_of_it(ray_in_process, result, pipeline, out):
    before = {path: path.read_bytes() for path in Path(out, "quarantine").iterdir()}
    again = pipeline.run(out, Options(workers=2))
    assert again.ledgers == result.ledgers and again.quarantined == result.quarantined
    assert before and {path: path.read_bytes() for path in Path(out, "quarantine").iterdir()} == before
    assert {stage.state for stage in pipeline.plan(out, sample=0).stages} == {"done"}


def test_a_limit_cuts_neither_labels_nor_what_is_filtered_against(ray_in_process, tmp_path):
    corpus = Corpus(str(write_corpus(tmp_path / "corpus", shards=2, documents=12)), unit_bytes=500)
    # What is filtered against has the documents of the new corpus, each shard in a unit of its own.
    old = Corpus(str(write_corpus(tmp_path / "old", shards=2, documents=12)))
    (tmp_path / "labels").mkdir()
    for number, low in enumerate((20, 70)):  # no label 1 in the first file
        texts = ["x" * n for n in range(low, low + 50)]
        labelled = {"text": texts, "length": [float(len(text) >= 60) for text in texts]}
        pq.write_table(pa.table(labelled), tmp_path / "labels" / f"{number}.parquet")
    verdicts = NearDuplicates(corpus, against=old, drop=False, group_span=None, group_threshold=0.8)
    scores = score(Split(corpus), skip=verdicts, scorers=[length_scorer()])
    calibration = Calibrate(scores, labels=tmp_path / "labels")
    scheme = TagScheme(tags=(Tag(name="long", rule="p(length) >= 0.5"),))
    made = to_shards(calibration, scheme)
    planned = made.plan(tmp_path / "out", Options(limit=2), sample=0)
    result = make(made, tmp_path / "out", Options(workers=2, limit=2))
    read = {stage: dataset.manifest.rows for stage, dataset in result.datasets.items() if isinstance(stage, Corpus)}
    labels = next(stage for stage in read if stage.name == "labels")
    assert read[corpus] < 24 and read[old] == 24 and read[labels] == 100
    assert {each.path: each.reached for each in planned.corpora} == {stage.path: rows for stage, rows in read.items()}
    assert [text for text in result.remarks if "--limit" in text] == [
        f"corpus: --limit left {24 - read[corpus]} of 24 documents of {corpus.path}: verdicts, calibration and "
        "thresholds are of the others"
    ]
    found = pa.concat_tables(tables(tmp_path / "out", "verdicts"))
    # Each is in the old corpus, most of them in its second shard or past the limit.
    assert set(found["similarity"].to_pylist()) == {1.0}
    assert all(shard.startswith(OLDER) for shard in found["keeper_shard"].to_pylist())
