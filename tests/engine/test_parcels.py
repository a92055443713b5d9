"""What one task of a shuffle sends: bounded by bytes, whatever stage the rows are from."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from annotate.engine.datasets import Aligned
from annotate.engine.parcels import parcels
from annotate.engine.shuffle import _Shuffling
from annotate.graph import RANGE_UNITS, Partitions
from annotate.stages.corpus import Corpus
from annotate.stages.repeated_spans import SpanCounts, SpanHashes
from annotate.stages.split import Split
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, Part

STAGE = SpanCounts(SpanHashes(Split(Corpus("corpus")), None, 20))


def unit(number: int, size: int) -> dict[str, Unit]:
    return {"hashes": Unit("s", number, number + 1, 0, (Entry(str(number), Part("p", size // 64, size, "")),))}


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 300), st.integers(1, 4))
def test_parcels_are_as_large_as_they_may_be(sizes: list[int], limit: int, late: int) -> None:
    units = [unit(i, size) for i, size in enumerate(sizes)]
    waiting = [item for i, each in enumerate(units) for item in ([None, each] if i % late == 0 else [each])]
    made = list(parcels(iter(waiting), limit, STAGE))
    assert made.count(None) == waiting.count(None)
    full = [parcel for parcel in made if parcel is not None]
    assert [each for parcel in full for each in parcel] == units
    for i, parcel in enumerate(full):
        size = sum(sizes[u["hashes"].start] for u in parcel)
        assert 1 <= len(parcel) <= RANGE_UNITS
        assert size <= limit or len(parcel) == 1
        if i + 1 < len(full):  # the next one had no room
            assert len(parcel) == RANGE_UNITS or size + sizes[full[i + 1][0]["hashes"].start] > limit


def test_units_of_two_inputs_are_in_no_parcel_together() -> None:
    others = [{"others": each["hashes"]} for each in (unit(2, 1), unit(3, 1))]
    made = parcels(iter([unit(0, 1), unit(1, 1), *others]), 1000, STAGE)
    assert [[list(each) for each in parcel] for parcel in made if parcel] == [[["hashes"]] * 2, [["others"]] * 2]


def test_pieces_of_another_size_do_not_go_on_with_those_that_a_killed_task_left() -> None:
    def key(most: int) -> str:
        """Of what one unit sends, in pieces of this size."""
        nothing: Any = None
        to = Partitions((2,), most)
        shuffling = _Shuffling(nothing, STAGE, nothing, nothing, to, Aligned({}, {}, {}), limit=1000)
        (work,) = (work for work in shuffling._sending(lambda: iter([unit(0, 1)]), "") if work is not None)
        return work.key

    assert key(100) == key(100) != key(200)
