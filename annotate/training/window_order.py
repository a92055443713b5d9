"""The order in which training sees the windows of an export. It depends on seed, epoch and index alone.

File order is the order of parts and rows. To shuffle, the row groups of each phase are permuted, and then the rows of
each `mixed` consecutive row groups together. So rows move far, and yet a stretch of the order is in few row groups. All
permutations sort by hashes: nothing is stored, and no library's random numbers are used.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from annotate.errors import ConfigError
from annotate.randomness import keyed_hash

Integers = NDArray[np.int64]
GROUPS, ROWS = 0, 1  # keys of the hashes: a permutation of row groups, or of rows


class Stretch(NamedTuple):
    """Windows that are read together.

    Attributes:
        start: the index of the first window in the epoch.
        row_groups: the numbers of the row groups that the windows are in, in the order in which they are read.
        rows: int64, for each window its row in these row groups, laid end to end.
    """

    start: int
    row_groups: Integers
    rows: Integers


@dataclass(frozen=True, kw_only=True, eq=False)  # hashed by identity: there may be many parts
class WindowOrder:
    """The order of the windows of some parts.

    Attributes:
        windows: how many windows each part has.
        phases: the phase of each part. Parts that follow each other with equal names are one phase.
        row_group: how many windows each row group of a part has, but for its last.
        seed: of the shuffle.
        mixed: how many row groups have their rows permuted together; 0: file order.
    """

    windows: tuple[int, ...]
    phases: tuple[str | None, ...]
    row_group: int
    seed: int = 0
    mixed: int = 0

    def __post_init__(self) -> None:
        if self.row_group < 1:
            raise ConfigError(f"a row group has at least 1 window, not {self.row_group}")
        if self.mixed < 0:
            raise ConfigError(f"row groups that are mixed are 0 or more, not {self.mixed}")
        if len(self.windows) != len(self.phases):
            raise ConfigError(f"there are {len(self.windows)} parts, but the phases of {len(self.phases)}")

    @property
    def total(self) -> int:
        """How many windows an epoch has."""
        return sum(self.windows)

    @functools.cached_property
    def row_groups(self) -> tuple[Integers, Integers, Integers]:
        """For each row group, in file order: its part, its number in the part, how many windows it has."""
        counts = np.array([-(-n // self.row_group) for n in self.windows], np.int64)
        part = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
        left = np.array(self.windows, np.int64)[part] - within * self.row_group
        return part, within, np.minimum(left, self.row_group)

    @functools.cached_property
    def edges(self) -> Integers:
        """The row group at which each stretch starts, and the end. A stretch is in one phase."""
        part, _, _ = self.row_groups
        first = np.searchsorted(part, _phase_starts(self))
        step = self.mixed or 1
        pieces = [np.arange(a, b, step) for a, b in itertools.pairwise([*first.tolist(), len(part)])]
        return np.concatenate([*pieces, [len(part)]]).astype(np.int64)

    def stretch(self, epoch: int, index: int) -> Stretch:
        """The stretch of an epoch that has window `index` of its order in it.

        Raises:
            IndexError: the epoch has no such window.
        """
        if not 0 <= index < self.total:
            raise IndexError(f"an epoch has windows 0 to {self.total - 1}, not {index}")
        groups, starts = _epoch(self, epoch)
        i = int(np.searchsorted(starts, index, side="right")) - 1
        chosen = groups[self.edges[i] : self.edges[i + 1]]
        rows = np.arange(starts[i + 1] - starts[i])
        if self.mixed:
            rows = np.argsort(keyed_hash(self.seed, epoch, ROWS, i, rows), kind="stable")
        return Stretch(int(starts[i]), chosen, rows)

    def window(self, epoch: int, index: int) -> tuple[int, int]:
        """The part and the row of window `index` of an epoch."""
        found = self.stretch(epoch, index)
        part, within, sizes = self.row_groups
        ends = np.cumsum(sizes[found.row_groups])
        row = int(found.rows[index - found.start])
        at = int(np.searchsorted(ends, row, side="right"))
        group = found.row_groups[at]
        return int(part[group]), int(within[group] * self.row_group + row - (ends[at] - sizes[group]))


@functools.lru_cache(maxsize=4)  # the epoch that is read, and the next
def _epoch(order: WindowOrder, epoch: int) -> tuple[Integers, Integers]:
    """The row groups in the order of an epoch; and the index of the first window of each stretch, and the end."""
    part, _, sizes = order.row_groups
    groups = np.arange(len(part))
    if order.mixed:
        phase = np.searchsorted(_phase_starts(order), part, side="right")
        groups = np.lexsort((keyed_hash(order.seed, epoch, GROUPS, groups), phase))
    ends = np.concatenate([[0], np.cumsum(sizes[groups])])
    return groups, ends[order.edges]


def _phase_starts(order: WindowOrder) -> Integers:
    """The first part of each phase. Parts without windows are skipped."""
    parts = [i for i, windows in enumerate(order.windows) if windows]
    phases = [order.phases[i] for i in parts]
    return np.array([i for n, i in enumerate(parts) if n == 0 or phases[n] != phases[n - 1]], np.int64)
