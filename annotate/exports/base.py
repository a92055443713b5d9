"""What a format of training shards is: pure functions from the windows of a part to named bytes."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annotate.exports.windows import Vocabulary, Windows


class File(NamedTuple):
    """One file of an export: a path below its root, and the content."""

    path: str
    data: bytes | memoryview


class Format(abc.ABC):
    """A format that a trainer reads.

    Attributes:
        name: how the format is called.
        mask_alignment: what the i-th entry of the mask speaks of, for the manifest.
        reader: what reads it, for the manifest.
    """

    name: ClassVar[str]
    mask_alignment: ClassVar[str]
    reader: ClassVar[str]

    @abc.abstractmethod
    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """The type that a token is written as."""

    @abc.abstractmethod
    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The files of part `number`: a function of its windows alone, and of nothing in other parts."""

    def mask(self, windows: Windows) -> NDArray[np.uint8]:
        """The mask as it is written."""
        return windows.mask

    def root(self, parts: Sequence[int], read: Callable[[str], bytes]) -> Iterator[File]:
        """Files that speak of all parts: `parts` are the numbers of those with windows, `read` gives a file of one."""
        del parts, read
        yield from ()

    @abc.abstractmethod
    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded, in Markdown."""

    def front_matter(self) -> str:
        """What the README has to start with."""
        return ""


TARGET_ALIGNED = "target-aligned to input_ids: mask[i] says whether token i counts as a target"


def little_endian(values: NDArray[Any], dtype: np.dtype | type[np.generic]) -> memoryview:
    """The bytes of an array as `dtype`, little-endian; without a copy where it has that type."""
    array = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data
