"""Each export, read back by the reader of the trainer that it is for, in that trainer's own environment.

`make consumers` builds the environments and runs this. Without `ANNOTATE_CONSUMERS`, the folder that has them, these
tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from token_tables import EOS, PAD, example, to_table, vocabulary

from annotate.exports.base import Format
from annotate.exports.datatrove import Datatrove
from annotate.exports.huggingface import HuggingFace
from annotate.exports.mds import COLUMNS, Mds
from annotate.exports.megatron import Megatron
from annotate.exports.olmo import Olmo
from annotate.exports.write import write_export
from annotate.storage.store import Directory

ENVIRONMENTS = os.environ.get("ANNOTATE_CONSUMERS")
READERS = Path(__file__).parent / "readers"
ADAPTERS = Path(__file__).parents[2] / "annotate" / "exports" / "adapters"
WIDTH, SIZE = 32, 1000  # OLMo-core packs to powers of 2
pytestmark = [
    pytest.mark.consumers,
    pytest.mark.skipif(not ENVIRONMENTS, reason="ANNOTATE_CONSUMERS does not name the readers' environments"),
]


def read_back(name: str, form: Format, parts: list[pa.Table], folder: Path, adapter: str = "", **options) -> dict:
    """Export, and give what the reader `name` makes of it."""
    write_export(parts, Directory.at(folder / "export"), form, vocabulary(SIZE))
    answer = folder / "answer" / "read.json"
    answer.parent.mkdir()
    options = {"width": WIDTH, "size": SIZE, "eos": EOS, "pad": PAD, "tokenizer": vocabulary().tokenizer, **options}
    ran = subprocess.run(
        [
            str(Path(ENVIRONMENTS) / name / "bin" / "python"),
            str(READERS / f"read_{name}.py"),
            str(folder / "export"),
            str(answer),
            json.dumps(options),
            str(ADAPTERS / adapter),
        ],
        # Its own packages alone, no network, no GPU.
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    read = json.loads(answer.read_text())
    print(f"{name}: version {read['version']}")
    return read


def rows(parts: list[pa.Table]) -> list[dict]:
    return [row for table in parts for row in table.to_pylist()]


@pytest.fixture
def parts() -> list[pa.Table]:
    return [example(windows=9, width=WIDTH, seed=1), example(windows=5, width=WIDTH, seed=2)]


def test_hugging_face(parts, tmp_path):
    read = read_back("huggingface", HuggingFace(row_group=4), parts, tmp_path)
    given = rows(parts)
    assert read["input_ids"] == [row["input_ids"] for row in given]
    assert read["loss_mask"] == [row["loss_mask"] for row in given]
    assert read["position_ids"] == [row["position_ids"] for row in given]
    assert read["seq_lengths"] == [row["segment_lengths"] for row in given]
    assert read["document_rows"] == [row["document_rows"] for row in given]
    assert read["document_pieces"] == [row["document_pieces"] for row in given]
    assert (np.array(read["labels"]) != -100).tolist() == np.array(read["loss_mask"], bool).tolist()
    assert f"length={WIDTH}" in read["features"]["input_ids"]
    assert read["shapes"]["input_ids"] == [WIDTH]


def test_hugging_face_of_windows_of_many_lengths(tmp_path):
    """Documents as rows, unpadded."""
    parts = [documents(3)]
    read = read_back("huggingface", HuggingFace(), parts, tmp_path)
    assert read["input_ids"] == [row["input_ids"] for row in rows(parts)]


def test_megatron(parts, tmp_path):
    given = rows(parts[:1])
    tokens = [row["input_ids"] for row in given]
    mask = [[0, *row["loss_mask"][1:]] for row in given]
    read = read_back("megatron", Megatron(), parts[:1], tmp_path, "megatron_masks.py", tokens=tokens, mask=mask)
    assert read["equal bytes"] == {"": True, "_mask": True}
    assert read["tokens"]["sequences"] == tokens and read["_mask"]["sequences"] == mask
    assert read["tokens"]["dtype"] == "uint16" and read["_mask"]["dtype"] == "uint8"
    assert read["tokens"]["documents"] == list(range(len(given) + 1))
    assert read["_segments"]["sequences"] == [row["segment_lengths"] for row in given]
    assert read["_documents"]["sequences"] == [row["document_rows"] for row in given]
    assert read["_pieces"]["sequences"] == [row["document_pieces"] for row in given]
    by_tokens = {tuple(row["input_ids"]): row for row in given}
    assert len(by_tokens) == len(given)
    plain = read["samples, extra False, masked False"]
    # With one more token as the last label, an epoch has one sample less; ours has all, whatever is configured.
    assert len(read["samples, extra True, masked False"]) == len(given) - 1
    for extra in (True, False):
        masked = read[f"samples, extra {extra}, masked True"]
        assert len(masked) == len(plain) == len(given)
        assert [s["tokens"] for s in masked] == [s["tokens"] for s in plain]
        seen = {tuple(sample["tokens"]) for sample in masked}
        assert seen <= set(by_tokens) and len(seen) == len(masked)  # each sample is one of our windows
        for sample, unmasked in zip(masked, plain, strict=True):
            row = by_tokens[tuple(sample["tokens"])]
            assert sample["labels"][:-1] == row["input_ids"][1:]
            # loss_mask[i] is of labels[i], token i+1; what the last predicts is of another window, or nothing.
            assert sample["loss_mask"] == [*row["loss_mask"][1:], 0]
            assert unmasked["loss_mask"] != sample["loss_mask"]


def test_datatrove(parts, tmp_path):
    pieces = []
    for row in rows(parts[:1]):
        at = 0
        lengths = [*row["segment_lengths"], WIDTH - sum(row["segment_lengths"])]
        for length in filter(None, lengths):
            piece = slice(at, at + length)
            pieces.append([row["input_ids"][piece], row["loss_mask"][piece]])
            at += length
    read = read_back("datatrove", Datatrove(), parts, tmp_path, "datatrove_masks.py", token_size=2, pieces=pieces)
    assert read["equal bytes"] and all(read["equal bytes"].values()), read["equal bytes"]
    given, first = rows(parts), rows(parts[:1])
    for name, expected in {"file": first, "masked file": first, "folder": given, "masked folder": given}.items():
        assert [item["input_ids"] for item in read[name]] == [row["input_ids"] for row in expected]
        assert [item["positions"] for item in read[name]] == [row["position_ids"] for row in expected]
        if name.startswith("masked"):
            assert [item["loss_mask"] for item in read[name]] == [list(map(bool, r["loss_mask"])) for r in expected]
        else:
            assert "loss_mask" not in read[name][0]


def test_mds(parts, tmp_path):
    expected = [[mds_sample(row) for row in table.to_pylist()] for table in parts]
    form = Mds(size_limit=1500, hashes=("sha1",))
    read = read_back(
        "mds",
        form,
        parts,
        tmp_path,
        "mds_collate.py",
        samples={f"{n:05d}": samples for n, samples in enumerate(expected)},
        columns=COLUMNS,
        hashes=list(form.hashes),
        size_limit=form.size_limit,
    )
    assert len(read["equal bytes"]) > 5 and all(read["equal bytes"].values()), read["equal bytes"]
    assert read["local"] == read["streamed"] == expected[0] + expected[1]
    assert read["without collate"] == "an integer is required"  # torch takes no uint64 of NumPy
    batched = [sample for batch in read["batches"] for sample in rows_of_batch(batch)]
    assert batched == [in_batch(row) for row in rows(parts)]
    assert read["kinds"] == {name: encoding.split(":")[-1] for name, encoding in COLUMNS.items()}


def rows_of_batch(batch: dict) -> list[dict]:
    return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]


def in_batch(row: dict) -> dict:
    """What a batch has of a window."""
    sample = mds_sample(row)
    labels = [token if counts else -100 for token, counts in zip(row["input_ids"], row["loss_mask"], strict=True)]
    used = sample["length"]
    positions = row["position_ids"][:used] + [0] * (len(row["position_ids"]) - used)
    of_segments = {name: sample[name] for name in ("indices", "documents", "pieces")}
    return {"input_ids": row["input_ids"], "labels": labels, "position_ids": positions, "length": used, **of_segments}


def mds_sample(row: dict) -> dict:
    ends = np.cumsum(row["segment_lengths"]).tolist()
    return {
        "documents": row["document_rows"],
        "indices": [[end - n, end] for end, n in zip(ends, row["segment_lengths"], strict=True)],
        "input_ids": row["input_ids"],
        "length": ends[-1],
        "mask": row["loss_mask"],
        "pieces": row["document_pieces"],
    }


def test_olmo(parts, tmp_path):
    read = read_back("olmo", Olmo(), parts, tmp_path)
    given = rows(parts)
    assert read["dtype"] == "uint16"
    assert [item["input_ids"] for item in read["windows"]] == [row["input_ids"] for row in given]
    assert [item["label_mask"] for item in read["windows"]] == [list(map(bool, r["loss_mask"])) for r in given]
    assert read["slice"] == given[0]["input_ids"][3:9]
    for item, row in zip(read["windows"], given, strict=True):
        ids, mask = np.array(row["input_ids"]), np.array(row["loss_mask"])
        assert item["labels"] == [*np.where(mask, ids, -100)[1:].tolist(), -100]
        padding = WIDTH - sum(row["segment_lengths"])
        assert item["doc_lens"] == row["segment_lengths"] + ([padding] if padding else [])
    for bounds, table in zip(read["bounds"], parts, strict=True):
        expected = []
        for i, row in enumerate(table.to_pylist()):
            ends = WIDTH * i + np.cumsum(row["segment_lengths"])
            expected += [[int(end - n), int(end)] for end, n in zip(ends, row["segment_lengths"], strict=True)]
        assert bounds == expected


def documents(seed: int) -> pa.Table:
    """Unpadded rows, a document each, each with its end token."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, WIDTH, 12).tolist()
    ids = [[*draw.integers(2, SIZE, n - 1).tolist(), EOS] for n in lengths]
    return to_table(
        [
            {
                "input_ids": row,
                "loss_mask": [int(i % 3 > 0) for i in range(len(row))],
                "position_ids": list(range(len(row))),
                "segment_lengths": [len(row)],
                "document_rows": [n],
                "document_pieces": [0],
            }
            for n, row in enumerate(ids)
        ]
    )


def test_olmo_packs_documents_itself(tmp_path):
    """From unpadded rows: what it packs are our documents, with their masks."""
    table = documents(4)
    read = read_back("olmo", Olmo(), [table], tmp_path)
    found = []
    for item in read["packed"]:
        at = 0
        for length in item["doc_lens"]:
            piece = slice(at, at + length)
            found.append((item["input_ids"][piece], item["label_mask"][piece]))
            at += length
    given = [(row["input_ids"], list(map(bool, row["loss_mask"]))) for row in table.to_pylist()]
    assert sorted(piece for piece in found if EOS in piece[0]) == sorted(given)
