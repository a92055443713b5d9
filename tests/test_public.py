"""The public names: each is there, documented, and returns plain values."""

import ast
import collections.abc
import dataclasses
import enum
import importlib
import inspect
import types
import typing
from pathlib import Path

import pytest

from annotate.graph import Stage

LAZY = [
    "annotate",
    "annotate.exports",
    "annotate.generators",
    "annotate.jobs",
    "annotate.probes",
    "annotate.reports",
    "annotate.scorers",
    "annotate.tags",
]
PACKAGES = [
    *LAZY,
    "annotate.directions",
    "annotate.inference",
    "annotate.pipeline_files",
    "annotate.tokens",
    "annotate.training",
]
PARTS_OF_PIPELINES = {"score", "column_scorer", "fake_scorer"}
"""Functions that make stages and scorers, which are given to stages."""


ANYTHING = (None, types.NoneType, typing.Any, typing.Self, typing.NoReturn)


def public(package):
    module = importlib.import_module(package)
    return {name: getattr(module, name) for name in module.__all__}


@pytest.mark.parametrize("package", LAZY)
def test_listed_names_are_there_and_nothing_else_is(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(module._HOMES)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", LAZY)
def test_what_type_checkers_see_is_what_is_imported(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == module._HOMES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_stands_for_one_thing_in_all_packages_and_is_documented(package):
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
    assert f"`{package}`" in page.partition("## What is public")[2]
    for name, value in public(package).items():
        assert all(public(other).get(name, value) is value for other in PACKAGES), name
        made = inspect.isfunction(value) or inspect.isclass(value)
        assert not made or inspect.getdoc(value), f"{package}.{name} has no docstring"


def test_all_packages_that_are_said_to_be_public_are_checked():
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
    said = page.partition("## What is public")[2].partition("All other")[0].split("`")[1::2]
    assert set(said) - {"__all__", "annotate.exports.adapters"} == set(PACKAGES)


def problems(kind, known, path="", seen=()):
    """Where a type is not plain: `known` are the public classes."""
    if kind in seen or kind in ANYTHING or isinstance(kind, typing.TypeVar):
        return []
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return []
    if origin is typing.Annotated:
        arguments = arguments[:1]
    if arguments:
        found = [] if origin in (typing.Union, types.UnionType) else problems(origin, known, path, seen)
        inside = [item for argument in arguments for item in (argument if isinstance(argument, list) else [argument])]
        return found + [p for item in inside if item is not ... for p in problems(item, known, path, seen)]
    if not isinstance(kind, type):
        return [f"{path}: {kind!r}"]
    if not kind.__module__.startswith("annotate"):
        return []
    private = kind.__module__.startswith(("annotate.graph", "annotate.storage"))
    if private or issubclass(kind, Stage):
        return [f"{path}: {kind.__qualname__} of {kind.__module__}"]
    if dataclasses.is_dataclass(kind):
        if not kind.__dataclass_params__.frozen:
            return [f"{path}: {kind.__qualname__} is not frozen"]
        hints = typing.get_type_hints(kind)
        fields = [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]
        fields += [(name, returned(value)) for name, value in methods(kind)]
        return [p for name, hint in fields for p in problems(hint, known, f"{path}.{name}", (*seen, kind))]
    if issubclass(kind, enum.Enum | tuple) or kind in known:
        return []
    return [f"{path}: {kind.__qualname__} of {kind.__module__} is not public"]


def methods(kind):
    """Its own public methods and properties, with the function of each."""
    for name, value in vars(kind).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


def returned(function):
    """What a function returns; arguments may be of types that are imported for type checkers alone."""
    hint = function.__annotations__["return"]
    return eval(hint, inspect.unwrap(function).__globals__) if isinstance(hint, str) else hint


def returning():
    """The public functions, and the methods of `Pipeline`, by name."""
    for package in PACKAGES:
        for name, value in public(package).items():
            if inspect.isfunction(value) and name not in PARTS_OF_PIPELINES:
                yield f"{package}.{name}", value
    for name, function in methods(public("annotate")["Pipeline"]):
        if name != "stages":
            yield f"annotate.Pipeline.{name}", function


def test_what_public_functions_return_is_plain():
    known = {value for package in PACKAGES for value in public(package).values() if isinstance(value, type)}
    checked = dict(returning())
    assert {"annotate.Pipeline.run", "annotate.Pipeline.plan", "annotate.export", "annotate.tables"} <= set(checked)
    assert [p for name, function in checked.items() for p in problems(returned(function), known, name)] == []


def test_engine_types_are_told_from_plain_ones():
    from annotate.engine.datasets import Dataset
    from annotate.engine.run import Made
    from annotate.stages.split import Split
    from annotate.storage.store import Directory

    for kind in (Dataset, Directory, Split, Made, list[Directory], collections.abc.Mapping[str, Dataset] | None):
        assert problems(kind, set()) != [], kind


@pytest.mark.parametrize(
    "package", ["annotate", "annotate.inference", "annotate.jobs", "annotate.pipeline_files", "annotate.reports"]
)
def test_a_public_function_shows_how_it_is_called(package):
    for name, value in public(package).items():
        if inspect.isfunction(value):
            about = inspect.getdoc(value).partition("\nArgs:")[0].partition("\nReturns:")[0]
            lines = [line for line in about.splitlines() if line.startswith("    ")]
            assert any(name in line for line in lines) or name == "main", f"{package}.{name} has no example"
