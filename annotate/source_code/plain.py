"""Plain values: values that can be written as text, without loss."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import re
import types
from typing import Any

import numpy as np

_SIMPLE = (
    *(str, bytes, int, float, complex, bool, types.NoneType, range, pathlib.PurePath),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, np.generic),
)
_FACTORIES = (None, bool, int, float, str, list, dict, set, tuple)


def is_plain(value: Any) -> bool:
    """Whether `canonical` tells everything about a value, apart from the code of its class."""
    if isinstance(value, enum.Enum):
        return is_plain(value.value)
    if isinstance(value, tuple | list | set | frozenset):
        return all(is_plain(item) for item in value)
    if isinstance(value, collections.defaultdict) and value.default_factory not in _FACTORIES:
        return False
    if isinstance(value, dict | types.MappingProxyType):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject and not isinstance(value, np.ma.MaskedArray)
    return isinstance(value, (*_SIMPLE, re.Pattern))


def canonical(value: Any) -> str:
    """A plain value as text, the same in every process. The `repr` of a set of strings is not."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}({canonical(value.value)})"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(canonical, value)))})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(canonical, value))})"
    if isinstance(value, dict | types.MappingProxyType):
        pairs = (f"{canonical(key)}: {canonical(item)}" for key, item in value.items())
        default = f", {value.default_factory}" if isinstance(value, collections.defaultdict) else ""
        return f"dict({', '.join(pairs)}{default})"
    if isinstance(value, re.Pattern):
        return f"re.compile({value.pattern!r}, {value.flags})"
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.descr if value.dtype.names else value.dtype.str}, {value.shape}, {digest})"
    return repr(value)
