"""Training shards as PyTorch data, in an order that any number of processes and workers share."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from annotate.errors import ConfigError, InputError, StorageError
from annotate.exports.huggingface import HuggingFace
from annotate.exports.write import MANIFEST
from annotate.storage.store import Directory, checksum
from annotate.text.arrays import one_array
from annotate.training.readers import Passes, asked_for, place_among_ranks
from annotate.training.window_order import Stretch, WindowOrder

COLUMNS = ("input_ids", "labels", "position_ids")
FOOTERS = 64  # how many are kept, those of the files read last
CONVERTED = 64  # windows that become tensors at once: they fit in the cache; int64 is twice what is in the files
_PROCESS = os.getpid()  # a spawned worker imports this module again; a forked one does not, and has another id


class ShardDataset(IterableDataset[dict[str, torch.Tensor]]):
    """The windows of a Hugging Face export, one by one, for a DataLoader. The export is local or in an object store.

    All processes together go through one global sequence: epoch after epoch, each in file order or shuffled within its
    phases. Batches of the sequence go to the ranks in turn, and batches of a rank to its workers in turn, as a
    DataLoader takes them. So after each step, what all ranks have consumed is a beginning of the sequence. Its length
    is all that has to be saved, and training can go on with other numbers of ranks and workers:

        shards = ShardDataset("s3://bucket/export", batch_size=8, shuffle=True)
        shards.load_state_dict(checkpoint["data"])
        loader = shards.loader(num_workers=3)
        for epoch in range(shards.epoch, 3):
            for batch in loader:
                ...
            checkpoint["data"] = shards.state_dict(batches)  # that this rank has taken since the state was loaded

    Each time that the dataset is iterated is a pass: it goes on with the next `epochs` of the sequence, each shuffled
    in an order of its own. That holds for forked, spawned and persistent workers. Taking one batch to look at it begins
    a pass too. Workers that read an object store have to be spawned; `loader` does so.

    A sample has the `columns` as tensors `[window]`: int64, or float32 of numbers with a point. Of a teacher's tokens
    there are `k` for each token, all in one: `[window * k]`. A worker decodes every row group in which it has a window.
    So row groups of about `ranks * batch_size` windows (`HuggingFace(row_group=...)`) waste the least work.

    Args:
        location: the export: a folder, or a URL.
        batch_size: that of the DataLoader. It decides which worker reads what, so it is needed here; a DataLoader with
            another one is refused when it takes the first batch.
        rank: the number of this process, from 0.
        ranks: how many processes train together. If neither is given: those of `torch.distributed`, if it is
            initialised; else `RANK` and `WORLD_SIZE` of the environment; else one process. Where processes share data,
            as with tensor parallelism, give those of the data-parallel group.
        shuffle: whether the windows of each phase are permuted, in each epoch in another order.
        seed: of the shuffle.
        mixed: how many row groups have their rows shuffled together. They are in memory together.
        epochs: how many epochs a pass has. At the end of a pass, windows that don't make a batch for every rank are
            left out.
        columns: the columns of the Parquet files that a sample has.
        parts: the numbers of the output parts to read; None: all. `manifest["parts"]` lists them. No document is in two
            parts, so parts that are held out share none with the rest.

    Attributes:
        manifest: the content of the export's `manifest.json`.

    Raises:
        ConfigError: an argument is out of range, or the export is of another format.
        InputError: there is no finished export.
    """

    def __init__(
        self,
        location: str | Path | Directory,
        *,
        batch_size: int,
        rank: int | None = None,
        ranks: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        mixed: int = 16,
        epochs: int = 1,
        columns: tuple[str, ...] = COLUMNS,
        parts: Sequence[int] | None = None,
    ) -> None:
        for name, value in {"batch_size": batch_size, "mixed": mixed, "epochs": epochs}.items():
            if value < 1:
                raise ConfigError(f"{name} is at least 1, not {value}")
        self.rank, self.ranks = place_among_ranks(rank, ranks)
        self.directory = location if isinstance(location, Directory) else Directory.at(location)
        self.batch_size, self.epochs, self.columns = batch_size, epochs, columns
        self._passes = Passes()
        self.manifest = _manifest(self.directory)
        read = _chosen(self.manifest["parts"], parts)
        self._files: list[tuple[str, int]] = [(p["files"][0]["path"], p["files"][0]["bytes"]) for p in read]
        self._identity = checksum(json.dumps([part["files"] for part in read]).encode())
        self.order = WindowOrder(
            windows=tuple(part["counts"]["windows"] for part in read),
            phases=tuple(part["phase"] for part in read),
            row_group=self.manifest["settings"]["row_group"],
            seed=seed,
            mixed=mixed if shuffle else 0,
        )

    def __len__(self) -> int:
        """How many samples this rank gets in the next pass."""
        return self._batches(self._passes.begun) * self.batch_size

    @property
    def epoch(self) -> int:
        """The epoch, from 0, in which the next pass begins."""
        return self._edges(self._passes.begun)[0] // max(1, self.order.total)

    def loader(self, *, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
        """Make a DataLoader of this batch size. Workers are spawned if they have to be.

        Args:
            num_workers: how many processes read; 0: this one does.
            options: other arguments of `torch.utils.data.DataLoader`.
        """
        if num_workers and self.directory.local is None:
            options.setdefault("multiprocessing_context", "spawn")
        return DataLoader(self, batch_size=self.batch_size, num_workers=num_workers, **options)

    def state_dict(self, batches: int = 0, *, passes: int = 0) -> dict[str, Any]:
        """The state to save, once each rank has taken `batches` batches since the last state was loaded.

        Args:
            batches: how many were taken, in all passes together. Each pass but the last has to have gone to its end.
            passes: how many passes before these are not counted in `batches`, whether they went to their end or not.

        Raises:
            ConfigError: there can't have been so many batches; or more passes have begun than they explain.
        """
        number, left = passes, batches
        while left > (whole := self._batches(number)):
            if not whole:
                raise ConfigError(f"{batches} batches can't have been taken: no pass has any")
            number, left = number + 1, left - whole
        begun = self._passes.begun
        if begun and number != begun - 1 and (number, left) != (begun, 0):
            raise ConfigError(
                f"{batches} batches end in pass {number} since the state was loaded, but {begun} have begun",
                hint=f"If a pass was left before its end, give the batches of the last alone, and passes={begun - 1}.",
            )
        start = self._edges(number)[0] if number or left else self._passes.start
        return {"consumed": start + left * self.batch_size * self.ranks, **self._sequence}

    @property
    def _sequence(self) -> dict[str, Any]:
        """What decides the global sequence."""
        return {"seed": self.order.seed, "mixed": self.order.mixed, "shards": self._identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Ranks, workers and batch size may be others than before.

        The next pass is what is left of the pass in which the state was taken, if that makes a batch for every rank.

        Raises:
            ConfigError: the state is of other shards, or of another order of them.
        """
        for name, own in reversed(self._sequence.items()):
            if state[name] != own:
                raise ConfigError(
                    f"the state was taken with {name} {state[name]}, but this dataset has {own}",
                    hint="The state counts windows of one order: use the same shards, seed and shuffle, or start anew.",
                )
        if not isinstance(state["consumed"], int) or state["consumed"] < 0:
            raise ConfigError(f"the state says that {state['consumed']} windows were consumed")
        self._passes.restart(state["consumed"])

    def where(self, n: int) -> tuple[int, str, int]:
        """Epoch, file and row of sample `n` of the global sequence."""
        epoch, index = divmod(n, self.order.total)
        part, row = self.order.window(epoch, index)
        return epoch, self._files[part][0], row

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Begin a pass; gives the samples of this rank and of this worker."""
        return self._samples(self._passes.begin())  # the pass begins here, before the first sample is asked for

    def _samples(self, number: int) -> Iterator[dict[str, torch.Tensor]]:
        taken = asked_for(sys._getframe(1))
        if taken not in (None, self.batch_size):
            raise ConfigError(
                f"the DataLoader has batch_size={taken}, but the dataset was given batch_size={self.batch_size}",
                hint="Samples are dealt out to ranks and workers by it. Give both the same, or use shards.loader().",
            )
        worker = get_worker_info()
        own_number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        total, step = self.order.total, self.ranks * self.batch_size
        begin, _ = self._edges(number)
        at, end = begin, begin + self._batches(number) * step
        while at < end:
            epoch, index = divmod(at, total)
            stretch = self.order.stretch(epoch, index)
            first = epoch * total + stretch.start
            stop = min(end, first + len(stretch.rows))
            since = np.arange(at, stop) - begin
            own = (since // self.batch_size % self.ranks == self.rank) & (since // step % workers == own_number)
            yield from self._read(stretch, stretch.rows[at - first : stop - first][own])
            at = stop

    def _edges(self, number: int) -> tuple[int, int]:
        """Where a pass, counted since the state was loaded, begins and ends in the global sequence."""
        span = self.order.total * self.epochs
        if not span:
            return 0, 0
        start = self._passes.start
        first = start // span
        if (first + 1) * span - start < self.ranks * self.batch_size:  # what is left makes no batch
            first, start = first + 1, (first + 1) * span
        return ((first + number) * span if number else start), (first + number + 1) * span

    def _batches(self, number: int) -> int:
        """How many batches each rank gets in a pass."""
        begin, end = self._edges(number)
        return (end - begin) // (self.ranks * self.batch_size)

    def _read(self, stretch: Stretch, rows: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
        """Read rows of the row groups of a stretch, in the order that is asked for."""
        if not len(rows):
            return
        part, within, sizes = (column[stretch.row_groups] for column in self.order.row_groups)
        ends = np.cumsum(sizes)
        group = np.searchsorted(ends, rows, side="right")
        order = np.argsort(group, kind="stable")
        tables = []
        for i, members in _runs(group[order]):
            table = self._row_group(int(part[i]), int(within[i]), int(sizes[i]))
            tables.append(_taken(table, rows[order[members]] - (ends[i] - sizes[i])))
        table = pa.concat_tables(tables).combine_chunks()
        del tables  # a stretch may be large, and would be in memory twice
        back = np.argsort(order, kind="stable")
        for start in range(0, len(back), CONVERTED):
            some = _taken(table, back[start : start + CONVERTED])
            yield from (
                dict(zip(self.columns, sample, strict=True))
                for sample in zip(*(_tensors(some[name]) for name in self.columns), strict=True)
            )

    def _row_group(self, part: int, number: int, windows: int) -> pa.Table:
        path, size = self._files[part]
        where = f"{self.directory.url}/{path}"
        try:
            # Without the threads of Arrow: the workers of a DataLoader are in parallel already, and may be forks.
            source = _open(self.directory, path, size)
            file = pq.ParquetFile(source, metadata=_footer(self.directory, path, size), pre_buffer=False)
            table = file.read_row_group(number, columns=list(self.columns), use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{where} cannot be read: {error}") from error
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise ConfigError(
                f"{where} has no column {missing[0]}", hint=f"It has {', '.join(file.schema_arrow.names)}."
            )
        if table.num_rows != windows:
            raise StorageError(
                f"row group {number} of {where} has {table.num_rows} windows; the manifest says {windows}"
            )
        return table


def _manifest(directory: Directory) -> dict[str, Any]:
    try:
        manifest = json.loads(directory.get(MANIFEST))
    except FileNotFoundError:
        raise InputError(
            f"{directory.url} has no {MANIFEST}", hint="It is written last: finish the export, or check the place."
        ) from None
    if manifest["format"] != HuggingFace.name:
        raise ConfigError(
            f"{directory.url} is an export in the format {manifest['format']}; {HuggingFace.name} is needed",
            hint=f"Other formats have readers of their own: see {directory.url}/README.md.",
        )
    return manifest


def _chosen(parts: list[dict[str, Any]], numbers: Sequence[int] | None) -> list[dict[str, Any]]:
    """The parts of a manifest that have these numbers, in its order."""
    if numbers is None:
        return parts
    if unknown := sorted(set(numbers) - {part["number"] for part in parts}):
        raise ConfigError(
            f"the export has no part {unknown[0]}", hint=f"It has {', '.join(str(part['number']) for part in parts)}."
        )
    return [part for part in parts if part["number"] in set(numbers)]


@functools.lru_cache(maxsize=FOOTERS)
def _footer(directory: Directory, path: str, size: int) -> pq.FileMetaData:
    with pq.ParquetFile(_open(directory, path, size)) as file:
        return file.metadata


def _open(directory: Directory, path: str, size: int) -> pa.NativeFile:
    """Open a file, in any kind of DataLoader worker.

    An object store can't be read in a fork: its threads are not there, and reading would hang.

    Raises:
        ConfigError: this is a fork, and the file is not local.
    """
    if directory.local is not None:
        return pa.memory_map(str(directory.local / path))
    if os.getpid() != _PROCESS:
        raise ConfigError(
            f"{directory.url} cannot be read in a forked worker",
            hint='Give the DataLoader multiprocessing_context="spawn", or num_workers=0.',
        )
    return pa.PythonFile(directory.open(path, size), mode="r")


def _runs(values: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Each value of a sorted array, and the places where it stands."""
    found, starts = np.unique(values, return_index=True)
    for value, start, stop in zip(found, starts, [*starts[1:], len(values)], strict=True):
        yield int(value), slice(int(start), int(stop))


def _taken(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Some rows of a table; without a copy, if they follow each other."""
    if (np.diff(rows) == 1).all():
        return table.slice(rows[0], len(rows))
    return table.take(pa.array(rows))


def _tensors(column: pa.ChunkedArray) -> tuple[torch.Tensor, ...]:
    """The rows of a column of lists: integers as int64, others as they are."""
    array = one_array(column)
    lengths = pa.compute.list_value_length(array).to_pylist()
    values = array.flatten().to_numpy()
    kind = np.int64 if np.issubdtype(values.dtype, np.integer) else values.dtype
    return torch.split(torch.from_numpy(values.astype(kind)), lengths)
