"""Documents that are taken out are looked up by id: what does not concern them is not read."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotate import Corpus, Options
from annotate.engine.run import run
from annotate.graph import RANGE_UNITS
from annotate.stages.excluded import Excluded, ExcludedPlaces
from annotate.stages.shared.listed_ids import ListedIds
from annotate.tally import REQUESTS

UNITS, ROWS = 48, 8


def calls(workdir: Path) -> Counter[tuple[str, str, str]]:
    """Calls and reads of all runs, by stage and step."""
    found: Counter[tuple[str, str, str]] = Counter()
    for path in (workdir / "events").glob("*.jsonl"):
        for event in map(json.loads, path.read_text().splitlines()):
            if event["event"] == "calls":
                at = (event["stage"], event["step"])
                found[*at, "calls"] += event.get("calls", 0)
                found[*at, "reads"] += int(event["counts"].get(f"{REQUESTS}get", 0))
    return found


def test_a_later_takedown_reads_only_the_units_of_the_index_with_its_ids(ray_cluster, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    ids = [f"doc {n}" for n in range(UNITS * ROWS)]
    ids[200] = ids[7]  # an id of two documents
    table = pa.table({"id": ids, "text": ["x" * 50] * len(ids)})
    pq.write_table(table, tmp_path / "corpus" / "a.parquet", row_group_size=ROWS)
    corpus = Corpus(str(tmp_path / "corpus"), unit_bytes=50 * ROWS)

    def taken(*wanted: str) -> tuple[list[int], int, Counter[tuple[str, str, str]], list[str]]:
        """The rows of these documents, of how many units; what the run read; and its remarks."""
        before = calls(tmp_path / "out")
        made = run(
            {"excluded": Excluded(ExcludedPlaces(corpus, ListedIds.of(wanted)))},
            str(tmp_path / "out"),
            Options(workers=2),
        )
        dataset = made.datasets[next(stage for stage in made.datasets if isinstance(stage, Excluded))]
        units = list(dataset.units())
        rows = [row for unit in units for row in dataset.stage.read(dataset.directory, unit)["row"].to_pylist()]
        return rows, len(units), calls(tmp_path / "out") - before, made.remarks

    assert taken("doc 7", "doc 300", "nobody")[0] == [7, 200, 300]
    (index,) = (tmp_path / "out").glob("id-index-*")
    parts = [pl.read_parquet(path) for path in (index / "parts").glob("*.parquet")]
    assert len(parts) > 10 and sum(part.height for part in parts) == UNITS * ROWS
    rows, units, did, remarks = taken("doc 9", "nobody else")
    assert rows == [9] and units > 2 * RANGE_UNITS
    assert did["id-index", "send", "calls"] == 0 < did["excluded-places", "send", "calls"]
    assert did["excluded-places", "send", "reads"] <= 2  # a unit of the index for each id
    assert did["excluded", "make", "reads"] < units // 4  # ranges of places, no ids
    assert any("1 of 2 ids to exclude are those of no document" in remark for remark in remarks)


def test_listed_ids_travel_as_arrays_that_all_calls_of_a_node_share(tmp_path: Path) -> None:
    ids = [f"doc {n}" for n in range(10_000)]
    stage = Excluded(ExcludedPlaces(Corpus(str(tmp_path)), ListedIds.of([*ids, ids[0]])))
    shared: list[pickle.PickleBuffer] = []
    sent = pickle.dumps(stage, protocol=5, buffer_callback=shared.append)
    assert len(sent) < 4000 and sum(len(buffer.raw()) for buffer in shared) > 20 * len(ids)
    again = pickle.loads(sent, buffers=shared)
    assert again == stage and again.recipe == stage.recipe and len(again.places.ids) == len(ids)
    parts = [again.places.ids.of_partition(number, 7) for number in range(7)]
    assert all(map(len, parts)) and sorted(pa.chunked_array(parts).to_pylist()) == sorted(ids)
    assert stage != Excluded(ExcludedPlaces(Corpus(str(tmp_path)), ListedIds.of(ids[1:])))
