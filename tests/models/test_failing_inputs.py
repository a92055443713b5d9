import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import ConfigError
from annotate.models.base import BrokenDevice, Prepared, expand
from annotate.models.batches import Batches
from annotate.models.failing_inputs import REASON_LENGTH, SAMPLE, fill
from annotate.models.run import Room, run_batches

CPU = torch.device("cpu")
ORDER = np.array([3, 0, 4, 1, 2, 5, 7, 6])
LENGTHS = np.array([2, 2, 3, 4, 4, 5, 6, 9], np.int32)
BOUNDS = np.array([0, 3, 7, 8])


def right(start, stop):
    return torch.stack([torch.arange(start, stop) * 1.0, torch.arange(start, stop) * 10.0], dim=1)


def batches():
    arrays = {"order": ORDER, "lengths": LENGTHS, "bounds": BOUNDS}
    nothing = {"inverse": ORDER, "distinct": 8, "tokens": 35, "truncated": np.zeros(8, np.bool_)}
    return Batches(Prepared(arrays=arrays, **nothing), pad_id=0)


def run(step, widths=(1, 1), room=None):
    return run_batches(step, batches(), widths, room or Room(CPU), "the model")


def without_lines(reasons):
    """Reasons without the lines of this file that they name."""
    return {row: re.sub(r" \(test_failing_inputs\.py, line \d+\)$", "", reason) for row, reason in reasons.items()}


def test_scores_come_back_in_the_order_of_the_inputs():
    first, second = run(right)
    assert first.values[ORDER, 0].tolist() == list(range(8))
    assert second.values[ORDER, 0].tolist() == [10.0 * i for i in range(8)]
    assert (first.halved, first.failures) == (0, {})


@settings(deadline=None)
@given(st.sets(st.integers(0, 7), max_size=7))
def test_inputs_that_raise_are_found_and_their_neighbours_keep_their_scores(bad):
    def step(start, stop):
        if bad & set(range(start, stop)):
            raise ValueError(f"a bad\n input {'x' * 1000}")
        return right(start, stop)

    (scores,) = run(step, widths=(2,))
    assert set(scores.failures) == {int(ORDER[i]) for i in bad}
    for i in range(8):
        expected = [np.nan, np.nan] if i in bad else [i, 10 * i]
        np.testing.assert_array_equal(scores.values[ORDER[i]], np.float32(expected))
    assert all(reason.startswith("ValueError: a bad input xxx") for reason in scores.failures.values())
    assert all(len(reason) < REASON_LENGTH + 80 for reason in scores.failures.values())


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("CUDA error: out of memory")]
)
def test_a_batch_out_of_memory_is_halved_and_tried_again(error):
    def step(start, stop):
        if stop - start > 1:
            raise error
        return right(start, stop)

    (scores,) = run(step, widths=(2,))
    np.testing.assert_array_equal(scores.values, run(right, widths=(2,))[0].values)
    assert (scores.halved, scores.too_large) == (2 + 3, 2 + 3)
    assert scores.failures == {}


def test_a_size_that_did_not_fit_is_remembered_and_gives_the_same_scores():
    """A batch that fails for another reason is not remembered; one of more tokens, but shorter inputs, is tried."""
    calls = []

    def step(start, stop):
        calls.append((start, stop))
        if (stop - start) * LENGTHS[stop - 1] > 12 and LENGTHS[stop - 1] > 3:
            raise torch.OutOfMemoryError("no")
        return right(start, stop)

    room = Room(CPU)
    for again in range(2):
        calls.clear()
        (scores,) = run(step, widths=(2,), room=room)
        np.testing.assert_array_equal(scores.values, run(right, widths=(2,))[0].values)
        assert (scores.halved, scores.too_large) == (1, 1)
        assert ((3, 7) in calls) == (not again)
    assert room.failed == [(24, 6)]
    assert not room.fits(4, 6)
    assert not room.fits(3, 8)
    assert room.fits(3, 7)
    assert room.fits(1000, 5)

    def bad(start, stop):
        if start <= 4 < stop:
            raise ValueError("no")
        return right(start, stop)

    room = Room(CPU)
    (scores,) = run(bad, widths=(2,), room=room)
    assert (scores.halved, scores.too_large, room.failed) == (2, 0, [])


def test_one_input_that_never_fits_fails_alone():
    def step(start, stop):
        if start <= 5 < stop:
            raise torch.OutOfMemoryError("no")
        return right(start, stop)

    (scores,) = run(step, widths=(2,))
    assert without_lines(scores.failures) == {5: "OutOfMemoryError: no"}


def test_a_score_that_is_not_finite_fails_its_scorer_alone():
    def step(start, stop):
        scores = right(start, stop)
        scores[:, 1] = torch.where(torch.arange(start, stop) == 4, torch.inf, scores[:, 1])
        return scores

    first, second = run(step)
    assert first.failures == {}
    assert second.failures == {2: "non-finite score"}
    assert np.isnan(second.values[2, 0])


@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (3,)])
def test_another_number_of_scores_stops_the_run(shape):
    with pytest.raises(ConfigError, match="the model was given 3 inputs and returned scores of shape"):
        run(lambda start, stop: torch.zeros(shape), widths=[2])


def test_a_broken_device_is_not_blamed_on_the_inputs():
    def step(start, stop):
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(BrokenDevice, match="device-side"):
        run(step)


def test_the_columns_of_a_scorer_are_nan_one_by_one():
    def step(start, stop):
        scores = right(start, stop)
        scores[:, 1] = torch.where(torch.arange(start, stop) == 4, torch.inf, scores[:, 1])
        return scores

    (scores,) = run(step, widths=(2,))
    np.testing.assert_array_equal(scores.values[2], np.float32([4, np.nan]))
    assert scores.failures == {2: "non-finite score"}


class Anywhere:
    def fits(self, start, stop):
        return True

    def recover(self, error, start, stop):
        return False


@settings(deadline=None)
@given(st.integers(2, 3000), st.integers(1, 2000))
def test_what_fails_on_all_inputs_stops_the_run_after_a_few_of_them(rows, batch):
    calls = []

    def step(start, stop):
        calls.append((start, stop))
        raise NameError("name 'x' is not defined")

    ranges = [(start, min(start + batch, rows)) for start in range(0, rows, batch)]
    tried = min(SAMPLE, rows)
    with pytest.raises(
        ConfigError, match=rf"the model fails on every span .*\({tried} of .*NameError: name 'x' is not"
    ):
        fill(np.zeros((rows, 1)), step, ranges, "the model", Anywhere())
    assert len(calls) == 1 + tried


@pytest.mark.parametrize("rows", [range(1), range(2), range(1000)])
def test_inputs_that_fail_for_different_reasons_are_what_is_wrong(rows):
    def step(start, stop):
        raise (ValueError if start % 2 else KeyError)(start)

    values = np.zeros((len(rows), 1))
    outcome = fill(values, step, [(0, len(rows))], "the model", Anywhere())
    assert without_lines(outcome.reasons) == {i: f"{'ValueError' if i % 2 else 'KeyError'}: {i}" for i in rows}


def test_a_lone_input_that_fails_is_what_is_wrong():
    def step(start, stop):
        raise KeyError("no")

    found = fill(np.zeros((1, 1)), step, [(0, 1)], "the model", Anywhere()).reasons
    assert without_lines(found) == {0: "KeyError: 'no'"} != found


def test_expand_gives_each_span_its_input():
    (scores,) = run(right, widths=(2,))
    prepared = Prepared(arrays={}, inverse=np.array([3, 3, 0]), distinct=8, tokens=0, truncated=np.zeros(3, np.bool_))
    values, failures = expand(prepared, scores)
    assert values[:, 0].tolist() == [0, 0, 1]
    assert failures == {}
