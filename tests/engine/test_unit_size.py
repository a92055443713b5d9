"""The size of work units: chosen once, by the size of the corpus, and kept in the work directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import write_corpus

from annotate import Corpus, NearDuplicates, Options, Pipeline, Split, StorageError
from annotate.engine import source
from annotate.engine.source import LEAST_UNIT_BYTES, MOST_UNIT_BYTES, UNITS, kept_unit_size, unit_size
from annotate.graph import every
from annotate.pipeline import make
from annotate.storage.store import Directory


@given(st.integers(0, 1 << 50))
def test_there_are_about_as_many_units_as_wanted(size: int) -> None:
    chosen = unit_size(size)
    assert chosen.bit_count() == 1 and LEAST_UNIT_BYTES <= chosen <= MOST_UNIT_BYTES
    assert unit_size(size + 1) >= chosen
    if LEAST_UNIT_BYTES < chosen < MOST_UNIT_BYTES:
        assert UNITS / 2 < size / chosen <= UNITS


def test_the_first_run_chooses(tmp_path: Path) -> None:
    folder = Directory.at(tmp_path)
    assert kept_unit_size(folder, 1, keep=False) == 1
    assert not list(tmp_path.iterdir())
    assert [kept_unit_size(folder, size, keep=True) for size in (4, 8, 2)] == [4, 4, 4]
    assert kept_unit_size(folder, 9, keep=False) == 4
    for damage in ("", "{}", "[]", '{"unit_bytes": "4"}', '{"unit_bytes": 0}'):
        (tmp_path / "unit-size.json").write_text(damage)
        with pytest.raises(StorageError, match=r"unit-size\.json is damaged"):
            kept_unit_size(folder, 4, keep=True)


def made(corpus: Path, out: Path, **settings: Any) -> Any:
    with mock.patch.multiple(source, LEAST_UNIT_BYTES=512, UNITS=4):
        return make(Pipeline(Split(Corpus(str(corpus), **settings))), str(out), Options(workers=2))


def units_of(result: Any) -> dict[str, list[tuple[str, int, int, str]]]:
    return {
        dataset.label: [
            (u.shard, u.start, u.stop, u.entries[0].part.path if u.entries else "") for u in dataset.units()
        ]
        for dataset in result.datasets.values()
        if dataset.label in ("corpus", "spans")
    }


def test_a_corpus_that_grows_or_moves_keeps_its_units(ray_in_process, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", shards=1, documents=30)
    before = units_of(made(tmp_path / "corpus", tmp_path / "out"))
    (kept,) = (tmp_path / "out").glob("corpus-*/unit-size.json")
    size = json.loads(kept.read_text())["unit_bytes"]
    assert len(before["corpus"]) > 2
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    write_corpus(tmp_path / "moved", shards=6, documents=60, start=1)
    after = units_of(made(tmp_path / "moved", tmp_path / "out"))
    for label, units in before.items():
        assert after[label][: len(units)] == units and len(after[label]) > 6 * len(units)
    assert json.loads(kept.read_text())["unit_bytes"] == size
    anew = units_of(made(tmp_path / "moved", tmp_path / "anew"))
    (other,) = (tmp_path / "anew").glob("corpus-*/unit-size.json")
    assert json.loads(other.read_text())["unit_bytes"] > size and len(anew["corpus"]) < len(after["corpus"])
    set_ = units_of(made(tmp_path / "moved", tmp_path / "out", unit_bytes=10_000))  # it wins
    assert set_["corpus"] != after["corpus"] and len(set_["corpus"]) < len(after["corpus"])


def test_equal_corpora_of_one_pipeline_have_one_size_wherever_they_stand(tmp_path: Path) -> None:
    """Also where the same corpus was written out twice: each object goes to workers by itself."""
    first, second = (Corpus(str(write_corpus(tmp_path / "corpus", shards=1))) for _ in range(2))
    older = Corpus(str(write_corpus(tmp_path / "older", shards=4)))
    verdicts = NearDuplicates(first, against=older)
    stages: list[Any] = [verdicts, Split(second)]
    found = {corpus: corpus.imported(Directory.at(tmp_path)) for corpus in (first, older)}
    with mock.patch.multiple(source, LEAST_UNIT_BYTES=1):
        source.choose_unit_sizes([first, older], stages, Directory.at(tmp_path / "out"), found, keep=True)
    total = sum(path.stat().st_size for path in tmp_path.glob("o*/*.parquet")) + sum(
        path.stat().st_size for path in tmp_path.glob("corpus/*.parquet")
    )
    with mock.patch.multiple(source, LEAST_UNIT_BYTES=1):
        size = unit_size(total)
    assert {corpus.unit_size for corpus in every(stages) if isinstance(corpus, Corpus)} == {size}
    assert first.recipe == older.recipe, "so they share a dataset"
