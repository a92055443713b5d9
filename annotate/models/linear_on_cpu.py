"""Linear layers of float32 models on AMD's CPUs run by oneDNN, which comes with torch.

torch runs them by Intel's MKL, which uses no AVX-512 on CPUs of others: on an AMD EPYC with AVX-512 (one thread, 2,048
rows, 384 by 1,536) MKL did 112 GFLOP/s and oneDNN 252, and held to AVX2 oneDNN did 129. MiniLM with the three shipped
probes was 1.7 times as fast (held to AVX2 1.1 times); scores moved by 6 millionths of their standard deviation.
On other CPUs nothing is changed: it was not measured there.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

LARGEST = 1 << 26
"""Weights of a layer at most: oneDNN may order them anew in each call, which takes as much memory again."""
ROWS = 64
"""Tokens of a batch at least: with 1 to 16, MKL was faster in some layers, as where a model writes token by token."""


@functools.cache
def by_onednn() -> bool:
    """Whether linear layers of float32 models run by oneDNN in this process."""
    vendor = ""
    with suppress(OSError):
        vendor = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").partition("\n\n")[0]
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return "AuthenticAMD" in vendor and there and hasattr(torch.ops.mkldnn, _OP)


def use_onednn(model: nn.Module) -> None:
    """Let the linear layers of a float32 model on a CPU run by oneDNN, where that is faster.

    They stay what they are for all else: their parameters can be read, loaded, copied and trained.
    """
    if not by_onednn():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() <= LARGEST:
            module.__class__ = _OneDnnLinear


_OP = "_linear_pointwise"


class _OneDnnLinear(nn.Linear):
    """A linear layer whose passes without gradients run by oneDNN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        few = input.numel() < ROWS * self.in_features
        if few or torch.is_grad_enabled() or input.dtype != torch.float32 or input.device.type != "cpu":
            return super().forward(input)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return result
