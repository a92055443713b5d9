"""No key that occurs twice is missed, and few others are taken."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.minhash.shared_keys import maybe_shared

keys = st.lists(st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, 1 << 63, (1 << 64) - 1]), max_size=60)


@settings(deadline=None)
@given(keys)
def test_all_keys_that_occur_twice_are_found(keys: list[int]) -> None:
    found = maybe_shared(np.array(keys, np.uint64)).tolist()
    assert found == sorted(set(found))
    assert {i for i, key in enumerate(keys) if keys.count(key) > 1} <= set(found)


def test_few_others_are_found() -> None:
    keys = np.random.default_rng(0).integers(0, 1 << 64, 100_000, np.uint64)
    keys[:1000] = keys[1000:2000]
    assert 2000 <= len(maybe_shared(keys)) < 25_000
