"""The search for the inputs of a unit that end their worker: it finds exactly these, whatever else kills workers."""

from hypothesis import given
from hypothesis import strategies as st

from annotate.engine.search import PROOFS, Search


def run(search, kills, disturbed=lambda attempt: False):
    """Search to the end; returns the number of attempts. What is left gets less, down to nothing."""
    attempts = 0
    left = search.left
    assert left == search.inputs - len(search.found)
    while (part := search.part()) is not None:
        attempts += 1
        assert len(part) <= search.left <= left
        left = search.left
        if kills & (set(part) - search.found.keys()) or disturbed(attempts):
            search.ended()
        else:
            search.passed()
    assert search.left == 0
    return attempts


@given(st.integers(0, 300), st.data())
def test_exactly_the_inputs_that_end_their_worker_are_found(inputs, data):
    kills = data.draw(st.sets(st.integers(0, max(0, inputs - 1)), max_size=4)) if inputs else set()
    search = Search.among(inputs)
    attempts = run(search, kills)
    assert search.found.keys() == kills
    assert attempts <= 3 + len(kills) * (2 * max(1, inputs).bit_length() + PROOFS)


@given(st.integers(2, 100), st.sets(st.integers(1, 200), max_size=3), st.data())
def test_a_worker_that_something_else_kills_blames_nobody(inputs, disturbed, data):
    killer = data.draw(st.integers(0, inputs - 1))
    disturbed = {2 * at for at in disturbed}  # no input is disturbed in two attempts of its own
    search = Search.among(inputs)
    run(search, {killer}, lambda attempt: attempt in disturbed)
    assert killer in search.found and search.found.keys() == {killer}


def test_a_second_search_knows_what_the_first_has_found():
    search = Search.among(8, left_out={3: "time"})
    run(search, {3, 6})
    assert search.found == {3: "time", 6: "worker"}


def test_one_input_alone_has_to_end_its_worker_twice():
    search = Search.among(1)
    search.passed()
    search.ended("time")
    assert search.found == {} and search.part() == range(1)
    search.ended("time")
    assert search.found == {0: "time"} and search.part() is None and search.attempts == 3


def test_if_no_input_at_all_ends_the_worker_no_input_is_to_blame():
    search = Search.among(100)
    search.ended()
    assert search.part() == range(0)
    search.ended()
    assert search.part() is None and search.found == {}
