"""The identity of a function or class: its own source, what it uses of its module, and the modules that it imports."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import linecache
import logging
import pathlib
import re
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annotate.errors import ConfigError
from annotate.source_code.modules import HINT, Imports, hashes, imported_names, imports, is_installed
from annotate.source_code.plain import canonical, is_plain

MODULES = "modules"
"""The key of the hashes of modules, by dotted name, in a description."""


def source_identity(obj: Callable[..., Any], version: str | int | None = None) -> dict[str, Any]:
    """Describe a function, class, lambda, partial or callable object, so that equal descriptions mean equal behaviour.

    The description has:

    - the source text, and what closures, defaults and attributes hold;
    - the functions, classes and plain values of the same module that the text names. Plain values are numbers, strings,
      paths, dates, regular expressions, enum members, arrays, and collections of these;
    - the hash of the whole text of every other module that the text or its module imports, and of what those import.

    It does not have installed packages, nor files that the code reads: whoever depends on their content declares a
    version. Loggers and type aliases change no result, and the name and folder of the module differ between runs, so
    these are not in it either.

    Args:
        obj: what a user wrote.
        version: if given, it takes the place of the source.

    Raises:
        ConfigError: the source of the object, or of a module that it imports, can't be found; or a closure or a global
            name holds an object that is no plain value.

    >>> source_identity(len, version=3)
    {'name': 'len', 'version': 3}
    """
    if version is not None:
        return {"name": _name(obj), "version": version}
    reader = _Reader()
    identity = {"name": _name(obj), "source": reader.read(obj)}
    modules = hashes(reader.imports)
    return identity | ({MODULES: modules} if modules else {})


def _name(obj: Any) -> str:
    if isinstance(obj, functools.partial):
        return _name(obj.func)
    return str(getattr(obj, "__qualname__", type(obj).__qualname__))


@dataclass(frozen=True)
class _Module:
    """The names that a module's code binds at its top level.

    Attributes:
        scope: the value of each name.
        imported: for each name that an import statement binds, the modules that it is, or comes from. "*": the modules
            whose names are all imported.
        assigned: names that are bound in other ways.
    """

    scope: Mapping[str, Any]
    imported: Mapping[str, list[str]]
    assigned: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.scope.get("__name__", ""))

    @property
    def package(self) -> str:
        return str(self.scope.get("__package__") or "")

    @property
    def folder(self) -> str:
        return str(pathlib.Path(file).resolve().parent) if (file := self.scope.get("__file__")) else ""

    def origins(self, name: str, value: Any) -> list[str]:
        """The modules that a name comes from, as far as is known; empty for what this module defines."""
        if name in self.imported and name not in self.assigned:
            return self.imported[name]
        if isinstance(value, types.ModuleType):
            return [value.__name__]
        if name not in self.assigned:
            stars = self.imported.get("*", [])
            if found := [star for star in stars if getattr(sys.modules.get(star), name, self) is value]:
                return found
        home = _home(value)
        return [home] if home is not None and home != self.name else []


class _Reader:
    """Reads each object once, so that functions may call each other.

    Attributes:
        imports: what the code that was read imports.
    """

    def __init__(self) -> None:
        self.imports: list[Imports] = []
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object, so that no other can take its id
        self._modules: dict[tuple[str, str], _Module] = {}

    def read(self, obj: Any) -> Any:
        """The description of an object, as JSON."""
        if id(obj) in self._seen:
            return f"{_name(obj)}, number {self._seen[id(obj)][0]}"
        self._seen[id(obj)] = len(self._seen), obj
        if isinstance(obj, functools.partial):
            return {"partial": self.read(obj.func), "args": self._values(dict(enumerate(obj.args)) | obj.keywords)}
        if isinstance(obj, types.MethodType):
            return {"method": obj.__name__, "of": self.read(obj.__self__)}
        if isinstance(obj, type):
            return self._read_class(obj)
        if _is_wrapper(obj):
            return {"wrapper": type(obj).__name__, "of": self.read(obj.__wrapped__), **self._dispatched(obj)}
        if isinstance(obj, types.FunctionType):
            return self._read_function(obj)
        if isinstance(obj, types.BuiltinFunctionType) or not hasattr(obj, "__dict__"):
            raise ConfigError(f"{_name(obj)!r} has no Python source", hint=HINT)
        return {"object": self.read(type(obj)), "state": self._state(obj)}

    def _read_function(self, function: types.FunctionType) -> dict[str, Any]:
        text = _text(function)
        module = self._module(function.__globals__, function.__code__.co_filename)
        used = self._used(_name(function), text, module, function.__code__.co_freevars)
        defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
        held = dict(inspect.getclosurevars(function).nonlocals) | defaults
        attributes = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        return {"text": text, "holds": self._values(held, module), "uses": used} | (
            {"attributes": self._values(attributes, module)} if attributes else {}
        )

    def _read_class(self, cls: type) -> dict[str, Any]:
        text = _text(cls)
        module = self._module(_scope(cls), inspect.getsourcefile(cls) or "")
        used = self._used(_name(cls), text, module, ())
        for name, function in _own_functions(cls):
            if function.__qualname__ != f"{cls.__qualname__}.{name}":
                used[name] = self.read(function)
            elif function.__closure__:
                used[name] = self._values(inspect.getclosurevars(function).nonlocals, module)
        values = {name: value for name, value in vars(cls).items() if not _is_dunder(name) and is_plain(value)}
        if issubclass(cls, enum.Enum):
            values = {}  # the text has its members
        return {"text": text, "uses": used} | ({"holds": self._values(values, module)} if values else {})

    def _dispatched(self, wrapper: Any) -> dict[str, Any]:
        """The functions registered with `functools.singledispatch`, without the first."""
        registry = getattr(wrapper, "registry", None)
        if not isinstance(registry, Mapping):
            return {}
        named = sorted((f"{kind.__module__}.{kind.__qualname__}", function) for kind, function in registry.items())
        return {"dispatches": {name: self.read(function) for name, function in named}}

    def _state(self, obj: Any) -> dict[str, Any]:
        """What an object holds when it is sent to a worker."""
        try:
            reduced = obj.__reduce_ex__(4)
        except Exception as error:
            raise ConfigError(f"what a {_name(obj)!r} holds can't be told: {error}", hint=HINT) from error
        if isinstance(reduced, str):
            raise ConfigError(f"what a {_name(obj)!r} holds can't be told: it is pickled by its name", hint=HINT)
        _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if arguments[:1] == (type(obj),):
            arguments = arguments[1:]
        values: dict[Any, Any] = {}
        for part in state if isinstance(state, tuple) else (state,):  # attributes, then what is in slots
            values |= part if isinstance(part, dict) else {"state": part} if part is not None else {}
        contents = {"arguments": arguments, "items": list(items or ()), "pairs": list(pairs or ())}
        values |= {f"its {name}": content for name, content in contents.items() if content}
        return self._values(values, self._module(_scope(type(obj)), ""))

    def _used(self, where: str, text: str, module: _Module, local: tuple[str, ...]) -> dict[str, Any]:
        """The values of the global names in a text, as far as they belong to the module."""
        own = not is_installed(module.name)
        origins: dict[str, bool] = {}
        used = {}
        # Sorted, since only the first mention of an object has its text.
        for name in sorted(_global_names(text) & module.scope.keys() - set(local)):
            value = module.scope[name]
            if _is_dunder(name) or isinstance(value, logging.Logger):
                continue
            found = module.origins(name, value)
            # The first is the module that the name comes from. Then come modules that the name itself may be.
            origins |= {origin: number == 0 for number, origin in enumerate(found)} if own else {}
            if _is_alias(value) or isinstance(value, types.ModuleType):
                continue
            if is_plain(value) or not found:
                used[name] = self._value(name, value, module)
        if own:
            code = imports(_block(text), module.package, repr(where))
            self.imports.append(Imports(code.where, {**origins, **code.modules}, code.names))
        return used

    def _values(self, values: Mapping[Any, Any], module: _Module | None = None) -> dict[str, Any]:
        return {str(name): self._value(str(name), value, module) for name, value in values.items()}

    def _value(self, name: str, value: Any, module: _Module | None) -> Any:
        if is_plain(value):
            text = canonical(value)
            if module is not None and len(module.folder) > 1:  # the folder of the module does not matter
                text = re.sub(re.escape(repr(module.folder)[1:-1]) + r"(?=[/\\'\"])", "\0", text)
            classes = {cls.__qualname__: self.read(cls) for cls in _own_classes(value)}
            return {"value": text, "classes": classes} if classes else text
        if isinstance(value, types.ModuleType):
            self.imports.append(Imports(repr(name), {value.__name__: True}, frozenset()))
            return {"module": value.__name__}
        if isinstance(value, type | types.FunctionType | types.MethodType | functools.partial) or _is_wrapper(value):
            return self.read(value)
        if isinstance(value, types.BuiltinMethodType) and not isinstance(value.__self__, types.ModuleType | None):
            return {"method": value.__name__, "of": self._value(name, value.__self__, module)}
        raise ConfigError(
            f"{name!r}, which the function holds, is a {type(value).__name__}, not a plain value", hint=HINT
        )

    def _module(self, scope: Mapping[str, Any], file: str) -> _Module:
        key = str(scope.get("__name__")), file
        if key not in self._modules:
            self._modules[key] = _bindings(scope, file)
        return self._modules[key]


def _scope(cls: type) -> Mapping[str, Any]:
    """The global names of the module of a class."""
    module = sys.modules.get(cls.__module__)
    return vars(module) if module is not None else {}


def _own_functions(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    """The functions of a class that its module defines, also those in properties, static and class methods."""
    scope = _scope(cls)
    for name, member in vars(cls).items():
        if isinstance(member, property):
            parts: tuple[Any, ...] = (member.fget, member.fset, member.fdel)
        elif isinstance(member, functools.cached_property):
            parts = (member.func,)
        else:
            parts = (getattr(member, "__func__", member),)
        for part in parts:
            function = part.__wrapped__ if _is_wrapper(part) else part
            # Others belong to another package, or `dataclass` made them of what is in the text.
            if (
                isinstance(function, types.FunctionType)
                and function.__globals__ is scope
                and linecache.getlines(function.__code__.co_filename)
            ):
                yield name, function


def _block(text: str) -> str:
    """Indented text, made to parse. It can't be dedented: its strings may reach further left than its code."""
    return f"if True:\n{text}" if text[:1].isspace() else text


def _global_names(text: str) -> set[str]:
    """The names that some source reads from its module. Names that it sets itself are its state, and are left out."""
    read: set[str] = set()
    written: set[str] = set()
    tables = [symtable.symtable(_block(text), "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                read.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                written.add(symbol.get_name())
    return read - written


def _bindings(scope: Mapping[str, Any], file: str) -> _Module:
    """The names that the code of a file binds at its top level; none, if the file is not there."""
    text = "".join(linecache.getlines(file, dict(scope)))
    imported: dict[str, list[str]] = {}
    try:
        table, tree = symtable.symtable(text, file, "exec"), ast.parse(text)
    except SyntaxError:
        return _Module(scope, {}, frozenset())
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, modules in imported_names(node, str(scope.get("__package__") or ""), file):
                imported[name] = [*imported.get(name, []), *modules]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    assigned = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
    return _Module(scope, imported, frozenset(assigned))


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_alias(value: Any) -> bool:
    """Whether it is a name for a type."""
    return isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing"


def _is_wrapper(value: Any) -> bool:
    """Whether it wraps a function, made by a decorator of another package, such as `functools.cache`."""
    if isinstance(value, type) or "__wrapped__" not in getattr(value, "__dict__", {}):
        return False
    return not isinstance(value, types.FunctionType) or value.__globals__.get("__name__") != value.__module__


def _home(value: Any) -> str | None:
    """The module that has a value under the value's own name, or an installed class; None where none has."""
    made_in = value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else None
    module, name = made_in or getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if isinstance(value, type) and is_installed(module):
        return module
    return module if getattr(sys.modules.get(module), name, None) is value else None


def _own_classes(value: Any) -> Iterator[type]:
    """The classes that a user wrote, and that a plain value has instances of."""
    cls = type(value)
    if not is_installed(cls.__module__) and any(_own_functions(cls)):
        yield cls
    if isinstance(value, tuple | list | set | frozenset):
        parts: Iterable[Any] = value
    elif isinstance(value, dict | types.MappingProxyType):
        parts = (part for pair in value.items() for part in pair)
    else:
        parts = ()
    for part in parts:
        yield from _own_classes(part)


def _text(obj: Any) -> str:
    try:
        # By the code: by the function, the source of a decorated one would be that of what it wraps.
        code = obj.__code__ if isinstance(obj, types.FunctionType) else obj
        text = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError) as error:
        raise ConfigError(f"the source of {_name(obj)!r} can't be found", hint=HINT) from error
    if getattr(obj, "__name__", "") == "<lambda>":
        return _lambda_text(text)
    return text


def _lambda_text(text: str) -> str:
    """The text of the lambda alone, without the lines around it."""
    try:
        lambdas = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
    except SyntaxError:
        lambdas = []
    if len(lambdas) != 1:
        raise ConfigError(
            "the source of a lambda can't be told from the lines around it", hint=f"write a def, or {HINT}"
        )
    return ast.unparse(lambdas[0])
