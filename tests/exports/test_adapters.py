"""What trainers get by the adapters that need no trainer to be tested; the others are in `tests/consumers`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from test_formats import files, read_shard
from token_tables import example, token_tables
from torch.utils.data import DataLoader

from annotate.exports.adapters.mds_collate import collate
from annotate.exports.mds import COLUMNS, Mds


def samples(table):
    """What a reader of MDS gives of a table, by the layout alone."""
    found = files(Mds(), table)
    rows = [row for name in sorted(found) if name.endswith(".mds") for row in read_shard(found[name])[0]]
    kinds = {name: encoding.split(":")[-1] for name, encoding in COLUMNS.items()}
    return [{name: np.array(value, kinds[name]) for name, value in row.items()} for row in rows]


@given(token_tables())
def test_a_batch_of_mds_samples_is_what_a_model_takes(table):
    read = samples(table)
    batch = collate(read)
    width = max(len(sample["input_ids"]) for sample in read)
    for i, row in enumerate(table.to_pylist()):
        n, used = len(row["input_ids"]), sum(row["segment_lengths"])
        labels = [token if counts else -100 for token, counts in zip(row["input_ids"], row["loss_mask"], strict=True)]
        assert batch["input_ids"][i].tolist() == row["input_ids"] + [0] * (width - n)
        assert batch["labels"][i].tolist() == labels + [-100] * (width - n)
        assert batch["position_ids"][i].tolist() == row["position_ids"][:used] + [0] * (width - used)
        assert batch["length"][i] == used
        assert batch["documents"][i].tolist() == row["document_rows"]
        assert batch["pieces"][i].tolist() == row["document_pieces"]
        assert (batch["indices"][i][:, 1] - batch["indices"][i][:, 0]).tolist() == row["segment_lengths"]
    assert {batch[name].dtype for name in ("input_ids", "labels", "position_ids", "length")} == {torch.int64}


def test_a_data_loader_batches_mds_samples_with_it_alone():
    table = example(windows=7)
    rows = table.to_pylist()
    rows[1].update(
        segment_lengths=[sum(rows[1]["segment_lengths"])],
        document_rows=rows[1]["document_rows"][:1],
        document_pieces=[0],
    )
    read = samples(type(table).from_pylist(rows, schema=table.schema))
    with pytest.raises(RuntimeError, match="equal size"):
        list(DataLoader(read, batch_size=3))
    batches = list(DataLoader(read, batch_size=3, collate_fn=collate))
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(3, 16), (3, 16), (1, 16)]
    assert [len(segments) for batch in batches for segments in batch["documents"]] == [3, 1, 3, 3, 3, 3, 3]
