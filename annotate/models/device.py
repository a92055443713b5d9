"""Where a model runs. No other file tells a GPU from a CPU."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from annotate.errors import ConfigError
from annotate.models import linear_on_cpu

_OUT_OF_MEMORY = ("not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_BROKEN = ("CUDA error", "HIP error", "CUBLAS_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED")

_PARTS: dict[int, float] = {}
"""The part of its memory that this process may take, by GPU; all of it where there is none."""

SPREAD = "cuda:all"
"""Stands for all GPUs of this process, over which one model is spread; the first takes its inputs."""


def find_device(name: str) -> torch.device:
    """Turn "cpu", "cuda", "cuda:N" or "cuda:all" into a device that is there.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    try:
        device = torch.device("cuda:0" if name == SPREAD else name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}", hint='name "cpu" or "cuda"') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but torch finds no GPU", hint='use "cpu"')
    return device


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy a writable array to `device`; from pinned memory and without waiting, where that is a GPU."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch could help."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator and cuBLAS raise a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def is_broken(error: BaseException) -> bool:
    """Whether the device itself is unusable from here on, so that every later call would fail too."""
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _BROKEN)
    return said and not is_out_of_memory(error)


def free_memory() -> None:
    """Give the blocks back that torch keeps of a GPU's memory; without a GPU, nothing is done."""
    torch.cuda.empty_cache()


def device_map(name: str) -> dict[str, Any]:
    """What Transformers is told of where the parts of a model go: nothing, unless it is spread over GPUs."""
    return {"device_map": "balanced"} if name == SPREAD else {}


def placed(device: str, gpus: float) -> str:
    """Where a model that takes so many GPUs is loaded: on all of them, or on one, of which it gets its part alone.

    So batches of a model that has a part of a GPU are halved, and not those of its neighbours.

    Args:
        device: "cpu", or "cuda" for the GPUs that this process has claimed.
        gpus: that the model takes: a part of one, one, or several.
    """
    if device != "cuda":
        return device
    if gpus > 1:
        return SPREAD
    _PARTS[0] = float(gpus)
    torch.cuda.set_per_process_memory_fraction(float(gpus), 0)
    return device


def part_of_gpu() -> float:
    """The part of a GPU's memory that this process may take; 1 where nothing else was said."""
    return _PARTS.get(0, 1.0)


def memory_left(device: torch.device, *, every: bool = False) -> int:
    """Bytes of memory that a model can have on a device; of the CPU's what Linux says is available, elsewhere all.

    With `every`, on all GPUs of this process. Of a GPU of which the process has a part, this is what is left of it.

    The limit of a container is not looked at: less than this may be free in one.
    """
    if device.type == "cuda":
        free_memory()  # what torch keeps can be had again
        devices = range(torch.cuda.device_count()) if every else [device.index or 0]
        return sum(_left_of_gpu(each) for each in devices)
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE):
            return 1024 * int(found[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_of_gpu(number: int) -> int:
    free, whole = torch.cuda.mem_get_info(number)
    own = int(_PARTS.get(number, 1.0) * whole) - int(torch.cuda.memory_reserved(number))
    return max(0, min(int(free), own))


def is_gpu(device: torch.device) -> bool:
    """Whether it is a GPU, which large batches keep busy."""
    return device.type == "cuda"


def forget_peak(device: torch.device) -> None:
    """Begin to measure the most memory that tensors take on a GPU anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """The most memory that tensors took on a GPU since `forget_peak`, in bytes; None on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def use_threads(threads: int) -> None:
    """Set how many threads torch uses in this process for one model call."""
    torch.set_num_threads(threads)


def device_kind(device: torch.device) -> str:
    """What kind of device this is: scores are byte-equal only within one kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}{' oneDNN' if linear_on_cpu.by_onednn() else ''}"
