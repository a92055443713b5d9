"""What identifies a user's function or class: its source text and that of its helpers, or a declared version."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import inspect
import linecache
import logging
import pathlib
import re
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from annotate.errors import ConfigError

_HINT = "declare version=... and raise it whenever the function's result changes"


def source_identity(obj: Callable[..., Any], version: str | int | None = None) -> dict[str, Any]:
    """Describe a function, class, lambda, partial or callable object so that equal descriptions mean equal behaviour.

    In it are the source text, what a closure holds, and the functions, classes and plain values of the same module that
    the text names: numbers, strings, paths, dates, regular expressions, enum members, arrays, and collections of these.
    Loggers and type aliases change no result, and are not in it. Imported packages are not either: whoever depends on
    those declares a version. The module's name is not, since one file is run under several.

    Args:
        obj: what a user wrote.
        version: stands for the source where given.

    Raises:
        ConfigError: there is no source to be found, or a closure holds, or a global name stands for, an object that is
            no plain value.

    >>> source_identity(len, version=3)
    {'name': 'len', 'version': 3}
    """
    if version is not None:
        return {"name": _name(obj), "version": version}
    return {"name": _name(obj), "source": _Reader().read(obj)}


def _name(obj: Any) -> str:
    if isinstance(obj, functools.partial):
        return _name(obj.func)
    return str(getattr(obj, "__qualname__", type(obj).__qualname__))


class _Reader:
    """Reads each object once, so that functions may call each other."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def read(self, obj: Any) -> Any:
        """JSON-ready text of an object."""
        if id(obj) in self._seen:
            return _name(obj)
        self._seen.add(id(obj))
        if isinstance(obj, functools.partial):
            return {"partial": self.read(obj.func), "args": self._values(dict(enumerate(obj.args)) | obj.keywords)}
        if isinstance(obj, types.MethodType):
            return {"method": obj.__name__, "of": self.read(obj.__self__)}
        if isinstance(obj, type):
            return self._read_class(obj)
        if _is_wrapper(obj):
            return {"wrapper": type(obj).__name__, "of": self.read(obj.__wrapped__)}
        if isinstance(obj, types.FunctionType):
            text = _text(obj)
            used = self._used(text, obj.__globals__, obj.__module__, obj.__code__.co_filename, obj.__code__.co_freevars)
            return {"text": text, "holds": self._held(obj), "uses": used}
        if isinstance(obj, types.BuiltinFunctionType) or not hasattr(obj, "__dict__"):
            raise ConfigError(f"{_name(obj)!r} has no Python source", hint=_HINT)
        return {"object": self.read(type(obj)), "state": self._values(vars(obj))}

    def _read_class(self, cls: type) -> dict[str, Any]:
        text = _text(cls)
        module = sys.modules.get(cls.__module__)
        scope = vars(module) if module is not None else {}
        used = self._used(text, scope, cls.__module__, inspect.getsourcefile(cls) or "", ())
        for name, function in _member_functions(cls):
            if function.__globals__ is not scope or not linecache.getlines(function.__code__.co_filename):
                continue  # another package's, or made by `dataclass` from what is in the text
            if function.__qualname__ != f"{cls.__qualname__}.{name}":
                used[name] = self.read(function)
            elif function.__closure__:
                used[name] = self._values(inspect.getclosurevars(function).nonlocals)
        return {"text": text, "uses": used}

    def _held(self, function: types.FunctionType) -> dict[str, Any]:
        """What the function's closure and its defaults hold."""
        defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
        return self._values(dict(inspect.getclosurevars(function).nonlocals) | defaults)

    def _used(
        self, text: str, scope: Mapping[str, Any], module: str, file: str, local: tuple[str, ...]
    ) -> dict[str, Any]:
        """What the text's global names stand for, as far as it belongs to the module."""
        assigned = _assigned(file, scope)
        used = {}
        # Sorted, since only the first mention of an object has its text.
        for name in sorted(_global_names(text) & scope.keys() - set(local)):
            value = scope[name]
            if _is_dunder(name) or isinstance(value, types.ModuleType | logging.Logger) or _is_alias(value):
                continue
            if isinstance(value, type | types.FunctionType):
                if value.__module__ == module:
                    used[name] = self.read(value)
            elif _is_plain(value):
                used[name] = _canonical(value)
            elif (name in assigned or type(value).__module__ == module) and not _is_imported(value, module):
                used[name] = self._value(name, value)
        return used

    def _values(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(name): self._value(str(name), value) for name, value in values.items()}

    def _value(self, name: str, value: Any) -> Any:
        if _is_plain(value):
            return _canonical(value)
        if isinstance(value, type | types.FunctionType | types.MethodType | functools.partial) or _is_wrapper(value):
            return self.read(value)
        if isinstance(value, types.BuiltinMethodType) and not isinstance(value.__self__, types.ModuleType | None):
            return {"method": value.__name__, "of": self._value(name, value.__self__)}
        raise ConfigError(
            f"{name!r}, which the function holds, is a {type(value).__name__}, not a plain value", hint=_HINT
        )


def _member_functions(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    """The functions in a class's attributes, also those inside properties, static and class methods."""
    for name, member in vars(cls).items():
        if isinstance(member, property):
            parts: tuple[Any, ...] = (member.fget, member.fset, member.fdel)
        elif isinstance(member, functools.cached_property):
            parts = (member.func,)
        else:
            parts = (getattr(member, "__func__", member),)
        for part in parts:
            function = part.__wrapped__ if _is_wrapper(part) else part
            if isinstance(function, types.FunctionType):
                yield name, function


def _global_names(text: str) -> set[str]:
    """Names that some source reads from its module; those that it sets itself are its state, and are left out."""
    # A text whose strings reach further left than its code can't be dedented.
    block = f"if True:\n{text}" if text[:1].isspace() else text
    read: set[str] = set()
    written: set[str] = set()
    tables = [symtable.symtable(block, "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                read.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                written.add(symbol.get_name())
    return read - written


def _assigned(file: str, scope: Mapping[str, Any]) -> set[str]:
    """Names that a module's own code binds other than by an import."""
    try:
        table = symtable.symtable("".join(linecache.getlines(file, dict(scope))), file, "exec")
    except SyntaxError:
        return set()
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_alias(value: Any) -> bool:
    """Whether it is a name for a type."""
    return isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing"


def _is_wrapper(value: Any) -> bool:
    """Whether another package's decorator made it around a function, as `functools.cache` and `torch.no_grad()` do."""
    if isinstance(value, type) or "__wrapped__" not in getattr(value, "__dict__", {}):
        return False
    return not isinstance(value, types.FunctionType) or value.__globals__.get("__name__") != value.__module__


def _is_imported(value: Any, own: str) -> bool:
    """Whether it is another module's function or the like, under a name of the user's."""
    module, name = (getattr(value, attribute, None) for attribute in ("__module__", "__name__"))
    if module == own or not isinstance(module, str) or not isinstance(name, str):
        return False
    return getattr(sys.modules.get(module), name, None) is value


_SIMPLE = (
    *(str, bytes, int, float, complex, bool, types.NoneType, range, pathlib.PurePath),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, np.generic),
)


def _is_plain(value: Any) -> bool:
    if isinstance(value, enum.Enum):
        return _is_plain(value.value)
    if isinstance(value, tuple | list | set | frozenset):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict | types.MappingProxyType):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return isinstance(value, (*_SIMPLE, re.Pattern))


def _canonical(value: Any) -> str:
    """Text of a plain value that is the same in every process, unlike the `repr` of a set of strings."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}({_canonical(value.value)})"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(_canonical, value)))})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(_canonical, value))})"
    if isinstance(value, dict | types.MappingProxyType):
        pairs = (f"{_canonical(key)}: {_canonical(item)}" for key, item in value.items())
        return f"dict({', '.join(pairs)})"
    if isinstance(value, re.Pattern):
        return f"re.compile({value.pattern!r}, {value.flags})"
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.str}, {value.shape}, {digest})"
    return repr(value)


def _text(obj: Any) -> str:
    try:
        # The code's own text: that of a decorated function would be what it wraps, without the decorator.
        code = obj.__code__ if isinstance(obj, types.FunctionType) else obj
        text = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError) as error:
        raise ConfigError(f"the source of {_name(obj)!r} can't be found", hint=_HINT) from error
    if getattr(obj, "__name__", "") == "<lambda>":
        return _lambda_text(text)
    return text


def _lambda_text(text: str) -> str:
    """The lambda alone; the lines around it may be anything."""
    try:
        lambdas = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
    except SyntaxError:
        lambdas = []
    if len(lambdas) != 1:
        raise ConfigError(
            "the source of a lambda can't be told from the lines around it", hint=f"write a def, or {_HINT}"
        )
    return ast.unparse(lambdas[0])
