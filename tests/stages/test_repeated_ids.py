"""Repeated ids: found exactly, with two places of each, as a remark or an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from here import ray_here
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.engine.run import run
from annotate.errors import ConfigError, InputError
from annotate.graph import graph
from annotate.stages import repeated_ids
from annotate.stages.corpus import Corpus
from annotate.stages.repeated_ids import IdPartitions, RepeatedIds
from annotate.storage.manifests import Manifest
from annotate.storage.parts import read_part


def found(folder: Path, shards: dict[str, Any], **options: Any) -> tuple[list[dict[str, Any]], Manifest, list[str]]:
    """Run the stages over shards that are given by their ids."""
    (folder / "corpus").mkdir(exist_ok=True)
    for name, ids in shards.items():
        table = pa.table({"text": ["text"] * len(ids), "id": ids})
        pq.write_table(table, folder / "corpus" / name, row_group_size=3)
    corpus = Corpus(str(folder / "corpus"), unit_bytes=options.pop("unit_bytes", 8 << 20), **options)
    stage = RepeatedIds(corpus)
    with ray_here():
        dataset = run({"ids": stage}, str(folder / "out")).datasets[stage]
    manifest = dataset.manifest
    assert manifest is not None
    (unit,) = dataset.units()
    table = read_part(dataset.directory, unit.entries[0].part, schema="repeated-ids")
    return table.to_pylist(), manifest, stage.remarks(manifest)


def test_repeated_ids_are_given_with_two_places(tmp_path: Path) -> None:
    rows, _, remarks = found(
        tmp_path, {"a.parquet": ["q", "w", "x", "x"], "b.parquet": ["y", "x", "w", None, None], "c.parquet": ["z"]}
    )
    assert rows == [
        {"id": "w", "count": 2, "first": "a.parquet:1", "second": "b.parquet:2"},
        {"id": "x", "count": 3, "first": "a.parquet:2", "second": "a.parquet:3"},
    ]
    assert remarks == [
        "2 ids are repeated, e.g. 'w' at a.parquet:1 and b.parquet:2; 'x' at a.parquet:2 and a.parquet:3"
    ]


def test_one_repeated_id(tmp_path: Path) -> None:
    assert found(tmp_path, {"a.parquet": ["x"], "b.parquet": ["x"]})[2] == [
        "1 id is repeated, e.g. 'x' at a.parquet:0 and b.parquet:0"
    ]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_ids_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["5", "7", "5"] if pa.types.is_dictionary(kind) else [5, 7, 5]
    rows, _, _ = found(tmp_path, {"a.parquet": pa.array(values).cast(kind)})
    assert rows == [{"id": "5", "count": 2, "first": "a.parquet:0", "second": "a.parquet:2"}]


def test_large_unsigned_and_negative_ids_are_told_apart(tmp_path: Path) -> None:
    assert found(tmp_path, {"a.parquet": pa.array([-1, (1 << 63) - 1, -1 << 63])})[0] == []
    rows, _, _ = found(tmp_path, {"a.parquet": pa.array([(1 << 64) - 1] * 2, pa.uint64())})
    assert rows[0]["id"] == str((1 << 64) - 1)


@pytest.mark.parametrize("ids", ["any", "unique"])
def test_unique_ids_are_no_matter(tmp_path: Path, ids: str) -> None:
    rows, manifest, remarks = found(tmp_path, {"a.parquet": ["x", "y"], "b.parquet": ["z", ""]}, ids=ids)
    assert (rows, remarks, manifest.counts) == ([], [], {"repeated_ids": 0})


def test_ids_that_must_be_unique_are_an_error_with_two_examples(tmp_path: Path) -> None:
    places = "'x' at a.parquet:0 and b.parquet:1; 'y' at a.parquet:1 and b.parquet:0"
    with pytest.raises(InputError, match=re.escape(places)):
        found(tmp_path, {"a.parquet": ["x", "y"], "b.parquet": ["y", "x"]}, ids="unique")


def test_whether_ids_must_be_unique_is_in_the_recipe_of_the_check_alone() -> None:
    some, unique = Corpus("a"), Corpus("a", ids="unique")
    assert some.recipe == unique.recipe
    assert IdPartitions(some).recipe == IdPartitions(unique).recipe
    assert RepeatedIds(some).recipe != RepeatedIds(unique).recipe


def test_ids_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_ids, "text_hashes", lambda ids: np.zeros(len(ids), np.uint64))
    rows, manifest, _ = found(tmp_path, {"a.parquet": ["x", "y", "x", "z"]})
    assert [row["id"] for row in rows] == ["x"]
    assert manifest.counts["repeated_ids"] == 1
    rows, manifest, remarks = found(tmp_path, {"a.parquet": ["x", "y", "w", "z"]})
    assert (rows, manifest.counts["repeated_ids"], remarks) == ([], 0, [])


def test_many_repeated_ids_are_counted_but_not_all_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_ids, "LISTED", 10)
    ids = [f"{i:04}" for i in range(500)]
    rows, manifest, remarks = found(tmp_path, {"a.parquet": ids, "b.parquet": ids})
    assert len(rows) == 10
    assert rows == sorted(rows, key=lambda row: row["first"])
    assert manifest.counts["repeated_ids"] == 500
    assert remarks[0].startswith("500 ids are repeated, e.g. ")


def test_a_long_id_is_shortened_in_the_remark(tmp_path: Path) -> None:
    _, _, (remark,) = found(tmp_path, {"a.parquet": ["x" * 10_000] * 2})
    assert len(remark) < 200


def test_a_corpus_without_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match="without an id column"):
        graph([RepeatedIds(Corpus("a", id=None))])


@settings(max_examples=30, deadline=None)
@given(shards=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=12), min_size=1, max_size=4))
def test_what_is_found_is_what_a_loop_finds(shards: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    named = {f"{i}.parquet": pa.array(ids) for i, ids in enumerate(shards)}
    with mock.patch.object(repeated_ids, "ID_BYTES", 1):  # else there are hundreds of partitions for so small units
        rows, manifest, _ = found(tmp_path_factory.mktemp("ids"), named, unit_bytes=1)
    places: dict[int, list[str]] = {}
    for name, ids in named.items():
        for row, value in enumerate(ids.to_pylist()):
            places.setdefault(value, []).append(f"{name}:{row}")
    assert rows == [
        {"id": str(value), "count": len(at), "first": at[0], "second": at[1]}
        for value, at in places.items()
        if len(at) > 1
    ]
    assert manifest.counts["repeated_ids"] == len(rows)
