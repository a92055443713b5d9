"""What identifies a user's function or class: its source text and that of its helpers, or a declared version."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any

from annotate.errors import ConfigError

_HINT = "declare version=... and raise it whenever the function's result changes"


def source_identity(obj: Callable[..., Any], version: str | int | None = None) -> dict[str, Any]:
    """Describe a function, class, lambda, partial or callable object so that equal descriptions mean equal behaviour.

    In it are the source text, what a closure holds, and the functions, classes and plain constants of the same module
    that it names. Imported packages, and constants that are not plain values, are not: whoever depends on those
    declares a version. The module's name is not, since one file is run under several.

    Args:
        obj: what a user wrote.
        version: stands for the source where given.

    Raises:
        ConfigError: there is no source to be found, or a closure holds what has no plain text.

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
            return {"text": _text(obj), "uses": self._used_by_class(obj)}
        if isinstance(obj, types.FunctionType):
            return {"text": _text(obj), "holds": self._held(obj), "uses": self._used(obj)}
        if isinstance(obj, types.BuiltinFunctionType) or not hasattr(obj, "__dict__"):
            raise ConfigError(f"{_name(obj)!r} has no Python source", hint=_HINT)
        return {"object": self.read(type(obj)), "state": self._values(vars(obj))}

    def _held(self, function: types.FunctionType) -> dict[str, Any]:
        """What the function's closure and its defaults hold."""
        defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
        return self._values(dict(inspect.getclosurevars(function).nonlocals) | defaults)

    def _used(self, function: types.FunctionType) -> dict[str, Any]:
        """Functions, classes and plain constants of the function's own module that it names."""
        used = {}
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, type | types.FunctionType):
                if value.__module__ == function.__module__:
                    used[name] = self.read(value)
            elif value is not None and _is_plain(value):
                used[name] = repr(value)
        return used

    def _used_by_class(self, cls: type) -> dict[str, Any]:
        used: dict[str, Any] = {}
        for member in vars(cls).values():
            function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else member
            if isinstance(function, types.FunctionType):
                used |= self._used(function)
        bases = (base for base in cls.__bases__ if base.__module__ == cls.__module__)
        return used | {base.__name__: self.read(base) for base in bases}

    def _values(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(name): self._value(str(name), value) for name, value in values.items()}

    def _value(self, name: str, value: Any) -> Any:
        if _is_plain(value):
            return repr(value)
        if isinstance(value, type | types.FunctionType | types.MethodType | functools.partial):
            return self.read(value)
        raise ConfigError(
            f"{name!r}, which the function holds, is a {type(value).__name__}, not a plain value", hint=_HINT
        )


def _names(code: types.CodeType) -> set[str]:
    """Global names in a function's code and in the code nested in it."""
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*(_names(inner) for inner in nested))


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | set | frozenset):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, str | bytes | int | float | complex | bool | types.NoneType)


def _text(obj: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(obj))
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
