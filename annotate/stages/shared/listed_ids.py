"""Ids that a user has listed. Workers get them as arrays, copied once to a node, however many calls read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import InputError
from annotate.graph import digest
from annotate.stages.shared.tables import text_hashes
from annotate.storage.local_copies import local_copy
from annotate.text.arrays import large_string


@dataclass(frozen=True)
class ListedIds:
    """Ids as text, each once, sorted.

    Attributes:
        identity: a hash of them.
        ids: they.
        hashes: of each: uint64 `[n]`.
    """

    identity: str
    ids: pa.Array = field(compare=False, repr=False)
    hashes: npt.NDArray[np.uint64] = field(compare=False, repr=False)

    @staticmethod
    def of(ids: str | PathLike[str] | Iterable[str | int] | ListedIds) -> ListedIds:
        """The ids of a list, or of a file with one a line.

        Raises:
            InputError: the file can't be read.
        """
        if isinstance(ids, ListedIds):
            return ids
        each_once = sorted(set(read_ids(ids)))
        array = pa.array(each_once, pa.large_string())
        return ListedIds(digest(each_once), array, hashes_of_ids(array))

    def __len__(self) -> int:
        return len(self.ids)

    def of_partition(self, partition: int, partitions: int) -> pa.Array:
        """Those that belong to a partition, of so many."""
        return self.ids.take(np.flatnonzero(partitions_of_ids(self.hashes, partitions) == partition))


def hashes_of_ids(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The hash of each id, of any string type: uint64 `[n]`."""
    return text_hashes(large_string(ids))


def partitions_of_ids(hashes: npt.NDArray[np.uint64], partitions: int) -> npt.NDArray[np.int32]:
    """The partition that ids with these hashes belong to, of so many: int32 `[n]`."""
    return (hashes % np.uint64(partitions)).astype(np.int32)


def read_ids(ids: str | PathLike[str] | Iterable[str | int]) -> tuple[str, ...]:
    """Ids as text: as they are given, or from a file with one a line.

    Raises:
        InputError: the file can't be read.
    """
    if not isinstance(ids, str | PathLike):
        return tuple(str(each) for each in ids)
    try:  # some editors put a mark before the first line
        lines = local_copy(str(ids)).read_text("utf-8-sig").split("\n")  # an id may hold other signs that end lines
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the ids to exclude can't be read from {ids}: {error}", hint="Give a text file with one id a line."
        ) from error
    return tuple(line.strip() for line in lines if line.strip())
