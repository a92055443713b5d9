"""What SECURITY.md promises of the code: nothing here unpickles, calls a shell, or runs a model's code unasked."""

import ast
import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import annotate

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "annotate"
UNPICKLE = {"pickle", "_pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle", "pandas"}
SHELL = {"subprocess", "pty", "pexpect", "commands"}
CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "os.system", "os.popen"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def found(tree, path):
    """What a module has that could run what it reads, a line each."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names:
            if set(name.split(".")) & (UNPICKLE | SHELL):
                yield f"{path}: imports {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS or called.startswith(("os.exec", "os.spawn")):
                yield f"{path}: calls {called}"
            for keyword in node.keywords:
                given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in ("shell", "allow_pickle", "trust_remote_code") and given is True:
                    yield f"{path}: {called}({keyword.arg}=True)"
                if keyword.arg == "use_safetensors" and given is not True:
                    yield f"{path}: {called} reads other weights than safetensors"


def test_no_module_unpickles_or_calls_a_shell_or_runs_what_it_reads():
    told = {line for path in modules() for line in found(ast.parse(path.read_text("utf-8")), path.relative_to(PACKAGE))}
    assert told == ALLOWED


ALLOWED = {
    # Ray's, by which the functions of a pipeline file go to workers of the same run; and to try that before a run.
    "engine/run.py: imports cloudpickle",
    "engine/run.py: imports ray.cloudpickle",
    "engine/check_nodes.py: imports cloudpickle",
    "engine/check_nodes.py: imports ray.cloudpickle",
    # This Python again, to try on each node what a worker does; and git, for the commit of a pipeline. Neither is
    # called by a shell, nor with a name that comes from a corpus or a work directory.
    "engine/check_nodes.py: imports subprocess",
    "engine/provenance.py: imports subprocess",
}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from ray.cloudpickle import loads",
        "import os\nos.system(name)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, use_safetensors=None)",
        "def f():\n    import subprocess",
    ],
)
def test_the_check_finds_what_it_looks_for(source):
    assert list(found(ast.parse(source), "x.py"))


def test_a_models_own_code_runs_only_where_it_is_named():
    named = {}
    for module in pkgutil.walk_packages([str(PACKAGE)], "annotate."):
        if module.name.startswith(("annotate.scorers", "annotate.probes", "annotate.models")):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, type) and dataclasses.is_dataclass(value):
                    for field in dataclasses.fields(value):
                        if field.name in ("trust_remote_code", "remote_code"):
                            named[name] = field.default
    assert {"Classifier", "RewardModel", "CausalModel", "Encoder"} <= set(named), "the test looks in the right place"
    assert {name: default for name, default in named.items() if default not in (False, dataclasses.MISSING)} == {}
    assert annotate.Classifier is not None


@pytest.mark.slow  # reads each file of the repository
def test_no_file_of_the_repository_holds_what_looks_like_a_secret(tmp_path):
    """`# pragma: allowlist secret` on a line says that it holds none. Hexadecimal digests are no secrets here."""

    def scan(folder):
        command = [sys.executable, "-m", "detect_secrets", "scan", "--disable-plugin", "HexHighEntropyString"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return {file: [each["type"] for each in told] for file, told in json.loads(done.stdout)["results"].items()}

    if not (REPOSITORY / ".git").exists():
        pytest.skip("not in a clone: what is part of the repository is not known")
    assert scan(REPOSITORY) == {}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a.py").write_text("key = '{}{}'\n".format("AKIA", "Z7" * 8))
    subprocess.run(["git", "add", "a.py"], cwd=tmp_path, check=True)
    assert scan(tmp_path) == {"a.py": ["AWS Access Key"]}
