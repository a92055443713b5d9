"""Shuffles of two levels make what those of one level make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import pipeline, shard_bytes, write_corpus

from annotate import Options, Phase, Pipeline, Place, Render
from annotate.engine import shuffle
from annotate.engine.shuffle import receive, regroup
from annotate.engine.worker import Context, made_of
from annotate.graph import Partitions, Shuffle
from annotate.graph.tables import Work
from annotate.pipeline import make
from annotate.storage.contracts import contract
from annotate.storage.manifests import Unit, read_units
from annotate.storage.parts import UnitOutput, create_entry
from annotate.storage.slices import by_partition, put_slices
from annotate.storage.store import Directory


@dataclasses.dataclass(frozen=True)
class Links(Shuffle):
    """Links, as they come to their partition; counts the bytes that they take."""

    name = "links"
    schema = "pairs"
    sent_schema = "sent-links"

    @property
    def inputs(self) -> Mapping[str, Any]:
        return {}

    def settings(self) -> Mapping[str, Any]:
        return {}

    def send(self, tables: Any, partitions: Partitions) -> Iterator[UnitOutput]:
        raise NotImplementedError

    def receive(self, received: Any) -> Iterator[UnitOutput]:
        yield UnitOutput(received.sent.drop_columns(["to"]), counts={"size": received.size})


def links(to: list[int], start: int) -> pa.Table:
    numbers = pa.array(np.arange(start, start + len(to), dtype=np.uint64))
    return pa.table([pa.array(to, pa.int32()), numbers, numbers], schema=contract(Links.sent_schema).schema)


def sent_in(context: Context, pieces: list[list[list[int]]], width: int) -> list[Unit]:
    """A unit for each piece, which has several tables."""
    units = []
    for number, tables in enumerate(pieces):
        made = [by_partition(links(to, 1000 * number + 100 * i)) for i, to in enumerate(tables)]
        key = f"{width}-{number}"
        units.append(
            made_of(
                create_entry(
                    context.directory, put_slices(context.directory, key, made, schema=Links.sent_schema, width=width)
                )
            )
        )
    return units


def received(context: Context, partition: int, parts: list[Unit]) -> tuple[str, Mapping[str, int]]:
    work = Work("", "", partition, partition + 1, 0, ())
    ((entry,),) = [unit.entries for unit in receive(context, [work], parts, [[]], "", (0, 0), partition == 0)]
    return entry.part.checksum, entry.counts


@given(
    st.lists(st.lists(st.lists(st.integers(0, 10), max_size=12), min_size=1, max_size=3), min_size=1, max_size=5),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([1, 200, 1 << 20]),
)
def test_a_partition_gets_the_same_rows_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[list[int]]], width: int, block: int, most: int
) -> None:
    context = Context(Links(), Directory.at(tmp_path_factory.mktemp("levels")), {})
    to = Partitions((11,), most, width)
    one, two = (sent_in(context, pieces, each) for each in (1, width))
    groups: list[list[Unit]] = [[] for _ in range(to.slices)]
    for first in range(0, len(two), block):
        made = regroup(context, range(to.slices), two[first : first + block], to, "")
        for group, unit in zip(groups, made, strict=True):
            group.append(unit)
    for partition in range(to.number):
        assert received(context, partition, groups[partition // width]) == received(context, partition, one)


def everything(folder: Path, corpus: Path, small_reads: int) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Run all kinds of shuffle; returns ledger, counts and shards, and the checksums of all datasets, unit by unit."""
    made = pipeline(corpus, folder / "calls", groups=True, verify="exact", repeated_above=2, unit_bytes=700)
    render = made.outputs["shards"]
    assert isinstance(render, Render) and isinstance(render.placements, Place)
    phases = (Phase(name="a", share=0.3, tag_rate=(0, 1)), Phase(name="b"))
    scheme = dataclasses.replace(render.placements.scheme, phases=phases)
    thresholds = dataclasses.replace(render.placements.thresholds, scheme=scheme)
    made = Pipeline(dataclasses.replace(render, placements=Place(thresholds), part_bytes=2000))
    with mock.patch.object(shuffle, "SMALL_READS", small_reads):
        result = make(made, str(folder / "out"), Options(workers=2))
    checksums = {}
    for stage, dataset in result.datasets.items():
        assert dataset.manifest is not None
        units = read_units(dataset.directory, dataset.manifest)
        checksums[dataset.label] = [entry.part.checksum for unit in units for entry in unit.entries]
        assert not isinstance(stage, Shuffle) or checksums[dataset.label]
    counts = {dataset.label: dataset.manifest.counts for dataset in result.datasets.values() if dataset.manifest}
    bad = [pl.read_parquet(path).to_dicts() for path in sorted((folder / "out" / "quarantine").glob("*.parquet"))]
    shards = list(shard_bytes(folder / "out").values())
    return {"counts": counts, "bad": bad, "shards": shards, "ledgers": result.ledgers}, checksums


@pytest.mark.slow  # two runs of a pipeline with 30 stages
def test_all_datasets_are_those_of_one_level(ray_in_process, tmp_path: Path) -> None:
    """Near-duplicates with split groups, repeated ids and spans, training order; also counts and bad rows."""
    corpus = write_corpus(tmp_path / "corpus", shards=2, documents=24)
    table = pl.read_parquet(corpus / "s1.parquet")
    again = table.with_columns(text=pl.when(pl.int_range(pl.len()) % 5 == 2).then(pl.lit("")).otherwise("text"))
    again.write_parquet(corpus / "s2.parquet")  # ids that are there already; and empty texts, which are bad rows
    (one, checksums), (two, others) = (
        everything(tmp_path / name, corpus, reads) for name, reads in (("one", 10**9), ("two", 0))
    )
    assert others == checksums
    assert two == one and one["bad"]
    middle = list((tmp_path / "two" / "out").rglob("*.slices"))
    assert len(middle) > 1.5 * len(list((tmp_path / "one" / "out").rglob("*.slices")))
