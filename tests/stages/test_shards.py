"""The settings of shards and placements: all that decides where a part is cut, and which documents lose their tags."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from annotate import (
    Corpus,
    NearDuplicates,
    Nest,
    Phase,
    Place,
    PythonScorer,
    Render,
    Split,
    Subsets,
    Tag,
    TagScheme,
    Thresholds,
    score,
)


def length(table: pa.Table) -> None:
    """Never called here."""
    raise AssertionError


def thresholds(corpus: Corpus, name: str = "long", **options: Any) -> Thresholds:
    """Of a scheme without quantiles, whose thresholds are the same for all documents."""
    skip = options.pop("skip", None)
    scores = score(Split(corpus), [PythonScorer(function=length, axes=("length",), version=1)], skip=skip)
    return Thresholds(scores, TagScheme(tags=(Tag(name=name, rule="length > 3"),), **options))


def shards(unit_bytes: int) -> Render:
    """Text shards of a corpus that is cut in units of so many bytes."""
    return Render(Place(thresholds(Corpus("corpus", unit_bytes=unit_bytes))))


def test_shards_of_other_slices_of_travelling_columns_do_not_go_on_with_parts_that_a_killed_task_left() -> None:
    assert shards(1 << 20).recipe == shards(1 << 20).recipe != shards(1 << 21).recipe


def test_placements_of_phases_are_others_where_other_documents_are_trained_on() -> None:
    phases = (Phase(name="plain", share=0.5, tag_rate=0), Phase(name="tagged"))

    def placed(seed: int) -> tuple[str, str]:
        corpus = Corpus("corpus")
        skip = NearDuplicates(corpus, subsets=Subsets(train=0.5, calibration=0.25, evaluation=0.25, seed=seed))
        inner = thresholds(corpus, skip=skip, phases=phases)
        return Place(inner).recipe, Nest([thresholds(corpus, "longer", skip=skip), inner]).recipe

    assert placed(1) == placed(1)
    assert all(a != b for a, b in zip(placed(1), placed(2), strict=True))
