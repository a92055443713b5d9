"""The torch form of the permutation minimum against the compiled one, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.minhash import kernel, torch_kernel
from annotate.minhash.kernel import Permutations

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None)  # the first call may compile
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=30), max_size=5), st.sampled_from([1, 6, 128]))
def test_equal_to_the_compiled_kernel(device: str, documents: list[list[int]], number: int) -> None:
    permutations = Permutations.draw(number, 3)
    hashes = np.array([h for hashed in documents for h in hashed], np.uint32)
    offsets = np.cumsum([0, *map(len, documents)])
    found = torch_kernel.sign_hashes(hashes, offsets, permutations, device)
    assert found.dtype == np.uint32
    assert np.array_equal(found, kernel.sign_hashes(hashes, offsets, permutations))


@pytest.mark.parametrize("device", DEVICES)
def test_documents_cut_by_steps(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kernel, "PRODUCTS", 1000)
    random = np.random.default_rng(4)
    hashes = random.integers(0, 2**32, 5000, np.uint32)
    hashes[:3] = [0, 2**32 - 1, 2**31]
    offsets = np.array([2, 3, 3, 900, 901, 4000, 4990])  # the first two and the last ten hashes are nobody's
    permutations = Permutations.draw(16, 5)
    found = torch_kernel.sign_hashes(hashes, offsets, permutations, device)
    assert np.array_equal(found, kernel.sign_hashes(hashes, offsets, permutations))


def test_the_legacy_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'legacy'"):
        torch_kernel.sign_hashes(np.zeros(0, np.uint32), np.zeros(1, np.int64), Permutations.draw(4, 1, "legacy"))
