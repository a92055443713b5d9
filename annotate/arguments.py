"""What users give, in the one form that stages keep: paths as strings, lists as tuples."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from annotate.errors import ConfigError

Item = TypeVar("Item")


def as_path(value: str | os.PathLike[str], name: str, *, hint: str | None = None) -> str:
    """A path or a URL as a string.

    Args:
        value: a string, or any path object, such as a `pathlib.Path`.
        name: of the argument, for the error.
        hint: what to write instead, for the error.

    Raises:
        ConfigError: it is something else.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(path, str):
        raise ConfigError(f"{name} must be a path, as a string or a pathlib.Path, got {value!r}", hint=hint)
    return path


def as_location(value: str | os.PathLike[str], name: str, *, hint: str | None = None) -> str:
    """A path, made absolute, or a URL. Workers have another working directory than the driver.

    Args:
        value: as for `as_path`.
        name: as for `as_path`.
        hint: as for `as_path`.

    Raises:
        ConfigError: as for `as_path`.
    """
    path = as_path(value, name, hint=hint)
    if not path:
        raise ConfigError(f"{name} is empty", hint=hint or "Give a path. A variable of the shell may be unset.")
    return path if "://" in path else str(Path(path).expanduser().absolute())


def as_tuple(value: Iterable[Item], name: str) -> tuple[Item, ...]:
    """Several values as a tuple.

    Args:
        value: a list, a tuple, or another iterable.
        name: of the argument, for the error.

    Raises:
        ConfigError: it is a string, whose items would be its characters; or it is no iterable.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"{name} must be a list or a tuple, got {value!r}", hint=f"Of one write {name}=[{value!r}].")
    return tuple(value)
