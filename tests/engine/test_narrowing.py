"""Units of work that are narrowed to some documents; and what a search does if it finds too many, or can't count."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.engine.calls import Calls, Job, Narrowing
from annotate.engine.documents import Documents, narrowed
from annotate.engine.going import Call, Going, Item
from annotate.engine.losses import Loss
from annotate.engine.recovery import ATTEMPTS, SEARCH_SECONDS, SUSPECT, TELL_SECONDS, Recovery
from annotate.engine.search import Search
from annotate.errors import WorkError
from annotate.graph.tables import Work
from annotate.storage.manifests import Unit


def rows_of(unit):
    return range(unit.start, unit.stop)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_work_has_just_the_documents_of_a_part(sizes, data):
    works, at, all_rows = [], 0, []
    for number, work in enumerate(sizes):
        units = []
        for size in work:
            unit = Unit("a", at, at + size, 0)
            ranges = Unit("", 0, 0, 0)  # an input that is cut into ranges stays as it is
            units.append({"corpus": unit, "spans": unit, "found": ranges})
            all_rows += range(at, at + size)
            at += size + 1
        works.append(Work("k", "a", 0, 0, 0, tuple(units), 10 * number))
    start = data.draw(st.integers(0, len(all_rows)))
    stop = data.draw(st.integers(start, len(all_rows)))
    some = narrowed(works, range(start, stop))
    read = [units for work in some for units in work.units]
    assert [row for units in read for row in rows_of(units["corpus"])] == all_rows[start:stop]
    assert all(units["spans"] == units["corpus"] and units["corpus"].narrowed for units in read)
    assert all(units["found"] == Unit("", 0, 0, 0) for units in read)
    documents = Documents(lambda: works)
    assert documents.number == len(all_rows)
    # Work that is read as it is, and work that is cut down, are together what the part has.
    parts = [works[number] for number in documents.whole(range(start, stop))] + documents.cut(range(start, stop))
    read = sorted(row for work in parts for units in work.units for row in rows_of(units["corpus"]))
    assert read == all_rows[start:stop]
    assert len(documents.cut(range(start, stop))) <= 2
    for number in range(start, stop):
        name, unit = documents.at(number)
        assert (name, unit.start, unit.stop) == ("corpus", all_rows[number], all_rows[number] + 1)
    for work in some:  # the number of the first unit, by which inputs in ranges name it
        whole = works[work.number // 10]
        first = whole.units[work.number % 10]["corpus"]
        assert first.start <= work.units[0]["corpus"].start < first.stop


@pytest.mark.parametrize("bad", [{0}, {4_711}, {11_999}, {17, 5_000, 9_000}])
def test_a_search_in_much_work_streams_it_a_few_times(bad):
    works = [Work("k", "a", 0, 0, 0, ({"corpus": Unit("a", i, i + 3, 0)},), i // 3) for i in range(0, 12_000, 3)]
    streams = mock.Mock(side_effect=lambda: iter(works))
    documents = Documents(streams)
    search = Search.among(documents.number)
    while (part := search.part()) is not None:
        read = [works[number] for number in documents.whole(part)] + documents.cut(part)
        rows = [row for work in read for units in work.units for row in rows_of(units["corpus"])]
        assert sorted(rows) == list(part)
        search.ended() if bad & set(part) - search.found.keys() else search.passed()
    assert search.found.keys() == bad
    assert [documents.at(number)[1].start for number in search.found] == list(search.found)
    assert streams.call_count <= 1 + 4 * len(bad) < search.attempts


def going(narrowing):
    """A job with one item, which has lost its worker twice."""
    calls = Calls(items=iter(()), submit=mock.Mock(), name=str, take=mock.Mock(), narrowing=narrowing)
    made = Going(Job("stage", lambda: True, iter(())), 1, calls)
    item = made.open[0] = Item(0, "unit", narrowing, lost=SUSPECT)
    return made, item


def lose(recovery, made, item, does):
    call = Call(made, [item], 1.0, 0.0, does=does, loss=Loss("worker", "gone"))
    recovery.lost(made, call, guilty=True)


@pytest.mark.parametrize(
    ("inputs", "most", "message", "found"),
    [(100, 3, "more than 3 of its documents", 4), (5, 64, "all 5 of its documents", 5)],
)
def test_if_most_or_all_documents_end_the_worker_it_is_not_the_documents(inputs, most, message, found):
    without = mock.Mock()
    made, item = going(Narrowing(mock.Mock(), mock.Mock(), without, inputs="documents", most=most))
    recovery = Recovery(lambda message: None)
    recovery.search(made, item, inputs)
    recovery.searched(made, item)  # without any document
    with pytest.raises(WorkError, match=message):
        for _ in range(100):
            lose(recovery, made, item, "tries")
    assert len(item.search.found) == found
    without.assert_not_called()


def test_if_inputs_cannot_be_counted_others_are_searched():
    instead = Narrowing(mock.Mock(), mock.Mock(), lambda item, found: None, inputs="documents")
    made, item = going(Narrowing(mock.Mock(), mock.Mock(), mock.Mock(), instead=instead))
    said = []
    recovery = Recovery(said.append)
    for _ in range(ATTEMPTS - SUSPECT):
        assert item.narrowing is not instead
        lose(recovery, made, item, "counts")
    assert item.narrowing is instead and item.lost == SUSPECT and list(made.again) == [item]
    recovery.search(made, item, 1)
    recovery.searched(made, item)
    lose(recovery, made, item, "tries")
    made.again.clear()
    lose(recovery, made, item, "tries")
    assert made.anew and not made.again and made.open == {0: item}  # the step can't end without it
    assert said[-1].endswith("1 of its 1 documents ends its worker; found in 3 attempts")


def test_how_far_a_search_is_is_told_now_and_then_and_that_it_is_over(monkeypatch):
    made, item = going(Narrowing(mock.Mock(), mock.Mock(), lambda item, found: item, inputs="documents"))
    now, told = [0.0], []
    monkeypatch.setattr("annotate.engine.recovery.time.monotonic", lambda: now[0])
    recovery = Recovery(lambda message: None, lambda *what: told.append(what))
    recovery.search(made, item, 1_600)
    for _ in range(5):  # without any; then one half after the other is innocent
        now[0] += SEARCH_SECONDS / 2
        recovery.searched(made, item)
        lose(recovery, made, item, "tries")
    assert told == [
        ("stage", "unit", "1,200 of its 1,600 documents left to search, 0 found, 3 attempts"),
        ("stage", "unit", "900 of its 1,600 documents left to search, 0 found, 7 attempts"),
    ]
    while item.search is not None:
        recovery.searched(made, item)
    assert told[2:] == [("stage", "unit", "")]


def test_an_item_without_inputs_is_not_searched():
    made, item = going(Narrowing(mock.Mock(), mock.Mock(), mock.Mock()))
    Recovery(pytest.fail).search(made, item, 0)
    assert item.vain and item.search is None and item.lost == SUSPECT and list(made.again) == [item]


def test_losses_are_told_once_then_counted_and_those_of_a_search_not_at_all(monkeypatch):
    made, item = going(Narrowing(mock.Mock(), mock.Mock(), mock.Mock()))
    item.lost, said, now = -100, [], [0.0]
    recovery = Recovery(said.append)
    monkeypatch.setattr("annotate.engine.recovery.time.monotonic", lambda: now[0])
    for number in range(15):
        lose(recovery, made, item, "makes")
        recovery.tell(made)
        now[0] += 1
        if number == 0:
            assert said == ["stage: unit: the process of its worker ended while it worked on this. Tried again"]
    assert len(said) == 1
    now[0] += TELL_SECONDS
    lose(recovery, made, item, "makes")
    recovery.tell(made)
    assert said[1].startswith("stage: 15 more calls, the last unit: the process of its worker ended")
    lose(recovery, made, item, "makes")
    recovery.tell(made)
    recovery.tell(made, ends=True)
    assert len(said) == 3 and said[2] == said[0]
    lose(recovery, made, item, "makes")
    recovery.search(made, item, 9)
    assert "lost its worker" in said.pop()
    lose(recovery, made, item, "tries")
    recovery.tell(made, ends=True)
    assert len(said) == 3
