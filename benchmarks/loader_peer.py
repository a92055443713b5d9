"""Times a pass over a DataLoader, for `loader.py`; and runs MosaicML streaming, by a Python that has it.

    python benchmarks/loader_peer.py write WINDOWS.npz FOLDER
    python benchmarks/loader_peer.py read FOLDER BATCH_SIZE WORKERS SHUFFLE

`write` writes arrays as shards, by MDSWriter. `read` prints a line when it is ready. Then it makes a pass over the
shards for each line of its input, and answers each with a line. Nothing of this project is imported: that Python does
not have it.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

COLUMNS = ("input_ids", "labels")
IGNORED = -100
CHECK, TIME = "check", "time"

torch.set_num_threads(1)  # as in the workers of a DataLoader


@dataclass(frozen=True)
class Pass:
    """One epoch: number of windows, sums of their columns (0 if not asked for), seconds in CPU time and wall time."""

    windows: int
    sums: Mapping[str, int]
    cpu: float
    wall: float


def cpu_time() -> float:
    """Seconds of CPU time of this process, and of those child processes that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def one_pass(loader: Iterable[Mapping[str, Any]], what: str) -> Pass:
    """Time a pass over a loader; `what` says whether its columns are also summed up.

    CPU time is that of all threads, and of the loader's worker processes, which have ended when it is read.
    """
    wall, cpu, windows = time.perf_counter(), cpu_time(), 0
    sums = dict.fromkeys(COLUMNS, 0)
    for batch in loader:
        windows += len(batch[COLUMNS[0]])
        if what == CHECK:
            for name in COLUMNS:
                values = batch[name]
                assert isinstance(values, torch.Tensor) and values.dtype == torch.int64, type(values)
                sums[name] += int(values.sum())
    return Pass(windows, sums, cpu=cpu_time() - cpu, wall=time.perf_counter() - wall)


def import_streaming() -> Any:
    """Import MosaicML streaming without torchvision, which only its datasets of pictures need."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    import streaming

    return streaming


def tensors(sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The two columns of a sample, of our export or of MDSWriter's own shards."""
    ids = sample["input_ids"].astype(np.int64)
    labels = sample["labels"].astype(np.int64) if "labels" in sample else np.where(sample["mask"], ids, IGNORED)
    return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def read(folder: str, batch_size: str, workers: str, shuffle: str) -> None:
    """Answer each line with a pass."""
    streaming = import_streaming()

    class Samples(streaming.StreamingDataset):  # type: ignore[misc,name-defined]
        def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
            return tensors(super().__getitem__(at))

    size = int(batch_size)
    dataset = Samples(local=folder, batch_size=size, shuffle=shuffle == "True", num_canonical_nodes=1)
    loader = DataLoader(dataset, batch_size=size, num_workers=int(workers))
    print(streaming.__version__, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(one_pass(loader, line.strip()))), flush=True)


def write(arrays: str, folder: str) -> None:
    """Write windows as int32, which MDSWriter stores without their shape."""
    windows = np.load(arrays)
    columns = {name: f"ndarray:int32:{windows[name].shape[1]}" for name in COLUMNS}
    with import_streaming().MDSWriter(out=folder, columns=columns) as writer:
        for row in zip(*(windows[name] for name in COLUMNS), strict=True):
            writer.write(dict(zip(COLUMNS, row, strict=True)))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"read": read, "write": write}
    commands[sys.argv[1]](*sys.argv[2:])
