"""A partition that is made of what some tasks have sent: it gets just their rows, and its slices are read once."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from annotate import tally
from annotate.engine import partition_search
from annotate.engine.parcels import put_sent
from annotate.engine.partition_search import try_receiving
from annotate.engine.worker import Context, made_of
from annotate.graph import Partitions, Shuffle
from annotate.graph.tables import Work
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput, commit_all
from annotate.storage.store import Directory

PARTITIONS, SENT, ROWS = 6, 5, 200


@dataclass(frozen=True)
class Pairs(Shuffle):
    """Pairs of numbers; notes what it receives."""

    got: dict = field(default_factory=dict, compare=False)

    name = "found"
    schema = "pairs"
    sent_schema = "sent-links"

    @property
    def inputs(self):
        return {}

    def settings(self):
        return {}

    def send(self, tables, to):
        yield UnitOutput(tables)

    def receive(self, received):
        self.got[received.partition] = received.size, received.sent, list(received.tables())
        yield UnitOutput(received.sent.drop_columns(["to"]))


def rows(seed):
    numbers = np.random.default_rng(seed).integers(0, 1 << 30, (2, ROWS)).astype(np.uint64)
    to = pa.array(np.sort(numbers[0] % PARTITIONS).astype(np.int32))
    return pa.table([to, *map(pa.array, numbers)], schema=contract(Pairs.sent_schema).schema)


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("width", [1, 2])
def test_it_gets_just_the_rows_of_these_tasks(tmp_path, monkeypatch, width, kept):
    monkeypatch.setattr(partition_search, "KEPT_BYTES", kept)
    context, to = Context(Pairs(), Directory.at(tmp_path), {}), Partitions((PARTITIONS,), 1 << 20, width)
    tables = [rows(seed) for seed in range(SENT)]
    sent = []
    for i, table in enumerate(tables):
        put = put_sent(context, f"{i:024x}", iter([UnitOutput(table)]), to.most, to.width)
        sent.append(made_of(*commit_all(context.directory, f"{i:024x}", put)))
    works = [Work("", "", p, p + 1, 0, ()) for p in range(1, 4)]
    tally.taken()
    try_receiving(context, works, sent, np.array([1, 3]), [], to, (0, 0))
    requests = tally.taken()["requests: get"]
    assert context.stage.got.keys() == {1, 2, 3}
    for partition, (size, whole, streamed) in context.stage.got.items():
        expected = pa.concat_tables([tables[1], tables[3]])
        expected = expected.filter(pa.array(expected["to"].to_numpy() == partition)).combine_chunks()
        assert whole.combine_chunks().equals(expected)
        assert pa.concat_tables(streamed).combine_chunks().equals(expected) and size >= expected.nbytes
    if kept:  # an index and the slices of three partitions in a row, of three parts
        assert requests <= 3 * 2 * width
    context.stage.got.clear()
    try_receiving(context, works, sent, np.array([], np.int64), [], to, (0, 0))
    assert [whole.num_rows for _, whole, _ in context.stage.got.values()] == [0, 0, 0]
