"""The processes that read a dataset together: ranks, workers of a DataLoader, and the passes that they have begun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch.utils.data import get_worker_info

from annotate.errors import ConfigError

WORKERS = 1 << 12  # the most that a DataLoader can have
REMEMBERED = 1 << 10  # passes whose number workers can still find
_UNKNOWN, _MAIN = 0, -1


def place_among_ranks(
    rank: int | None, ranks: int | None, environment: Mapping[str, str] = os.environ
) -> tuple[int, int]:
    """This process's rank, and how many ranks there are.

    Args:
        rank: as the user gave it, or None.
        ranks: as the user gave it, or None. If neither is given: those of `torch.distributed`, if it is initialised;
            else `RANK` and `WORLD_SIZE`, as torchrun sets them; else one process.
        environment: the environment variables.

    Raises:
        ConfigError: one is given without the other; or the rank is not below the number of ranks.
    """
    if rank is None and ranks is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        found = {name: environment[name] for name in ("RANK", "WORLD_SIZE") if name in environment}
        if not found:
            return 0, 1
        try:
            rank, ranks = int(found["RANK"]), int(found["WORLD_SIZE"])
        except (KeyError, ValueError):
            said = ", ".join(f"{name}={value}" for name, value in found.items())
            raise ConfigError(
                f"RANK and WORLD_SIZE of the environment are both to be numbers, but it has {said}",
                hint="Set both, or give rank= and ranks=.",
            ) from None
    elif rank is None and ranks is not None and ranks <= 1:
        rank = 0  # one process reads everything
    if rank is None or ranks is None:
        raise ConfigError("rank and ranks have to be given together", hint="Or give neither: they are then found.")
    if ranks < 1:
        raise ConfigError(f"ranks is at least 1, not {ranks}")
    if not 0 <= rank < ranks:
        raise ConfigError(f"rank is 0 to {ranks - 1}, not {rank}")
    return rank, ranks


def asked_for(caller: FrameType | None) -> int | None:
    """The batch size of a DataLoader, from the frame of its fetcher; None: the caller is another one.

    There is no other way for a dataset to know it: workers are not given the batch size.
    """
    index = caller.f_locals.get("possibly_batched_index") if caller is not None else None
    return len(index) if isinstance(index, list) else None


class Passes:
    """Counts the passes through a dataset, so that all workers of a DataLoader agree on the number.

    Nothing tells a dataset that its DataLoader begins again. Its workers are other processes, new ones or the same, and
    each begins by itself. So each worker counts the passes that it has begun, in memory that all share. A worker that
    was stopped before it could begin has counted too few. It finds the pass of the others by the base seed of the
    DataLoader, which is another one each time that workers are started.
    """

    def __init__(self) -> None:
        self._start = torch.zeros(1, dtype=torch.int64)
        self._begun = torch.zeros(WORKERS, dtype=torch.int64)  # by worker; the first is the main process
        self._marks = torch.zeros(REMEMBERED, dtype=torch.int64)  # by pass, the base seed of who began it
        self._share()

    def _share(self) -> None:
        for tensor in (self._start, self._begun, self._marks):
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share the memory of a copy with its own workers. In a spawned worker it is shared already."""
        vars(self).update(state)
        self._share()

    @property
    def start(self) -> int:
        """Where the first pass begins in the global sequence."""
        return int(self._start)

    @property
    def begun(self) -> int:
        """How many passes have begun."""
        return int(self._begun.max())

    def begin(self) -> int:
        """Begin a pass in this process; return its number, from 0.

        Raises:
            ConfigError: there are too many workers.
        """
        worker = get_worker_info()
        slot = 0 if worker is None else worker.id + 1
        if slot >= WORKERS:
            raise ConfigError(f"a DataLoader can have {WORKERS - 1} workers, not {worker.num_workers if worker else 0}")
        mark = _MAIN if worker is None else worker.seed - worker.id + 1
        number = self.begun if worker is None else int(self._begun[slot])
        while int(self._marks[number % REMEMBERED]) not in (_UNKNOWN, mark):
            number += 1
        self._marks[number % REMEMBERED] = mark
        self._marks[(number + REMEMBERED // 2) % REMEMBERED] = _UNKNOWN
        self._begun[slot] = number + 1
        return number

    def restart(self, start: int) -> None:
        """Count from 0 again, in all processes."""
        self._start.fill_(start)
        self._begun.zero_()
        self._marks.zero_()
