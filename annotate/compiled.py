"""Helpers for loops that numba compiles, and for the arrays that they read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate import tally

with tally.phase("compile"):
    import numba
    from numba.core import event


class _Compiling(event.Listener):  # type: ignore[misc]  # numba has no types
    """Counts the time in which numba compiles a loop, or loads it from disk, as a phase of its own."""

    def __init__(self) -> None:
        self._here = threading.local()

    def on_start(self, event: Any) -> None:
        phase = tally.phase("compile")
        phase.__enter__()
        self._here.phases = [*getattr(self._here, "phases", ()), phase]

    def on_end(self, event: Any) -> None:
        self._here.phases.pop().__exit__(None, None, None)


event.register("numba:compiler_lock", _Compiling())  # it is held for both


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, and keep the result on disk; in memory, if no folder can be written.

    Numba compiles again if the function's own file has changed, but not if a constant or function of another file has.
    So tables are arguments, and loops that call each other are in one file.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's directory nor the user's cache can be written
        return numba.njit(nogil=True)(function)


def constant(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The values as a contiguous, read-only array: so a loop is compiled once, not again for each kind of array."""
    array = np.ascontiguousarray(values, dtype).view()
    array.flags.writeable = False
    return array


def text_buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of a large_string array `[n]`, and int64 `[n + 1]` offsets of its texts, without a copy."""
    if len(texts) == 0:
        return constant([], np.uint8), constant([0], np.int64)
    _, offsets, data = texts.buffers()
    chosen = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return constant(np.frombuffer(data or b"", np.uint8), np.uint8), constant(chosen, np.int64)
