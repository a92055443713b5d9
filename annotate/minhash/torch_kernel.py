"""The permutation minimum on a torch device, for where there is a GPU; `kernel.sign_hashes` is the same on a CPU.

Torch has no unsigned 64-bit arithmetic, so 32-bit values are held as int64 and products masked: modulo 2**32 an
overflow of the signed product does no harm.
"""

from __future__ import annotations

import numpy as np
import torch

from annotate.minhash.kernel import EMPTY, Int64, Permutations, UInt32

PRODUCTS = 1 << 24  # held at once, three times 8 bytes each


def sign_hashes(hashes: UInt32, offsets: Int64, permutations: Permutations, device: str = "cpu") -> UInt32:
    """Sign documents by the hashes of their shingles.

    Args:
        hashes: uint32, of all shingles.
        offsets: int64 `[n_documents + 1]`, where those of each document begin and end.
        permutations: of the signature; of the scheme "affine32".
        device: of torch.

    Returns:
        uint32 `[n_documents, n_permutations]`.

    Raises:
        ValueError: the scheme is "legacy", whose products need more than 64 bits.
    """
    if permutations.scheme != "affine32":
        raise ValueError(f'the scheme must be "affine32" on a torch device, got {permutations.scheme!r}')
    n, number = len(offsets) - 1, len(permutations.a)
    a, b = (torch.as_tensor(each.astype(np.int64), device=device) for each in (permutations.a, permutations.b))
    values = torch.full((n, number), EMPTY, dtype=torch.int64, device=device)
    document = np.repeat(np.arange(n), np.diff(offsets))
    step = max(PRODUCTS // max(number, 1), 1)
    for start in range(int(offsets[0]), int(offsets[-1]), step):
        stop = min(start + step, int(offsets[-1]))
        mixed = _fmix32(torch.as_tensor(hashes[start:stop].astype(np.int64), device=device))
        products = (mixed[:, None] * a + b) & EMPTY
        owner = torch.as_tensor(document[start - offsets[0] : stop - offsets[0]], device=device)
        values.scatter_reduce_(0, owner[:, None].expand_as(products), products, "amin")
    return values.cpu().numpy().astype(np.uint32)


def _fmix32(value: torch.Tensor) -> torch.Tensor:
    """The finaliser of 32-bit MurmurHash3, of 32-bit values in int64."""
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & EMPTY
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & EMPTY
    return value ^ (value >> 16)
