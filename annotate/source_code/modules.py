"""What a user's code imports: the modules that are not installed, each identified by the hash of its text."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import pkgutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec
from pathlib import Path

from annotate.errors import ConfigError

HINT = "declare version=... and raise it whenever the function's result changes"

_INSTALLED = {"site-packages", "dist-packages"}
_DYNAMIC = {"import_module", "__import__"}


@dataclass(frozen=True)
class Imports:
    """What some code imports.

    Attributes:
        where: what messages call the code.
        modules: dotted names of modules; for each, whether the code can't run without it.
        names: all identifiers in the code. A module of a package counts as imported if its name is one of them:
            `package.module` works without an import if another file has imported it.
    """

    where: str
    modules: Mapping[str, bool]
    names: frozenset[str]


def imports(text: str, package: str, where: str) -> Imports:
    """Find what code imports, anywhere in it.

    Args:
        text: Python source.
        package: the package that relative imports start from; empty: none.
        where: what messages call the code.

    Raises:
        ConfigError: the text is not Python, or imports a module whose name is made when the code runs.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"the source of {where} is not Python: {error}", hint=HINT) from error
    modules: dict[str, bool] = {}
    for node, certain in _walk(tree, certain=True):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for _, (module, *maybe) in imported_names(node, package, where):
                modules[module] = modules.get(module, False) or certain
                for name in maybe:
                    modules.setdefault(name, False)
        elif isinstance(node, ast.Call) and _last_name(node.func) in _DYNAMIC:
            named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if not isinstance(named, str) or named.startswith("."):
                raise ConfigError(
                    f"{where} imports a module by a name that is made when it runs (line {node.lineno}), "
                    "so the module's text can't be part of what identifies the function",
                    hint=f"Write an import statement, or {HINT}",
                )
            modules[named] = modules.get(named, False) or certain
    names = frozenset(found for node in ast.walk(tree) if (found := _last_name(node)) is not None)
    return Imports(where, modules, names)


def imported_names(node: ast.Import | ast.ImportFrom, package: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """Each name that an import binds ("*" for all), with its module, and the module that the name itself may be."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], [alias.name]
        return
    try:
        base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError as error:
        raise ConfigError(f"{where} has a relative import (line {node.lineno}): {error}", hint=HINT) from error
    for alias in node.names:
        yield alias.asname or alias.name, [base] if alias.name == "*" else [base, f"{base}.{alias.name}"]


def hashes(found: Sequence[Imports]) -> dict[str, str]:
    """SHA-256 of the text, by dotted name, of each user's module that code imports, and that these import in turn.

    Installed packages, the standard library and this package are left out.

    Raises:
        ConfigError: a module that the code can't run without is not found; or a user's module has no Python source.
    """
    texts: dict[str, str] = {}
    names = frozenset[str]().union(*(code.names for code in found))  # one function may give a package to another
    waiting = [replace(code, names=names) for code in found]
    while waiting:
        code = waiting.pop()
        for name, spec in _specs(code):
            if name not in texts:
                texts[name] = _text(spec, code.where)
                waiting.append(imports(texts[name], spec.parent or "", f"the module {name!r}"))
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())}


@functools.cache
def is_installed(name: str) -> bool:
    """Whether a module that is loaded comes from an installed package, the standard library or this package."""
    spec = None if name == "__main__" else getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and _is_library(spec)


def _walk(node: ast.AST, *, certain: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, and whether each is sure to run when the code around it does: not under `if` and `try`."""
    for child in ast.iter_child_nodes(node):
        yield child, certain
        yield from _walk(child, certain=certain and not isinstance(child, ast.If | ast.Try | ast.TryStar))


def _last_name(node: ast.AST) -> str | None:
    """`c` of `a.b.c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _specs(code: Imports) -> Iterator[tuple[str, ModuleSpec]]:
    """The user's modules that code imports, and the packages that these are in."""
    waiting = list(code.modules.items())
    done = set()
    while waiting:
        name, certain = waiting.pop()
        path: Sequence[str] | None = None
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            above = ".".join(parts[:end])
            spec = _find(above, path, code.where)
            if spec is None:
                if certain:
                    raise ConfigError(f"{code.where} imports {name!r}, which is not found here", hint=HINT)
                break
            if _is_library(spec):
                break
            if above not in done:
                done.add(above)
                yield above, spec
                inside = pkgutil.iter_modules(spec.submodule_search_locations or ())
                waiting += [(f"{above}.{module.name}", False) for module in inside if module.name in code.names]
            path = spec.submodule_search_locations
            if path is None and end < len(parts):
                if certain:
                    raise ConfigError(f"{code.where} imports {name!r}, but {above!r} is no package", hint=HINT)
                break


def _find(name: str, path: Sequence[str] | None, where: str) -> ModuleSpec | None:
    """Find where a module is, without running its packages."""
    if (module := sys.modules.get(name)) is not None:
        spec = getattr(module, "__spec__", None)
        if not isinstance(spec, ModuleSpec):
            raise ConfigError(f"{where} imports {name!r}, which was not loaded from a file", hint=HINT)
        return spec
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (found := find(name, path)) is not None:
            return found if isinstance(found, ModuleSpec) else None
    return None


def _is_library(spec: ModuleSpec) -> bool:
    if spec.name.partition(".")[0] == __name__.partition(".")[0] or spec.origin in ("built-in", "frozen"):
        return True
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else ())]
    return bool(places) and all(_is_library_path(Path(place)) for place in places)


def _is_library_path(path: Path) -> bool:
    standard = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")]
    return not _INSTALLED.isdisjoint(path.parts) or any(path.resolve().is_relative_to(folder) for folder in standard)


def _text(spec: ModuleSpec, where: str) -> str:
    if spec.loader is None or (spec.origin is None and spec.submodule_search_locations is not None):
        return ""  # a package without a file of its own
    read = getattr(spec.loader, "get_source", None)
    try:
        if read is not None:
            text = read(spec.name)
        else:
            file = Path(spec.origin or "")
            text = importlib.util.decode_source(file.read_bytes()) if file.suffix in SOURCE_SUFFIXES else None
    except (OSError, ImportError, SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} imports {spec.name!r}, whose source can't be read: {error}", hint=HINT) from error
    if not isinstance(text, str):
        raise ConfigError(f"{where} imports {spec.name!r}, which has no Python source", hint=HINT)
    return text
