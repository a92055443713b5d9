import ast
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.pipeline_files import write_pipeline
from annotate.storage.contracts import shipped


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_a_pipeline_and_what_it_imports(annotate, here):
    code, out, _ = annotate("new", "mine")
    assert code == 0 and "annotate run mine.py --workdir out" in out
    assert sorted(path.name for path in here.iterdir()) == ["demo_corpus.py", "mine.py"]
    source = (shipped("pipelines") / "conditional_pretraining.py").read_text()
    assert (here / "mine.py").read_text() == source.replace("pipelines/conditional_pretraining.py", "mine.py")
    assert "annotate run mine.py" in ast.get_docstring(ast.parse((here / "mine.py").read_text()))


def test_what_it_writes_is_a_pipeline_with_parameters(here):
    assert [Path(path).name for path in write_pipeline("mine", folder=here)] == ["mine.py", "demo_corpus.py"]
    command = [sys.executable, "-m", "annotate", "run", "mine.py", "--workdir", "out", "--set", "no_such=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "no parameter 'no_such'" in done.stderr and "duplicate_threshold" in done.stderr
    assert not (here / "out").exists()


def test_it_never_overwrites(annotate, here):
    (here / "mine.py").write_text("mine")
    (here / "demo_corpus.py").write_text("also mine")
    for name in ("mine", "mine.py"):
        code, _, err = annotate("new", name)
        assert code == 2 and "mine.py exists" in err
    code, out, _ = annotate("new", "other")
    assert code == 0 and "demo_corpus.py" not in out
    assert (here / "mine.py").read_text() == "mine" and (here / "demo_corpus.py").read_text() == "also mine"


@pytest.mark.parametrize("name", ["json", "annotate", "a b", "../up", "1st", ""])
def test_a_name_that_will_not_do_is_an_error(annotate, here, name):
    code, _, err = annotate("new", name)
    assert code == 2 and "error:" in err and list(here.iterdir()) == []


def test_the_shipped_pipelines_are_listed(annotate, here):
    code, out, _ = annotate("new", "--list")
    assert code == 0 and "conditional_pretraining" in out and "demo_corpus" not in out
    assert list(here.iterdir()) == []
    code, _, err = annotate("new", "mine", "--from", "nothing")
    assert code == 2 and "conditional_pretraining" in err
    assert annotate("new")[0] == 2


def test_a_source_checkout_uses_its_own_files(tmp_path, monkeypatch):
    from annotate.storage import contracts

    package = tmp_path / "annotate"
    monkeypatch.setattr(contracts, "__file__", str(package / "storage" / "contracts.py"))
    (tmp_path / "pipelines").mkdir()
    assert contracts.shipped("pipelines") == tmp_path / "pipelines"
    (package / "pipelines").mkdir(parents=True)  # an installed package has them inside
    assert contracts.shipped("pipelines") == package / "pipelines"


def test_the_command_starts_without_ray():
    code = "import sys, annotate.cli.new\nassert not {'ray', 'polars', 'pydantic', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
