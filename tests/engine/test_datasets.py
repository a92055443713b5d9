"""How the units of several datasets are read together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from annotate.engine.datasets import Aligned
from annotate.errors import InputError
from annotate.storage.manifests import Unit


def stream(units: int) -> Any:
    """A dataset of so many units."""
    return SimpleNamespace(stream=lambda: iter([Unit("s", i, i + 1, 0) for i in range(units)]))


def test_ranges_of_a_shorter_corpus_are_an_error_with_a_hint() -> None:
    aligned = Aligned({"spans": stream(17)}, {"counts": stream(1)}, {})
    with pytest.raises(InputError, match="counts and spans are of different corpora: one has ranges for 16 units only"):
        list(aligned.units())
