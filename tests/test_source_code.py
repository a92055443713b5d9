import collections
import functools
import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

from annotate.errors import ConfigError
from annotate.source_code import source_identity


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


SETS = """
WORDS = {"alpha", "beta", "gamma", "delta"}
NESTED = {"a": (frozenset({"x", "y", "z"}), [{"p", "q", "r"}])}

def helper(x): return x + 1
def other(x): return helper(x)
def score(x): return x in WORDS or x in NESTED or other(x) or helper(x)
"""


def test_the_hash_seed_does_not_matter(tmp_path):
    (tmp_path / "words.py").write_text(SETS)
    code = (
        "import json, words; from annotate.source_code import source_identity as s; print(json.dumps(s(words.score)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert "gamma" in found.pop()


USES = """
import contextlib, functools, logging, re
from dataclasses import dataclass, field
from enum import Enum
import numpy as np

log = logging.getLogger(__name__)
Array = list[int]
total = np.add
WORD = re.compile("[a-z]+")
split = re.compile("split").split
WEIGHTS = np.array([1.0, 2.0])
START = 10
_state = None

class Kind(Enum):
    A = "kind a"

KIND = Kind.A

def by_property(x): return x + 1
def by_cached_property(x): return x + 2
def by_staticmethod(x): return x + 3
def by_classmethod(x): return x + 4
def by_attribute(x): return x + 5
def by_factory(): return [6]
def unused(x): return x + 7

@functools.cache
def cached(x): return x + 8

def twice(function):
    @functools.wraps(function)
    def inner(x): return 9 * function(x)
    return inner

@twice
def decorated(x): return x + 10

@contextlib.contextmanager
def managed(x): yield x + 11

@dataclass
class Model:
    sizes: list = field(default_factory=by_factory)
    first = START
    go = by_attribute

    @property
    def a(self): return by_property(1)
    @functools.cached_property
    def b(self): return by_cached_property(1)
    @staticmethod
    def c(): return by_staticmethod(1)
    @classmethod
    def d(cls): return by_classmethod(1)
    def __call__(self, x: Array):
        log.info(__name__)
        global _state
        _state = _state or object()
        return WORD.match(x) and total(cached(x), decorated(x), managed(x)) and split(x) and WEIGHTS and KIND

def score(x):
    return Model()(x)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((f"x + {i}\n", f"x - {i}\n") for i in (1, 2, 3, 4, 5, 8, 10, 11)),
        ("[6]", "[7]"),
        ("9 * function", "8 * function"),
        ('"[a-z]+"', '"[a-z]*"'),
        ('"[a-z]+"', '"[a-z]+", re.I'),
        ('compile("split")', 'compile("spilt")'),
        ("[1.0, 2.0]", "[1.0, 2.5]"),
        ('"kind a"', '"kind b"'),
        ("START = 10", "START = 11"),
    ],
)
@pytest.mark.parametrize("name", ["score", "Model"])
def test_whatever_way_a_class_uses_something_it_is_part_of_it(load, name, old, new):
    assert old in USES
    assert identity(load(USES), name) == identity(load(USES), name)
    assert identity(load(USES), name) != identity(load(USES.replace(old, new, 1)), name)


def test_what_a_function_keeps_in_the_module_is_not_part_of_it(load):
    module = load(USES)
    before = identity(module, "score")
    module._state = object()
    assert identity(module, "score") == before
    assert "x + 7" not in str(before)


def test_what_the_methods_of_a_class_close_over_is_part_of_it(load):
    text = "def make(k):\n    class Model:\n        def __call__(self, x): return x * k\n    return Model\n"
    module = load(text)
    assert source_identity(module.make(1)) == source_identity(module.make(1))
    assert source_identity(module.make(1)) != source_identity(module.make(2))


OBJECT = """
import json
from fractions import Fraction
from json import decoder
from sys import stdout
model = json.JSONDecoder()

class Own: pass

own = Own()
def score(x): return model.decode(x)
def by_property(x): return x.model
def imported(x): return stdout
def owner(x): return own
class Model:
    @property
    def m(self): return model
def text(x):
    model = '''
at the left'''
    return model
def nested():
    def left(x):
        return '''
at the left''', model
    return left
"""


@pytest.mark.parametrize("name", ["score", "owner", "Model"])
def test_an_object_of_the_module_needs_a_version(load, name):
    with pytest.raises(ConfigError, match=r"'(model|own)', which the function holds, is a (JSONDecoder|Own), not"):
        identity(load(OBJECT), name)
    assert source_identity(getattr(load(OBJECT), name), version=1)["version"] == 1


def test_names_that_only_look_like_the_object_do_not(load):
    module = load(OBJECT)
    for name in ("by_property", "imported", "text"):
        assert identity(module, name)["source"]["uses"] == {}
    with pytest.raises(ConfigError, match="'model'"):
        source_identity(module.nested())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """`project(files)`: the module `mine` of a folder with these files, a new folder each time."""
    before, path, folders = set(sys.modules), list(sys.path), []

    def forget():
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__path__", getattr(sys.modules[name], "__file__", ""))):
                del sys.modules[name]

    def make(files):
        forget()
        folder = tmp_path / f"folder {len(folders)}"
        folders.append(folder)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        monkeypatch.setattr(sys, "path", [str(folder), *path])
        importlib.invalidate_caches()
        return importlib.import_module("mine")

    yield make
    forget()


MODULES = {
    "mine.py": """
import helpers
import pkg.sub
from pkg.more import *
from pkg import other as another
from helpers import MODEL, f as g
if helpers:
    import pkg.deep.lowest
HERE = __file__

def by_attribute(x): return helpers.f(x)
def by_name(x): return g(x)
def by_instance(x): return MODEL.decode(x)
def by_submodule(x): return pkg.sub.f(x)
def by_star(x): return starred(x)
def by_alias(x): return another.f(x)
def by_depth(x): return pkg.deep.lowest.f(x)
def lazily(x):
    from helpers import f
    return f(x)
def lazily_inside(x):
    import pkg
    return pkg.sub.f(x)
def by_string(x):
    import importlib
    return importlib.import_module("pkg.sub").f(x)
def by_default(x, f=g): return f(x)
def make(held):
    def inner(x): return held.f(x)
    return inner
by_closure = make(helpers)
class Model(helpers.Base): pass
class ByInit:
    def __init__(self): self.f = helpers.f
by_partial = __import__("functools").partial(make, held=g)
class Ordinary:
    def __call__(self, x): return x
def alone(x): return x
""",
    "helpers.py": """
import json
from deeper import LIMIT
MODEL = json.JSONDecoder()
def f(x): return x + LIMIT
class Base: pass
""",
    "deeper.py": "LIMIT = 3\n",
    "unrelated.py": "X = 1\n",
    "pkg/__init__.py": "TOP = 1\n",
    "pkg/sub.py": "from . import relative\nfrom .relative import LIMIT\ndef f(x): return x + LIMIT\n",
    "pkg/relative.py": "LIMIT = 3\n",
    "pkg/more.py": "def starred(x): return 1\n",
    "pkg/other.py": "def f(x): return 1\n",
    "pkg/deep/lowest.py": "def f(x): return 1\n",
}
FUNCTIONS = [
    *("by_attribute", "by_name", "by_instance", "by_submodule", "by_star", "by_alias", "by_depth", "lazily"),
    *("lazily_inside", "by_string", "by_default", "by_closure", "Model", "ByInit", "by_partial", "Ordinary", "alone"),
]
THROUGH_HELPERS = {"by_attribute", "by_name", "by_instance", "lazily", "by_closure", "Model", "ByInit"}
THROUGH_HELPERS |= {"by_default", "by_partial"}
THROUGH_SUB = {"by_submodule", "lazily_inside", "by_string"}
THROUGH_PKG = {"by_submodule", "by_depth"}  # whoever names a package has all that is imported of it


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("helpers.py", THROUGH_HELPERS - {"by_partial"}),  # it holds `f`, and nothing beside it
        ("deeper.py", THROUGH_HELPERS),
        ("unrelated.py", set()),
        ("pkg/sub.py", THROUGH_SUB | THROUGH_PKG),
        ("pkg/relative.py", THROUGH_SUB | THROUGH_PKG),
        ("pkg/__init__.py", {*THROUGH_SUB, "by_star", "by_alias", "by_depth"}),
        ("pkg/more.py", {"by_star"}),
        ("pkg/other.py", {"by_alias"}),
        ("pkg/deep/lowest.py", THROUGH_PKG),
    ],
)
def test_a_module_beside_the_pipeline_is_part_of_what_reaches_it(project, file, changed):
    before, after = (
        {name: identity(module, name) for name in FUNCTIONS}
        for module in map(project, (MODULES, MODULES | {file: MODULES[file] + "more = 1\n"}))
    )
    assert {name for name in FUNCTIONS if before[name] != after[name]} == changed


def test_where_a_project_lies_is_no_part_of_it(project):
    files = MODULES | {
        "mine.py": MODULES["mine.py"]
        + """
from pathlib import Path
FOLDER = Path(__file__).parent
FILES = {"a": [str(FOLDER / "words.txt")]}
def reads(x): return FOLDER, FILES, HERE
"""
    }
    names = [*FUNCTIONS, "reads"]
    one, two = ([identity(module, name) for name in names] for module in map(project, (files, files)))
    assert one == two
    assert "folder 0" not in str(one)
    assert one[-1] != identity(project(files | {"mine.py": files["mine.py"].replace("words.txt", "word.txt")}), "reads")


def test_what_is_installed_is_no_part_of_it(project):
    text = "import numpy, numpy.linalg, json, annotate\nfrom pyarrow import compute\n"
    text += "def score(x): return numpy.linalg.norm(x) + json.loads(x) + compute.add(x, x) + annotate.shards(x)\n"
    assert "modules" not in identity(project({"mine.py": text}), "score")


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("import importlib; importlib.import_module(x)", "", "'score' imports a module by a name that is made when"),
        ("__import__(x)", "", "'score' imports a module by a name that is made when it runs"),
        ("import helpers", "import importlib\nf = lambda n: importlib.import_module('.' + n)\n", "'helpers' imports"),
        ("import no_such_module", "", "'score' imports 'no_such_module', which is not found here"),
        ("import helpers", "def later(): import no_such_module", "'helpers' imports 'no_such_module', which is not"),
        ("import helpers", "import compiled", "'helpers' imports 'compiled', which has no Python source"),
        ("import helpers", "def later(): import broken", "the module 'broken' is not Python"),
    ],
)
def test_what_cannot_be_followed_needs_a_version(project, line, other, message):
    module = project(
        {"mine.py": f"def score(x):\n    {line}\n", "helpers.py": other, "compiled.so": "", "broken.py": "def :"}
    )
    importlib.import_module("helpers") if "compiled" not in other else None
    with pytest.raises(ConfigError, match=message) as caught:
        identity(module, "score")
    assert "version=" in str(caught.value)
    assert source_identity(module.score, version=1)["version"] == 1


def test_what_code_can_do_without_may_be_missing(project):
    text = """
def score(x):
    try:
        import no_such_module as fast
    except ImportError:
        import helpers as fast
    return fast.f(x)
"""
    found = [identity(project({"mine.py": text, "helpers.py": helper}), "score") for helper in ("f = 1\n", "f = 2\n")]
    assert list(found[0]["modules"]) == ["helpers"]
    assert found[0] != found[1]


STATE = """
import collections, functools
from typing import NamedTuple
from enum import Enum

class Config(NamedTuple):
    limit: int = 3
    def doubled(self): return self.limit * 2
CONFIG = Config()

class Kind(Enum):
    A = 1
    def weight(self): return self.value * 2
KINDS = [{Kind.A}]

class Slots:
    __slots__ = ("size", "__dict__")
    def __init__(self, size): self.size = size
    def __call__(self, x): return x * self.size

class Words(dict):
    def __call__(self, x): return self[x]

class Model:
    size = 4
    def __call__(self, x): return x * self.size

def attribute(x): return x * attribute.size
attribute.size = 4

@functools.singledispatch
def dispatched(x): return x
@dispatched.register
def _(x: int): return x * 2
def dispatches(x): return dispatched(x)

def pair(f, g, h):
    def inner(x): return f(g(h(x)))
    return inner
def times(k):
    def inner(x): return x * k
    return inner
two, three = times(2), times(3)
mixed = pair(two, three, two)

counts = collections.defaultdict(int, {"a": 1})
def by_config(x): return CONFIG.doubled()
def by_kind(x): return [kind.weight() for kind in KINDS]
def by_counts(x): return counts[x]
slots, words, model = Slots(4), Words(a=1), Model()
"""


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("by_config", "self.limit * 2", "self.limit * 3"),
        ("by_kind", "self.value * 2", "self.value * 3"),
        ("by_counts", "defaultdict(int", "defaultdict(float"),
        ("slots", "Slots(4)", "Slots(5)"),
        ("words", "Words(a=1)", "Words(a=2)"),
        ("Model", "slots, words", "Model.size = 5\nslots, words"),
        ("model", "slots, words", "Model.size = 5\nslots, words"),
        ("attribute", "attribute.size = 4", "attribute.size = 5"),
        ("dispatches", "x: int): return x * 2", "x: int): return x * 3"),
        ("mixed", "pair(two, three, two)", "pair(two, three, three)"),
    ],
)
def test_whatever_holds_a_value_it_is_part_of_it(load, name, old, new):
    assert old in STATE
    assert identity(load(STATE), name) == identity(load(STATE), name)
    assert identity(load(STATE), name) != identity(load(STATE.replace(old, new, 1)), name)


def test_an_object_that_another_cell_of_a_notebook_made_needs_a_version(load):
    module = load("def score(x): return model.decode(x)\n")
    module.model = __import__("json").JSONDecoder()
    with pytest.raises(ConfigError, match="'model', which the function holds"):
        identity(module, "score")
    module.model = collections.OrderedDict(a=1)
    assert "OrderedDict" in str(identity(module, "score")) or "dict" in str(identity(module, "score"))
