"""What one task of an exchange sends: bounded by bytes, whatever stage the rows are from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annotate.engine.run import _parcels, _sent_bytes
from annotate.graph import RANGE_UNITS
from annotate.stages.corpus import Corpus
from annotate.storage.manifests import Unit
from annotate.storage.parts import Entry, Part

STAGE = Corpus("corpus")


def unit(number: int, size: int) -> Unit:
    return Unit("s", number, number + 1, 0, (Entry(str(number), Part("p", size // 64, size, "")),))


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 300))
def test_parcels_are_as_large_as_they_may_be(sizes: list[int], limit: int) -> None:
    units = [(STAGE, unit(i, size)) for i, size in enumerate(sizes)]
    parcels = list(_parcels(iter(units), limit, lambda item: _sent_bytes(item[1])))
    assert [each for parcel in parcels for each in parcel] == units
    for i, parcel in enumerate(parcels):
        size = sum(sizes[u.start] for _, u in parcel)
        assert 1 <= len(parcel) <= RANGE_UNITS
        assert size <= limit or len(parcel) == 1
        if i + 1 < len(parcels):  # the next one had no room
            assert len(parcel) == RANGE_UNITS or size + sizes[parcels[i + 1][0][1].start] > limit
