"""Reads slices of many parts: those of some numbers, for the partitions that one task makes.

Slices that lie side by side in a part are read in one request, where they are small. What a partition is made from is
known by a sum of its slices in all parts, for which indices are read. Sums of 64 parts in a row are kept, so that where
few parts change, the indices of most others need not be read again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from annotate.storage.contracts import contract
from annotate.storage.parts import Part, UnitOutput, commit, find, read_part
from annotate.storage.slices import (
    checked,
    read_bytes,
    slice_checksum,
    slice_index,
    slice_number,
    slice_schema,
)
from annotate.storage.store import Directory, checksum
from annotate.tally import phase

TOGETHER_BYTES = 32 << 20
"""Most bytes that a task holds of slices that it has read with their neighbours, over all parts."""
BLOCK = 64
"""Number of parts, one after the other, whose sums are kept together; the rest, which are fewer, have none."""
NOWHERE = -1
"""The number of a slice that has no rows in any of these parts."""
_SUMS = "slice-sums"


@dataclass(frozen=True)
class KeptSums:
    """Keeps sums of slices in the dataset of the parts, as a unit that no manifest names.

    Attributes:
        look: whether sums may have been kept before.
        keep: whether to keep those that are not.
    """

    look: bool = False
    keep: bool = False

    def of(
        self, dataset: Directory, parts: Sequence[Part], indices: Callable[[], Sequence[pa.Table]]
    ) -> Mapping[int, str]:
        """The sums of slices in a block of parts: of all slices, or of those in the parts' indices as they are read.

        Raises:
            StorageError: a part is missing or damaged.
        """
        if len(parts) < BLOCK:
            return _summed(indices())
        key = checksum(json.dumps([part.checksum for part in parts]).encode())[:24]
        if self.look and (found := _found(dataset, key)):
            return found
        if not self.keep:
            return _summed(indices())
        sums = _summed([slice_index(dataset, part) for part in parts])
        indices()  # while those of this block are at hand
        table = pa.table([list(sums), list(sums.values())], schema=contract(_SUMS).schema)
        commit(dataset, key, UnitOutput(table), schema=_SUMS)
        return sums


NO_SUMS = KeptSums()


@functools.lru_cache(maxsize=64)
def _found(dataset: Directory, key: str) -> Mapping[int, str] | None:
    entry = find(dataset, key)
    if entry is None:
        return None
    table = read_part(dataset, entry.part, schema=_SUMS)
    return dict(zip(table["to"].to_pylist(), table["sum"].to_pylist(), strict=True))


def _summed(indices: Sequence[pa.Table]) -> dict[int, str]:
    """The sum of each slice that has rows in one of the parts of these indices, and that of a slice without rows."""
    numbers = np.unique(np.concatenate([index["to"].to_numpy() for index in indices])).tolist() if indices else []
    return {to: _joined(slice_checksum(index, to) for index in indices) for to in (NOWHERE, *numbers)}


def _joined(sums: Iterable[str]) -> str:
    return checksum(json.dumps(list(sums)).encode())


class Slices:
    """The slices of some parts, a few numbers of them, which one task reads in turn.

    Args:
        dataset: the dataset of the parts.
        parts: that `put_slices` made.
        numbers: of the slices.
        schema: contract of the rows.
        sums: where sums of parts that did not change come from.
    """

    def __init__(
        self, dataset: Directory, parts: Sequence[Part], numbers: range, *, schema: str, sums: KeptSums = NO_SUMS
    ) -> None:
        self._dataset, self._parts, self._numbers, self._schema, self._sums = dataset, parts, numbers, schema, sums
        self._known: dict[int, pa.Table] = {}  # indices by part
        self._together: dict[int, range] = {}
        self._read: dict[int, tuple[range, int, bytes]] = {}  # by part: the slices, where they begin, and their bytes

    def _index(self, number: int) -> pa.Table:
        # The index of a part is read once: it can be larger than a slice.
        if number not in self._known:
            self._known[number] = slice_index(self._dataset, self._parts[number], self._numbers)
        return self._known[number]

    @functools.cached_property
    def _indices(self) -> list[pa.Table]:
        return [self._index(number) for number in range(len(self._parts))]

    @functools.cached_property
    def _blocks(self) -> list[Mapping[int, str]]:
        blocks = [range(len(self._parts))[first : first + BLOCK] for first in range(0, len(self._parts), BLOCK)]
        return [self._sums.of(self._dataset, *self._block(block)) for block in blocks]

    def _block(self, numbers: range) -> tuple[list[Part], Callable[[], list[pa.Table]]]:
        return [self._parts[number] for number in numbers], lambda: [self._index(number) for number in numbers]

    def sum(self, to: int) -> str:
        """A hash of the rows of a slice in all parts.

        Raises:
            StorageError: a part is missing or damaged.
        """
        return _joined(sums.get(to, sums[NOWHERE]) for sums in self._blocks)

    def held(self, to: int) -> int:
        """Bytes of memory that the rows of a slice take, in all parts."""
        return sum(slice_number(index, to, "held") for index in self._indices)

    def read_together(self, wanted: Iterable[int]) -> None:
        """Say which slices will be read, in rising order: neighbours are read in one request, if they are small."""
        run: range | None = None
        size = 0
        for to in wanted:
            own = sum(slice_number(index, to, "bytes") for index in self._indices)
            beside = run is not None and run.stop == to and size + own <= TOGETHER_BYTES
            run, size = (range(run.start, to + 1), size + own) if beside and run else (range(to, to + 1), own)
            self._together.update(dict.fromkeys(run, run))

    @phase("read")
    def table(self, number: int, to: int) -> pa.Table:
        """Read a slice of the part of this number.

        Raises:
            StorageError: the part is missing or damaged.
        """
        part, index = self._parts[number], self._indices[number]
        if not slice_number(index, to, "bytes"):
            return slice_schema(index, self._schema).empty_table()
        wanted = slice_checksum(index, to)
        data = checked(self._dataset, part, f"slice {to}", wanted, lambda again: self._bytes(number, to, again=again))
        where = f"{self._dataset.url}/{part.path}"
        return contract(self._schema).check(pa.ipc.open_stream(data).read_all(), where)

    def tables(self, to: int, *, empty: bool = True) -> Iterator[pa.Table]:
        """Read a slice of each part, in order; without `empty`, at least one, and only those that have rows."""
        numbers = [n for n, index in enumerate(self._indices) if empty or slice_number(index, to, "bytes")]
        return (self.table(number, to) for number in numbers or [0])

    def _bytes(self, number: int, to: int, *, again: bool) -> memoryview:
        run, index = self._together.get(to, range(to, to + 1)), self._indices[number]
        read = None if again else self._read.get(number)
        if read is None or read[0] != run:
            first, stop = np.searchsorted(index["to"].to_numpy(), [run.start, run.stop]).tolist()
            start = index["offset"][first].as_py()
            end = index["offset"][stop - 1].as_py() + index["bytes"][stop - 1].as_py()
            read = (run, start, read_bytes(self._dataset, self._parts[number], start, end - start))
            if len(run) > 1:
                self._read[number] = read
        _, start, data = read
        at = slice_number(index, to, "offset") - start
        return memoryview(data)[at : at + slice_number(index, to, "bytes")]
