"""Counts of a process: added up by name, from any thread, and taken once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from annotate import tally
from annotate.compiled import compiled
from annotate.tally import count, taken


def test_counts_add_up_from_any_thread_and_are_taken_once():
    taken()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count("retries: 503"), range(1000)))
    count("seconds: read", 0.5)
    count("nothing", 0)
    assert taken() == {"retries: 503": 1000, "seconds: read": 0.5}
    assert taken() == {}


def test_what_numba_compiles_is_a_phase():
    tally.taken()

    @compiled
    def sum_of_squares(values):
        found = 0
        for value in values:
            found += value * value
        return found

    with tally.phase("read"):
        assert sum_of_squares(np.arange(4)) == 14
    found = tally.taken()
    assert found[tally.SECONDS + "compile"] > 0 and tally.SECONDS + "read" in found
    assert sum_of_squares(np.arange(5)) == 30 and tally.SECONDS + "compile" not in tally.taken()
