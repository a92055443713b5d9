"""The pipelines that come with this package: lists them, and copies one to start from."""

from __future__ import annotations

import ast
import importlib.util
import re
from os import PathLike
from pathlib import Path

from annotate.arguments import as_path
from annotate.errors import ConfigError
from annotate.storage.contracts import shipped

DEFAULT = "conditional_pretraining"
"""The shipped pipeline that `write_pipeline` copies."""


def shipped_pipelines() -> dict[str, str]:
    """The pipelines that come with this package.

        write_pipeline("my", source=list(shipped_pipelines())[0])

    Returns:
        A line on what each does, by name. The default is first.
    """
    return {name: (ast.get_docstring(_parsed(path)) or "").partition("\n")[0] for name, path in _shipped().items()}


def write_pipeline(name: str, *, source: str = DEFAULT, folder: str | PathLike[str] = ".") -> tuple[str, ...]:
    """Copy a shipped pipeline to a file of your own, with the modules beside it that it imports.

    A module of that name in the folder stays as it is, because another pipeline may use it.

        write_pipeline("my_pipeline")

    Args:
        name: of the pipeline; its file is `name.py`.
        source: which of `shipped_pipelines`.
        folder: where the file goes.

    Returns:
        Paths of the files that were written, the pipeline's first.

    Raises:
        ConfigError: the name won't do, there is such a file, or no such pipeline is shipped.
    """
    known, place = _shipped(), Path(as_path(folder, "folder"))
    if source not in known:
        raise ConfigError(f"no pipeline {source!r} is shipped", hint=f"The shipped ones are: {', '.join(known)}.")
    stem = name.removesuffix(".py")
    target = place / f"{stem}.py"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", stem):
        raise ConfigError(
            f"{name!r} can't name a pipeline file", hint="Use letters, digits, `_` and `-`, and begin with a letter."
        )
    if target.exists():
        raise ConfigError(f"{target} exists", hint="Choose another name; nothing is ever overwritten.")
    if importlib.util.find_spec(stem) is not None:
        raise ConfigError(f"{target} would hide the Python module {stem!r}", hint="Choose another name.")
    text = known[source].read_text("utf-8")
    written = {target: text.replace(f"pipelines/{known[source].name}", target.name)}
    for module in _imports(_parsed(known[source])):
        beside = known[source].with_name(f"{module}.py")
        if beside.is_file() and not (place / beside.name).exists():
            written[place / beside.name] = beside.read_text("utf-8")
    for path, content in written.items():
        path.write_text(content, "utf-8")
    return tuple(str(path) for path in written)


def _shipped() -> dict[str, Path]:
    """The pipeline files that come with this package, by name: those that define `pipeline`."""
    found = {path.stem: path for path in sorted(shipped("pipelines").glob("*.py")) if _defines_pipeline(_parsed(path))}
    return {DEFAULT: found[DEFAULT], **found}


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _defines_pipeline(module: ast.Module) -> bool:
    functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    assigned = {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return "pipeline" in functions | assigned


def _imports(module: ast.Module) -> list[str]:
    names = [alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(module) if isinstance(node, ast.ImportFrom) if node.module]
    return sorted({name.partition(".")[0] for name in names})
