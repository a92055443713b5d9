"""The other package `annotate` of PyPI, which puts its files where ours are."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from annotate.installed import DISTRIBUTION

REPOSITORY = Path(__file__).parents[1]
THEIRS = {"_annotate.py": "def annotate(): ...\n", "__about__.py": "", "__init__.py": "from ._annotate import *\n"}


@pytest.fixture
def site(tmp_path):
    """A site-packages with ours, and the metadata of theirs."""
    shutil.copytree(REPOSITORY / "annotate", tmp_path / "annotate", ignore=shutil.ignore_patterns("__pycache__"))
    info = tmp_path / "annotate-2.5.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: annotate\nVersion: 2.5.1\n")
    return tmp_path


def python(site, code):
    command = [sys.executable, "-W", "default", "-c", code]
    return subprocess.run(
        command, cwd=site, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=100, check=False
    )


def write(site, *names):
    for name in names:
        (site / "annotate" / name).write_text(THEIRS[name])


def test_alone_nothing_is_said(site):
    done = python(site, "import annotate, annotate.errors; print(annotate.ConfigError.exit_code)")
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_where_ours_came_second_the_import_warns_with_the_remedy(site):
    write(site, "_annotate.py", "__about__.py")
    done = python(site, "import annotate; print(annotate.ConfigError.exit_code)")
    assert done.stdout == "2\n"
    assert "annotate 2.5.1 of PyPI, a decorator library" in done.stderr
    assert f"pip install --force-reinstall --no-deps {DISTRIBUTION}" in done.stderr


def test_where_theirs_came_second_a_module_of_ours_says_so(site):
    write(site, *THEIRS)
    done = python(site, "from annotate.pipeline import Pipeline")
    assert done.returncode == 1
    assert "ImportError: `import annotate` is not this package: the package annotate 2.5.1 of PyPI" in done.stderr


def test_where_theirs_came_second_the_command_says_so_in_a_line(site):
    write(site, *THEIRS)
    done = python(site, "from annotate.cli import entry; entry()")
    assert done.returncode == 2
    assert done.stderr.startswith("error: `import annotate` is not this package") and done.stderr.count("\n") == 1
    assert "pip uninstall --yes annotate" in done.stderr


def test_the_name_is_the_distributions():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    extras = [each for group in project["optional-dependencies"].values() for each in group if "annotate" in each]
    assert extras and all(each.startswith(f"{DISTRIBUTION}[") for each in extras)


def test_no_page_or_hint_installs_the_other_package():
    files = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "Makefile"]
    files += [path for folder in ("annotate", "pipelines", "examples") for path in (REPOSITORY / folder).rglob("*.py")]
    for path in files:
        for line in path.read_text().splitlines():
            if "pip" in line and path.name != "installed.py":
                assert "annotate[" not in line and "install annotate" not in line, f"{path}: {line}"
