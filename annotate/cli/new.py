"""`annotate new`: write a pipeline file to start from."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from annotate.cli.terminal import console, say
from annotate.errors import ConfigError
from annotate.storage.contracts import shipped

DEFAULT = "conditional_pretraining"


@click.command()
@click.argument("name", required=False)
@click.option("--from", "source", default=DEFAULT, show_default=True, help="The shipped pipeline to copy.")
@click.option("--list", "listing", is_flag=True, help="List the shipped pipelines.")
def command(name: str | None, source: str, listing: bool) -> None:  # noqa: FBT001 - click names it
    """Copy a shipped pipeline to NAME.py in the current directory, with the modules that it imports."""
    pipelines = shipped_pipelines()
    out = console()
    if listing:
        table = Table(show_header=False, box=None)
        for path in pipelines.values():
            table.add_row(path.stem, Text((ast.get_docstring(_parsed(path)) or "").partition("\n")[0]))
        out.print(table)
        return
    if name is None:
        raise ConfigError("a pipeline file needs a name", hint="annotate new my_pipeline, or annotate new --list")
    if source not in pipelines:
        raise ConfigError(f"no pipeline {source!r} is shipped; there are: {', '.join(pipelines)}")
    written = write_pipeline(name, pipelines[source], Path())
    say(out, f"Wrote {' and '.join(path.name for path in written)}.")
    say(out, "It runs as it is, on a corpus made from what is on this machine:")
    say(out, f"  annotate run {written[0].name} --workdir out")
    say(out, "On your own Parquet, after a look at what that takes:")
    say(out, f"  annotate run {written[0].name} --workdir out --set 'corpus=data/*.parquet' --plan")


def shipped_pipelines() -> dict[str, Path]:
    """The pipeline files that come with this package, by name: those that define `pipeline`."""
    found = {path.stem: path for path in sorted(shipped("pipelines").glob("*.py")) if _defines_pipeline(_parsed(path))}
    return {DEFAULT: found[DEFAULT], **found}


def write_pipeline(name: str, source: Path, folder: Path) -> list[Path]:
    """Copy a pipeline file, and the modules beside it that it imports; returns the files written.

    A module that is there already stays as it is: another pipeline in the folder may use it.

    Raises:
        ConfigError: the name won't do, or there is such a file.
    """
    stem = name.removesuffix(".py")
    target = folder / f"{stem}.py"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", stem):
        raise ConfigError(f"the name of a pipeline must be letters, digits, `_` and `-`, got {name!r}")
    if target.exists():
        raise ConfigError(f"{target} exists", hint="Choose another name; nothing is ever overwritten.")
    if importlib.util.find_spec(stem) is not None:
        raise ConfigError(f"{target} would hide the Python module {stem!r}", hint="Choose another name.")
    text = source.read_text("utf-8")
    written = {target: text.replace(f"pipelines/{source.name}", target.name)}
    for module in _imports(_parsed(source)):
        beside = source.with_name(f"{module}.py")
        if beside.is_file() and not (folder / beside.name).exists():
            written[folder / beside.name] = beside.read_text("utf-8")
    for path, content in written.items():
        path.write_text(content, "utf-8")
    return list(written)


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
