import numpy as np
import pytest

from annotate.text.lengths import cut_long, merged


def kept(lengths, blocks=(), documents=(0,), min_chars=10):
    first = np.isin(np.arange(len(lengths)), documents)
    block = np.isin(np.arange(len(lengths)), blocks)
    return np.flatnonzero(merged(np.array(lengths), first, block, min_chars)).tolist()


@pytest.mark.parametrize(
    ("lengths", "options", "expected"),
    [
        ([20, 20, 20], {}, [0, 1, 2]),
        ([3, 20, 20], {}, [0, 2]),
        ([20, 20, 3], {}, [0, 1]),
        ([20, 3, 20], {}, [0, 1]),
        ([20, 3, 20], {"blocks": [2]}, [0, 2]),  # the last of its block joins back
        ([20, 3, 20], {"blocks": [1, 2]}, [0, 1]),  # a heading joins what follows
        ([5, 5, 5, 5], {}, [0, 2]),
        ([5, 5, 5], {}, [0]),
        ([3], {}, [0]),
        ([3, 3], {}, [0]),
        ([3, 3, 20], {"documents": [0, 1]}, [0, 1]),  # documents do not mix
        ([3] * 16, {}, [0, 4, 8, 12]),
    ],
)
def test_short_fragments_join_a_neighbour(lengths, options, expected):
    assert kept(lengths, **options) == expected


@pytest.mark.parametrize(("size", "longest"), [(100, 16), (17, 16), (16, 16), (1001, 1000), (99_999, 1000)])
def test_parts_are_near_equal(size, longest):
    buffer = np.full(size, ord("x"), np.uint8)
    cuts = cut_long(buffer, np.array([0]), np.array([size]), np.zeros(0, np.int64), longest)
    parts = np.diff(np.concatenate([[0], cuts, [size]]))
    assert parts.max() <= longest
    assert parts.max() - parts.min() <= 1


def test_a_near_blank_is_taken():
    buffer = np.frombuffer(b"x" * 60, np.uint8)
    assert cut_long(buffer, np.array([0]), np.array([60]), np.array([5, 26, 31]), 40).tolist() == [26]


def test_marks_all_the_way_back_do_not_stop_a_cut():
    buffer = np.frombuffer(("a" + "\u0301" * 99).encode(), np.uint8)
    cuts = cut_long(buffer, np.array([0]), np.array([len(buffer)]), np.zeros(0, np.int64), 40)
    assert len(cuts) == 3
    assert all(buffer[cuts] == 0xCC)
