"""What a format of token shards is: functions from the windows of a part to named files."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annotate.exports.windows import Vocabulary, Windows


class File(NamedTuple):
    """One file of an export: its path below the root of the export, and its content."""

    path: str
    data: bytes | memoryview


class Format(abc.ABC):
    """A format that a trainer reads.

    Attributes:
        name: of the format.
        mask_alignment: which token the i-th entry of the mask is about, for the manifest.
        reader: what reads the format, for the manifest.
    """

    name: ClassVar[str]
    mask_alignment: ClassVar[str]
    reader: ClassVar[str]

    @abc.abstractmethod
    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """The type that a token is written as."""

    @abc.abstractmethod
    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The files of part `number`. They depend on its windows and its number, and on no other part."""

    def mask(self, windows: Windows) -> NDArray[np.uint8]:
        """The mask as it is written."""
        return windows.mask

    def root(self, parts: Sequence[int], read: Callable[[str], bytes]) -> Iterator[File]:
        """The files about all parts. `parts` are the numbers of those with windows; `read` gives a file's content."""
        del parts, read
        yield from ()

    @abc.abstractmethod
    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How an export is loaded, in Markdown."""

    def front_matter(self) -> str:
        """What the README of an export starts with."""
        return ""


TARGET_ALIGNED = "target-aligned to input_ids: mask[i] says whether token i counts as a target"


def little_endian(values: NDArray[Any], dtype: np.dtype | type[np.generic]) -> memoryview:
    """The bytes of an array as `dtype`, little-endian; without a copy if it has that type."""
    array = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data
