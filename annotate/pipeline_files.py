"""Pipeline files: loads one with its parameters; those that are shipped can be copied to start from.

A pipeline file is plain Python that defines `pipeline`: a `Pipeline`, or a function that returns one. The parameters of
the pipeline are the keyword parameters of that function, each with a type and a default.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from annotate.arguments import as_path
from annotate.engine.provenance import Origin
from annotate.errors import AnnotateError, ConfigError
from annotate.pipeline import Pipeline
from annotate.shipped_pipelines import shipped_pipelines, write_pipeline

__all__ = ["load_pipeline", "shipped_pipelines", "write_pipeline"]


def load_pipeline(path: str | PathLike[str], **settings: Any) -> Pipeline:
    """Load the pipeline of a pipeline file, to run it from Python.

        pipeline = load_pipeline("pipeline.py", duplicate_threshold=0.9)

    Functions and classes of the file are sent to the workers. Modules beside the file that it imports must be where
    the workers look for modules, such as on `PYTHONPATH`.

    Args:
        path: of the file.
        settings: parameters of the pipeline, as the function `pipeline` in the file takes them.

    Raises:
        ConfigError: the file is missing, is not Python, raises, or defines no pipeline; or a parameter is unknown.
    """
    found, module = load(as_path(path, "path"))
    pipeline = _call(found, settings)
    pipeline.by_value = (module,)
    return pipeline


Definition = Pipeline | Callable[..., Pipeline]


def load(path: str) -> tuple[Definition, str]:
    """Load a pipeline file.

    Returns:
        The `pipeline` that it defines, and the name of its module.

    Raises:
        ConfigError: the file is missing, is not Python, raises, or defines no pipeline.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"no such pipeline file: {path}", hint="`annotate new NAME` writes one to start from.")
    name = f"pipeline_file_{file.stem}"  # so that no module which the file or a worker imports has this name
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file", hint="Name a pipeline file, which ends with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: {error.msg}\n    {(error.text or '').strip()}",
            hint="Mend that line: Python can't read it.",
        ) from error
    except AnnotateError:
        raise
    except Exception as error:
        raise ConfigError(_raised(error, path)) from error
    found = definition(module, path)
    if isinstance(found, Pipeline):
        found.origin = Origin.of(path)
    return found, name


def _raised(error: Exception, path: str) -> str:
    """A message with the error that a pipeline file raised, and the line of the file."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    line = next((f.lineno for f in frames if Path(f.filename).resolve() == Path(path).resolve()), None)
    return f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {error}"


def definition(module: types.ModuleType, path: str) -> Definition:
    """The `pipeline` that a module defines.

    Raises:
        ConfigError: it defines none, or it is neither a `Pipeline` nor a function.
    """
    found = getattr(module, "pipeline", None)
    if isinstance(found, Pipeline) or callable(found):
        return found
    raise ConfigError(
        f"{path} defines no pipeline",
        hint="Define `pipeline`: a Pipeline(...), or a function with typed keyword parameters that returns one.",
    )


def parameters(pipeline: Definition) -> dict[str, inspect.Parameter]:
    """The parameters that a pipeline declares, by name.

    Raises:
        ConfigError: one has no type, or no default.
    """
    if isinstance(pipeline, Pipeline):
        return {}
    hints = typing.get_type_hints(pipeline)
    declared = {}
    for name, parameter in inspect.signature(pipeline).parameters.items():
        if name not in hints or parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"the pipeline's parameter {name!r} lacks a type or a default",
                hint=f'Write it as in `{name}: str = "..."`.',
            )
        declared[name] = parameter.replace(annotation=hints[name])
    return declared


def build(pipeline: Definition, settings: Mapping[str, str]) -> Pipeline:
    """Make the pipeline with parameters that are given as text, as on the command line.

    Raises:
        ConfigError: a parameter is unknown or has the wrong type, and the message lists all; or a stage refuses its
            settings.
    """
    if isinstance(pipeline, Pipeline):
        return _call(pipeline, settings)
    declared = parameters(pipeline)
    return _call(pipeline, {name: _value(name, text, declared) for name, text in settings.items()})


def _call(pipeline: Definition, values: Mapping[str, Any]) -> Pipeline:
    if isinstance(pipeline, Pipeline):
        if values:
            raise ConfigError(
                f"this pipeline has no parameters, got {', '.join(values)}",
                hint="Leave them out, or make `pipeline` a function with these keyword parameters.",
            )
        return pipeline
    declared = parameters(pipeline)
    for name in values:
        _check_known(name, declared)
    try:
        built = pipeline(**values)
    except AnnotateError:
        raise
    except Exception as error:
        raise ConfigError(_raised(error, inspect.getsourcefile(pipeline) or "the pipeline file")) from error
    if not isinstance(built, Pipeline):
        raise ConfigError(
            f"the function `pipeline` returned {type(built).__name__}, expected a Pipeline",
            hint="End it with `return Pipeline(...)`.",
        )
    built.origin = Origin.of(inspect.getsourcefile(pipeline), values)
    return built


def _check_known(name: str, declared: Mapping[str, inspect.Parameter]) -> None:
    if name not in declared:
        near = difflib.get_close_matches(name, declared, 1)
        raise ConfigError(
            f"no parameter {name!r}{f'; did you mean {near[0]!r}?' if near else ''}\n\nParameters:\n"
            + describe(declared)
        )


def _value(name: str, text: str, declared: Mapping[str, inspect.Parameter]) -> Any:
    _check_known(name, declared)
    kind = declared[name].annotation
    if text.lower() == "none" and type(None) in typing.get_args(kind):
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        kinds = [kind, *typing.get_args(kind)] if _is_union(kind) else [kind]
        if any(typing.get_origin(item) in (tuple, list) for item in kinds):
            return adapter.validate_python([item.strip() for item in text.split(",") if item.strip()])
        return adapter.validate_strings(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(f"parameter {name}={text!r}: {reason}\n\nParameters:\n" + describe(declared)) from None


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def describe(declared: Mapping[str, inspect.Parameter]) -> str:
    """Parameters as text, one on each line: name, type, default."""
    lines = []
    for name, parameter in declared.items():
        kind = parameter.annotation
        shown = (
            kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
        )
        lines.append(f"  {name}: {shown} = {parameter.default!r}")
    return "\n".join(lines)
