"""The hook for faults calls what tests install, and nothing else that the environment names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import annotate

PACKAGE = Path(annotate.__file__).parent
HOOK = """
from pathlib import Path

Path({marker!r}).touch()


def hit(point):
    Path({marker!r} + "-" + point[:4]).touch()
"""
REACH = "from annotate.storage.faults import reach; reach('unit: started')"


@pytest.fixture
def tree(tmp_path):
    """A copy of the package with a hook, in a folder that may become a source tree."""
    place = tmp_path / "tree"
    shutil.copytree(PACKAGE, place / "annotate", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "tests").mkdir()
    (place / "tests" / "evil.py").write_text(HOOK.format(marker=str(tmp_path / "called")))
    (place / "evil_beside.py").write_text(HOOK.format(marker=str(tmp_path / "called")))
    return place


def reached(tree, hook):
    environment = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'tests'}", "ANNOTATE_FAULT_HOOK": hook}
    subprocess.run([sys.executable, "-c", REACH], env=environment, check=True, cwd=tree)
    return sorted(path.name for path in tree.parent.glob("called*"))


def test_in_a_source_tree_a_function_of_its_tests_is_called(tree):
    (tree / "pyproject.toml").touch()
    assert reached(tree, "evil:hit") == ["called", "called-unit"]


@pytest.mark.parametrize(
    "hook", ["evil_beside:hit", "os:abort", "../evil_beside:hit", "tests.evil:hit", "evil", ":", ""]
)
def test_nothing_else_is_even_imported(tree, hook):
    (tree / "pyproject.toml").touch()
    assert reached(tree, hook) == []


def test_an_installed_package_ignores_it(tree):
    assert reached(tree, "evil:hit") == []
