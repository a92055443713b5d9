"""Provenance: each run leaves what one needs to repeat it, without credentials; it can be run again from that."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import support

from annotate import Options, status
from annotate.corpus.files import find_files
from annotate.engine.provenance import (
    COMMIT,
    JOB,
    Origin,
    _commit_of_job,
    _models,
    git_commit,
    other_pipeline,
    write_provenance,
)
from annotate.pipeline_files import load_pipeline
from annotate.storage.store import Directory

FILE = """
import numpy as np
from annotate import Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score


def lengths(table):
    return np.array([len(text) for text in table["text"].to_pylist()], np.float32)


def pipeline(corpus: str = "none", quantile: float = 0.5) -> Pipeline:
    scores = score(Split(Corpus(corpus, id=None)), [PythonScorer(function=lengths, axes=["length"])])
    return Pipeline(Render(Place(scores, TagScheme(tags=(Tag(name="long", rule=f"length >= q({quantile})"),)))))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "project" / "mine.py"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def test_a_work_directory_of_another_pipeline_file_is_told_of(tmp_path):
    workdir = Directory.at(tmp_path)
    first, edited, other = Origin("a/mine.py", "1", {}), Origin("a/mine.py", "2", {}), Origin("theirs.py", "3", {})
    assert other_pipeline(workdir, first) is None, "it is new"
    workdir.create()
    for run, origin in (("20260101T000000-aaaaaa", other), ("20260102T000000-aaaaaa", first)):
        write_provenance(workdir, run, origin, Options(), {})
    assert other_pipeline(workdir, edited) is None
    assert other_pipeline(workdir, Origin("renamed.py", "1", {})) is None
    assert other_pipeline(workdir, other) == "mine.py"
    assert other_pipeline(workdir, None) is None
    (tmp_path / "provenance" / "20260103T000000-aaaaaa.json").write_text("no JSON")
    assert other_pipeline(workdir, other) == "mine.py", "a damaged file is passed over"
    elsewhere = Origin("b/mine.py", "4", {})
    assert other_pipeline(workdir, elsewhere) == str(Path("a/mine.py").resolve()), "of the same name, in another folder"


def test_runs_of_no_pipeline_file_are_passed_over_when_the_last_is_asked_for(tmp_path, monkeypatch):
    workdir, first, other = Directory.at(tmp_path), Origin("mine.py", "1", {}), Origin("theirs.py", "2", {})
    workdir.create()
    write_provenance(workdir, "20260101T000000-aaaaaa", first, Options(), {})
    for day, main in enumerate(("annotate", "-m"), start=2):
        script = tmp_path / "bin" / "annotate"
        script.parent.mkdir(exist_ok=True)
        script.write_text("the command")
        name = "annotate.__main__" if main == "-m" else None
        module = SimpleNamespace(__file__=str(script if name is None else tmp_path / "__main__.py"))
        module.__spec__ = SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, "__main__", module)
        write_provenance(workdir, f"2026010{day}T000000-aaaaaa", None, Options(), {})
        monkeypatch.undo()
        told = json.loads(workdir.get(f"provenance/2026010{day}T000000-aaaaaa.json"))
        assert told["pipeline"] is None, "`annotate duplicates` has no pipeline file"
    assert other_pipeline(workdir, other) == "mine.py" and other_pipeline(workdir, first) is None


def test_the_file_of_a_job_is_known_by_its_path_in_the_folder_that_was_sent(tmp_path, monkeypatch):
    """Ray unpacks each job in a folder of its own."""
    workdir = Directory.at(tmp_path / "out")
    workdir.create()
    monkeypatch.setenv(JOB, "{}")
    for number, (file, other) in enumerate([("a/mine.py", None), ("a/mine.py", None), ("b/mine.py", "a/mine.py")]):
        folder = tmp_path / f"job-{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        origin = Origin(file, f"text {number}", {})
        assert other_pipeline(workdir, origin) == other
        write_provenance(workdir, f"2026010{number}T000000-aaaaaa", origin, Options(), {})
    monkeypatch.delenv(JOB)
    assert other_pipeline(workdir, Origin(str(tmp_path / "home" / "b" / "mine.py"), "edited", {})) is None


def test_a_run_can_be_repeated_from_its_provenance(ray_cluster, tmp_path, file):
    corpus = support.write_corpus(tmp_path / "corpus", shards=1)
    given = {"corpus": str(corpus), "quantile": 0.6}
    load_pipeline(file, **given).run(tmp_path / "out", Options(limit=12))
    told = status(tmp_path / "out").provenance
    assert told["pipeline"]["source"] == FILE and told["pipeline"]["file"] == "mine.py"
    assert told["parameters"] == given and told["options"]["limit"] == 12
    assert told["packages"]["torch"] and told["python"] == sys.version.split()[0] and "source" in told["annotate"]
    latest = json.loads((tmp_path / "out" / "latest.json").read_text())
    assert {stage["label"]: stage["fingerprint"] for stage in told["stages"]} == {
        label: each["fingerprint"] for label, each in latest.items()
    }
    [read] = [stage for stage in told["stages"] if "location" in stage]
    assert read["location"] == str(corpus)

    again = tmp_path / "again.py"
    again.write_text(told["pipeline"]["source"])
    load_pipeline(again, **told["parameters"]).run(tmp_path / "repeated", Options(limit=told["options"]["limit"]))
    assert support.shard_bytes(tmp_path / "repeated") == support.shard_bytes(tmp_path / "out")
    other = tmp_path / "other.py"
    other.write_text(told["pipeline"]["source"] + "\n# another\n")
    load_pipeline(other, **told["parameters"]).run(tmp_path / "repeated", Options(limit=told["options"]["limit"]))
    [warning] = [text for text in status(tmp_path / "repeated").warnings if "another pipeline file" in text]
    assert "another pipeline file, again.py" in warning

    before = {path.name for path in (tmp_path / "out" / "provenance").iterdir()}
    load_pipeline(file, **given | {"quantile": 0.7}).run(tmp_path / "out")
    assert not any("another pipeline file" in text for text in status(tmp_path / "out").warnings)
    after = {path.name for path in (tmp_path / "out" / "provenance").iterdir()}
    assert before < after and status(tmp_path / "out").provenance["parameters"]["quantile"] == 0.7
    names = [each.shard for each in find_files(str(tmp_path))]
    assert names and all(name.startswith("corpus/") for name in names), "files of a run are no part of a corpus"


def test_a_pipeline_of_a_program_has_its_file_or_none(tmp_path, file):
    assert Origin.of(str(file)).source == FILE and Origin.of(None) is None
    assert Origin.of(str(tmp_path / "nowhere.py")) is None


def test_the_commit_and_whether_files_differ_from_it(file, tmp_path):
    assert git_commit(file.parent) is None
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.com", "-C", file.parent]
    for words in (["init", "-q"], ["add", "mine.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    found = git_commit(file.parent)
    assert len(found["commit"]) == 40 and not found["changed"]
    file.write_text(FILE + "# changed\n")
    assert git_commit(file.parent) == found | {"changed": True}


def test_a_job_is_told_the_commit_of_the_folder_that_was_sent(monkeypatch):
    assert _commit_of_job() is None
    monkeypatch.setenv(COMMIT, '{"commit": "abc", "changed": true}')
    assert _commit_of_job() == {"commit": "abc", "changed": True}
    monkeypatch.setenv(COMMIT, "{]")
    assert _commit_of_job() is None


def test_models_are_named_with_their_revisions():
    @dataclass(frozen=True)
    class Model:
        model: str
        revision: str | None = None

    @dataclass(frozen=True)
    class Holder:
        scorers: tuple
        threads: int = 1

    holder = Holder((Model("a/b", "f" * 40), Holder((Model("/models/c"),)), "no model"))
    assert [(each["name"], each["revision"][:4]) for each in _models(holder)] == [
        ("a/b", "ffff"),
        ("/models/c", "none"),
    ]
