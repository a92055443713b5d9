"""Tokens are drawn with the probabilities of the model, by a hash that knows nothing of the other rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.generators import Sampling
from annotate.generators.draws import draw

SHARES = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625])
N = 20_000


def drawn(*, n=N, **sampling):
    logits = SHARES.log().expand(n, -1)
    found = draw(logits, np.arange(n, dtype=np.uint64), np.zeros(n, np.int64), Sampling(**sampling))
    return np.bincount(found.numpy(), minlength=5) / n


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, [0.5, 0.25, 0.125, 0.0625, 0.0625]),
        ({"temperature": 0.5}, np.square(SHARES.numpy()) / np.square(SHARES.numpy()).sum()),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.75}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.9}, [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0]),
        ({"temperature": 0}, [1, 0, 0, 0, 0]),
    ],
)
def test_tokens_have_their_shares(sampling, expected):
    found = drawn(seed=1, **sampling)
    assert np.all(np.abs(found - expected) < 4 * np.sqrt(0.25 / N))  # four standard errors at most
    assert np.all(found[np.array(expected) == 0] == 0)


def test_a_token_that_is_not_to_be_drawn_never_is():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(2000, -1)
    found = draw(logits, np.arange(2000, dtype=np.uint64), np.zeros(2000, np.int64), Sampling())
    assert set(found.tolist()) == {1, 3}


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.integers(0, 100),
    st.integers(0, 2**32),
    st.sampled_from([1.0, 0.6]),
)
@settings(max_examples=30)
def test_a_row_draws_as_it_would_alone(keys, place, seed, top_p):
    logits = torch.randn(len(keys), 50, generator=torch.Generator().manual_seed(seed))
    sampling = Sampling(seed=seed, top_p=top_p)
    hashes, places = np.array(keys, np.uint64), np.full(len(keys), place)
    together = draw(logits, hashes, places, sampling).tolist()
    assert together == [
        int(draw(logits[i : i + 1], hashes[i : i + 1], places[i : i + 1], sampling)) for i in range(len(keys))
    ]
