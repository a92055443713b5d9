"""`annotate run` as a person uses it: from a file, as a file, with wrong parameters, interrupted."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest
from support import shard_bytes, write_corpus

from annotate.cli.app import app, guarded
from annotate.storage.marker import mark
from annotate.storage.store import Directory

FILE = '''
"""A pipeline whose scorers are defined here."""

import time

import letters
import numpy as np
import pyarrow.compute as pc

import annotate
from annotate import Calibrate, Corpus, NearDuplicates, Pipeline, Place, PythonScorer, Render, Split
from annotate import Tag, TagScheme, Thresholds, score


def shouting(table):
    return pc.count_substring_regex(table["text"], letters.CAPITALS).cast("float32")


class Slow:
    """Takes its time, so that it can be interrupted."""

    def __call__(self, table):
        time.sleep(SECONDS)
        return np.asarray(pc.utf8_length(table["text"]), np.float32)


SECONDS = 0.0


def pipeline(corpus: str = "corpus", share: float = 0.5, rows: int | None = None, seconds: float = 0.0) -> Pipeline:
    global SECONDS
    SECONDS = seconds
    documents = Corpus(corpus, unit_bytes=2000)
    verdicts = NearDuplicates(documents, group_span=None, group_threshold=0.8)
    scorers = [PythonScorer(function=shouting, axes=("capitals",)), PythonScorer(function=Slow, axes=("length",))]
    scores = score(Split(documents), skip=verdicts, scorers=scorers)
    scheme = TagScheme(tags=(Tag(name="loud", rule=f"capitals >= q({share})"), Tag(name="long", rule="length > 60")))
    return Pipeline(Render(Place(scores, scheme)))


if __name__ == "__main__":
    annotate.main(pipeline)
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", shards=2, documents=15)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "letters.py").write_text('CAPITALS = "[A-Z]"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment():
    return {**os.environ, "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"]}


def command(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    return done.returncode, done.stdout + done.stderr


def fingerprints(workdir):
    return {label: item["fingerprint"] for label, item in json.loads((workdir / "latest.json").read_text()).items()}


def test_a_file_and_the_command_give_equal_fingerprints(ray_cluster, here, monkeypatch):
    code, output = command(
        "-m", "annotate", "run", "mine.py", "--workdir", "one", "--workers", "1", "--set", "share=0.7"
    )
    assert code == 0, output
    assert "<loud>" in output and "30 documents" in output
    code, output = command("mine.py", "--workdir", "two", "--workers", "1", "--set", "share=0.7")
    assert code == 0, output
    assert fingerprints(here / "one") == fingerprints(here / "two")
    assert shard_bytes(here / "one") == shard_bytes(here / "two") != {}

    # Another constant in the module beside the file: the scores are stale, and so is what is made of them.
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["mine.py", "--workdir", "two", "--set", "share=0.7", "--plan", "--sample", "0"]
    code, before = command(*arguments)
    (here / "letters.py").write_text('CAPITALS = "[A-Y]"\n')
    code, after = command(*arguments)
    assert code == 0, after
    assert "recipe changed" not in before and "recipe changed: the module letters changed" in after


def test_a_plan_runs_nothing(here, capsys):
    prices = ["--price-core-hour", "2", "--price-gpu-hour", "3"]
    assert guarded(app, ["run", "mine.py", "--workdir", "out", "--plan", "--sample", "20", *prices]) == 0
    output = capsys.readouterr().out
    assert re.search(r"calls will take about 0\.0+[1-9]\d core-hours, 0\.0+[1-9]\d at the prices given", output)
    assert (
        "text-shards" in output
        and "new" in output
        and "annotations (capitals): about 0." in output
        and "free:" in output
    )
    assert not (here / "out").exists()


def test_a_plan_of_rescoring_is_refused(here, capsys):
    assert guarded(app, ["run", "mine.py", "--workdir", "out", "--plan", "--rescore"]) == 2
    assert "--plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("shar=0.5", "did you mean 'share'"),
        ("share=lots", "share: float = 0.5"),
        ("rows=1.5", "rows"),
        ("share", "NAME=VALUE"),
    ],
)
def test_a_wrong_parameter_lists_the_right_ones(here, capsys, setting, message):
    assert guarded(app, ["run", "mine.py", "--workdir", "out", "--set", setting]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def pipeline(:\n", "wrong.py, line 1"),
        ("import annotate\n", "defines no pipeline"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("pipeline = 3\n", "defines no pipeline"),
        ("def pipeline(x):\n    pass\n", "lacks a type or a default"),
        ("def pipeline() -> None:\n    return None\n", "expected a Pipeline"),
        (
            "from annotate import Corpus, Pipeline, Split\nsplit = Split(Corpus('corpus'))\n"
            "object.__setattr__(split, 'corpus', split)\npipeline = Pipeline(split)\n",
            "cycle",
        ),
    ],
)
def test_a_file_without_a_pipeline_is_refused(here, capsys, source, message):
    (here / "wrong.py").write_text(source)
    assert guarded(app, ["run", "wrong.py", "--workdir", "out"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("corpus", "code", "message"),
    [("nowhere", 3, "no such file"), ("corpus/*.json", 3, "no corpus files match"), ("mine.py", 3, "not Parquet")],
)
def test_a_corpus_that_cannot_be_read_has_its_exit_code(here, capsys, corpus, code, message):
    assert guarded(app, ["run", "mine.py", "--workdir", "out", "--plan", "--set", f"corpus={corpus}"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("workdir", "code", "message"),
    [
        ("corpus", 2, "is the folder of a corpus"),
        ("spans-0123abcd/out", 2, "lies in the dataset"),
        ("theirs", 4, "latest.json is not what a run writes there"),
    ],
)
def test_a_wrong_work_directory_is_told_before_ray_starts_and_before_anything_is_made(
    here, capsys, monkeypatch, tree, workdir, code, message
):
    mark(Directory.at(here / "spans-0123abcd"), "0123abcd", version=1, settings="")
    (here / "theirs").mkdir()
    (here / "theirs" / "latest.json").write_text("[1]")
    monkeypatch.setattr("annotate.cli.local_ray.ray_running", lambda address, console: pytest.fail("Ray was started"))
    before = tree(here)
    assert guarded(app, ["run", "mine.py", "--workdir", workdir]) == code
    assert message in capsys.readouterr().err
    assert tree(here) == before and not (here / "spans-0123abcd" / "out").exists()


@pytest.mark.parametrize(
    ("address", "what", "instead"),
    [
        ("ray://head:10001", "the address of Ray Client", "RAY_ADDRESS=auto"),
        (
            "http://me:hidden@head:8265",  # pragma: allowlist secret
            "the address of a job server",
            "`annotate submit --address http://head:8265`",
        ),
        ("s3://bucket", "not the address of a Ray cluster", "RAY_ADDRESS=auto"),
    ],
)
def test_an_address_of_something_else_than_a_cluster_is_refused_at_once(
    here, capsys, monkeypatch, address, what, instead
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("annotate.cli.local_ray.ray_running", lambda address, console: pytest.fail("Ray was asked"))
    for command in (["run", "mine.py"], ["duplicates", "corpus"]):
        assert guarded(app, [*command, "--workdir", "out"]) == 2
        told = capsys.readouterr().err
        assert what in told and instead in told and "hidden" not in told
    assert not (here / "out").exists()


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(ray_cluster, here):
    arguments = ["-m", "annotate", "run", "mine.py", "--workdir", "out", "--workers", "1"]
    arguments += ["--rescore", "--set", "seconds=0.2"]
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(here.glob("out/annotations-*/units/*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "run the same command again to go on" in output and "leave --rescore out" in output
    assert not list(here.glob("out/text-shards-*/units/*"))
    assert not list(here.glob("out/leases/*"))
    code, output = command(*arguments[:-3])
    assert code == 0, output


def test_the_work_directory_cannot_be_a_file(ray_cluster, here):
    code, output = command("-m", "annotate", "run", "mine.py", "--workdir", "mine.py")
    assert code == 4, output
    assert "mine.py" in output


def test_workers_import_what_lies_beside_the_file(tmp_path, monkeypatch, annotate):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "mine.py").write_text(
        "from annotate import Corpus, Pipeline, Split\npipeline = Pipeline(Split(Corpus('none')))"
    )
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert annotate("run", "beside/mine.py", "--workdir", "out")[0] == 3  # there is no corpus
        assert os.environ["PYTHONPATH"] == f"{tmp_path / 'beside'}{os.pathsep}/elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run mine.py", "--workdir"),
        ("run mine.py --workdir out --workers 0", "--workers"),
        ("run mine.py --workdir out --workers 2 --grow-to 3", "only one of them"),
        ("run mine.py --workdir out --budget -1", "the budget must be more than 0"),
        ("run mine.py --workdir out --set x", "--set takes NAME=VALUE"),
        ("run mine.py --workdir out --plan --rescore", "can't be given together"),
        ("submit mine.py --workdir s3://b/out", "--address' (or the variable RAY_API_SERVER_ADDRESS)"),
        ("jobs list", "--address' (or the variable RAY_API_SERVER_ADDRESS)"),
        ("status", "WORKDIR"),
        ("prove out --steps 3 --tokens 4", "give --steps or --tokens, not both"),
        ("prove out --device gpu", "'gpu' is none of auto, cpu, cuda, cuda:1"),
        ("directions out m --tag a --device auto", "'auto' is none of cpu, cuda, cuda:1"),
        ("model check m --device cuda:x", "'cuda:x' is none of"),
        ("probe train a.parquet --axis k --weight a", "a weight is SOURCE=N, got 'a'"),
    ],
)
def test_a_wrong_option_is_told_before_anything_slow_is_imported(arguments, message):
    code = "import sys\nfrom annotate.cli.app import app, guarded\nprint(guarded(app, sys.argv[1:]))\n"
    code += "print(*sorted({'torch', 'transformers', 'ray', 'numba', 'pydantic'} & set(sys.modules)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n\n" and message in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [(["run"], 141), (["--workdir", "out"], 141), (["duplicates", "c"], 141), (["prove"], 141), (["show"], 0)],
)
def test_what_reads_the_output_may_end(monkeypatch, capsys, words, code):
    """As `head` does: a run says that it has stopped, and so does a pipeline file; to be shown less is no error."""

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def broken(rest):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # click puts another in its place
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert guarded(broken, words) == code
    assert ("what read the output has ended" in capsys.readouterr().err) == (code == 141)


def test_an_end_that_code_asks_for_is_none_of_the_output(monkeypatch):
    @click.command()
    def ends():
        sys.exit(3)

    with pytest.raises(SystemExit):
        guarded(ends, [])
