import functools
import importlib.util
import sys

import pytest

from annotate.errors import ConfigError
from annotate.source import source_identity


@pytest.fixture
def load(tmp_path):
    """`load(text)`: a module of that text, under another name each time."""
    names = []

    def make(text):
        name = f"pipeline_file_{len(names)}"
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        names.append(name)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield make
    for name in names:
        del sys.modules[name]


FILE = """
import json

LIMIT = 3
TABLE = {"a": (1, 2)}

def helper(x):
    return x + LIMIT

def other(x):
    return x

class Base:
    step = 1

class Model(Base):
    def __init__(self, size=4):
        self.size = size
    def __call__(self, x):
        return helper(x) + TABLE["a"][0]

def score(x):
    return json.dumps([helper(y) for y in x])

def make(k):
    def inner(x, *, j=2):
        return x * k * j
    return inner

def recursive(x):
    return recursive(x - 1)

double = lambda x: 2 * x
pair = (lambda x: x, lambda x: -x)
"""


def identity(module, name):
    return source_identity(getattr(module, name))


@pytest.mark.parametrize("name", ["score", "Model", "double", "recursive"])
def test_the_modules_name_does_not_matter(load, name):
    assert identity(load(FILE), name) == identity(load(FILE), name)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return x + LIMIT", "return x - LIMIT", {"score", "Model"}),
        ("LIMIT = 3", "LIMIT = 4", {"score", "Model"}),
        ('"a": (1, 2)', '"a": (1, 3)', {"Model"}),
        ("size=4", "size=5", {"Model"}),
        ("step = 1", "step = 2", {"Model"}),
        ("2 * x", "3 * x", {"double"}),
        ("return x\n", "return +x\n", set()),
    ],
)
def test_what_a_function_uses_is_part_of_it(load, old, new, changed):
    assert old in FILE
    before, after = load(FILE), load(FILE.replace(old, new, 1))
    found = {name for name in ("score", "Model", "double") if identity(before, name) != identity(after, name)}
    assert found == changed


def test_what_a_closure_holds_is_part_of_it(load):
    module = load(FILE)
    assert source_identity(module.make(1)) == source_identity(module.make(1))
    assert source_identity(module.make(1)) != source_identity(module.make(2))
    with pytest.raises(ConfigError, match="'k', which the function holds, is a object, not a plain value"):
        source_identity(module.make(object()))


def test_partials_and_objects_hold_their_values(load):
    module = load(FILE)
    one, two = (functools.partial(module.make, k=k) for k in (1, 2))
    assert source_identity(one) != source_identity(two)
    assert source_identity(module.Model(1)) != source_identity(module.Model(2))
    assert source_identity(module.Model(1)) == source_identity(module.Model(1))
    assert source_identity(module.Model(1).__call__) != source_identity(module.Model(2).__call__)


def test_two_lambdas_on_a_line_are_not_mistaken_for_each_other(load):
    with pytest.raises(ConfigError, match="can't be told") as caught:
        source_identity(load(FILE).pair[1])
    assert "version=" in str(caught.value)


@pytest.mark.parametrize("obj", [len, eval("lambda x: x"), str.upper])
def test_what_has_no_source_needs_a_version(obj):
    with pytest.raises(ConfigError, match="version="):
        source_identity(obj)
    assert source_identity(obj, version="2024-01")["version"] == "2024-01"


def test_it_is_json_ready(load):
    import json

    module = load(FILE)
    for obj in (module.score, module.Model, module.Model(3), functools.partial(module.score, x=(1, "a"))):
        json.dumps(source_identity(obj))
