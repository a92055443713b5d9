"""The public names of the packages that list them."""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGES = ["annotate", "annotate.scorers", "annotate.probes", "annotate.exports"]


@pytest.mark.parametrize("package", PACKAGES)
def test_listed_names_are_there_and_nothing_else_is(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(module._HOMES)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_what_type_checkers_see_is_what_is_imported(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == module._HOMES
