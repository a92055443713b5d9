"""Counts of a process: added up by name, from any thread, and taken once."""

from concurrent.futures import ThreadPoolExecutor

from annotate.storage.tally import count, taken


def test_counts_add_up_from_any_thread_and_are_taken_once():
    taken()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count("retries: 503"), range(1000)))
    count("seconds: read", 0.5)
    count("nothing", 0)
    assert taken() == {"retries: 503": 1000, "seconds: read": 0.5}
    assert taken() == {}
