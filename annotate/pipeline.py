"""Pipelines: a graph of stages with a name for its outputs, and pipeline files with typed parameters.

A pipeline file is plain Python that defines `pipeline`: a `Pipeline`, or a function that returns one and whose keyword
parameters, each with a type and a default, are the pipeline's parameters.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import keyword
import sys
import traceback
import types
import typing
from collections.abc import Callable, Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from annotate.arguments import as_path
from annotate.engine.events import Observer
from annotate.engine.run import DEFAULTS, Result, run
from annotate.engine.running import Options
from annotate.errors import AnnotateError, ConfigError
from annotate.graph import Stage, graph
from annotate.stages.corpus import Corpus
from annotate.stages.repeated_ids import RepeatedIds
from annotate.stages.shards import SHARDS, Shards


class Pipeline:
    """The stages that a run is to make, with all that they need; ids of a corpus are looked at for repeats.

        Pipeline(train=Render(...), evaluation=Render(..., subset="evaluation"))

    Outputs have names, by which `annotate.shards`, commands and the ledger tell them apart. One that is given without a
    name is called after what it makes: shards are `shards`, verdicts `verdicts`, further verdicts `verdicts_2`. Two
    outputs that are shards need names of yours.

    Attributes:
        outputs: stages by name.
        checks: stages that are run too, though nothing is made of them.

    Raises:
        ConfigError: there are no outputs, a name is no Python name, or two outputs have one name or are one stage.
    """

    def __init__(self, *unnamed: Stage, **named: Stage) -> None:
        given = [*((None, stage) for stage in unnamed), *named.items()]
        if not given or not all(isinstance(stage, Stage) for _, stage in given):
            raise ConfigError(f"Pipeline(...) takes one or more stages, got {[stage for _, stage in given]!r}")
        outputs: dict[str, Stage] = {}
        for name, stage in ((name or _name(stage, outputs), stage) for name, stage in given):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ConfigError(f"an output is called {name!r}, which is no Python name")
            if name in outputs:
                raise ConfigError(
                    f"two outputs are called {name!r}", hint="Name them, as in Pipeline(train=..., evaluation=...)."
                )
            if same := [other for other, made in outputs.items() if made == stage]:
                raise ConfigError(f"the outputs {same[0]!r} and {name!r} are one and the same stage")
            outputs[name] = stage
        self.outputs: Mapping[str, Stage] = outputs
        corpora = [stage for stage in graph(outputs.values()) if isinstance(stage, Corpus)]
        self.checks = tuple(RepeatedIds(corpus) for corpus in corpora if corpus.id is not None)

    def stages(self) -> list[Stage]:
        """All stages, inputs before users.

        Raises:
            ConfigError: there is a cycle.
        """
        return graph([*self.checks, *self.outputs.values()])

    def run(
        self, workdir: str | PathLike[str], options: Options = DEFAULTS, observer: Observer | None = None
    ) -> Result:
        """Make all datasets in `workdir`, on the Ray cluster that this process is connected to.

        Raises:
            ConfigError: Ray does not run, or the graph is wrong.
            InputError: a corpus can't be read.
            StorageError: the work directory can't be used.
            WorkError: a unit failed on every attempt.
        """
        return run(self.outputs, as_path(workdir, "workdir"), options, observer, checks=self.checks)


def _name(stage: Stage, taken: Collection[str]) -> str:
    """What an output is called that was given no name; one that is no shards gets a number where its kind is taken."""
    if isinstance(stage, Shards):
        return SHARDS
    kind = name = stage.name.replace("-", "_")
    number = 1
    while name in taken:
        number += 1
        name = f"{kind}_{number}"
    return name


Definition = Pipeline | Callable[..., Pipeline]


def load(path: str) -> tuple[Definition, str]:
    """Load a pipeline file.

    Returns:
        What it defines as `pipeline`, and the name of its module.

    Raises:
        ConfigError: the file is missing, is not Python, raises, or defines no pipeline.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"no such pipeline file: {path}", hint="`annotate new NAME` writes one to start from.")
    name = f"pipeline_file_{file.stem}"  # not the name of a module that it, or the workers, may import
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}\n    {(error.text or '').strip()}") from error
    except AnnotateError:
        raise
    except Exception as error:
        raise ConfigError(_raised(error, path)) from error
    return definition(module, path), name


def _raised(error: Exception, path: str) -> str:
    """What a pipeline file raised, and at which of its lines."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    line = next((f.lineno for f in frames if Path(f.filename).resolve() == Path(path).resolve()), None)
    return f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {error}"


def definition(module: types.ModuleType, path: str) -> Definition:
    """What a module defines as `pipeline`.

    Raises:
        ConfigError: nothing, or something else.
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
            raise ConfigError(f'pipeline parameter {name!r} needs a type and a default, as in `{name}: str = "..."`')
        declared[name] = parameter.replace(annotation=hints[name])
    return declared


def build(pipeline: Definition, settings: Mapping[str, str]) -> Pipeline:
    """Make the pipeline with parameters as the command line gives them, as text.

    Raises:
        ConfigError: a parameter is unknown or ill-typed; lists the right ones. Or a stage refuses its settings.
    """
    if isinstance(pipeline, Pipeline):
        if settings:
            raise ConfigError(f"this pipeline has no parameters, got {', '.join(settings)}")
        return pipeline
    declared = parameters(pipeline)
    values = {name: _value(name, text, declared) for name, text in settings.items()}
    try:
        built = pipeline(**values)
    except AnnotateError:
        raise
    except Exception as error:
        raise ConfigError(_raised(error, inspect.getsourcefile(pipeline) or "the pipeline file")) from error
    if not isinstance(built, Pipeline):
        raise ConfigError(f"the function `pipeline` returned {type(built).__name__}, expected a Pipeline")
    return built


def _value(name: str, text: str, declared: Mapping[str, inspect.Parameter]) -> Any:
    if name not in declared:
        near = difflib.get_close_matches(name, declared, 1)
        raise ConfigError(
            f"no parameter {name!r}{f'; did you mean {near[0]!r}?' if near else ''}\n\nParameters:\n"
            + describe(declared)
        )
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
    """Parameters as text, a line each: name, type, default."""
    lines = []
    for name, parameter in declared.items():
        kind = parameter.annotation
        shown = (
            kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
        )
        lines.append(f"  {name}: {shown} = {parameter.default!r}")
    return "\n".join(lines)
